//! The front end as a user meets it: one process a test, nothing heavy built.

mod process;

use std::process::{Command, Output};

fn xtask(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    process::output(command.args(args))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_names_every_command() {
    let output = xtask(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    for command in [
        "train",
        "evaluate",
        "infer",
        "inpaint",
        "advise",
        "plan",
        "monitor",
        "bench",
        "test",
        "golden",
        "check",
        "downstream",
        "tidy",
    ] {
        assert!(
            help.contains(&format!("\n  {command} ")),
            "{command} is missing in {help}"
        );
    }
}

#[test]
fn help_of_train_gives_units_and_defaults() {
    let output = xtask(&["train", "--help"]);
    assert_eq!(output.status.code(), Some(0));
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        help.contains("--grad-checkpoint") && help.contains("The default is"),
        "{help}"
    );
}

#[test]
fn advise_needs_data_and_says_what_it_may_be() {
    let output = xtask(&["advise"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--data"), "{}", stderr(&output));
    let help = xtask(&["advise", "--help"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for word in ["TIFF", "PNG", "video", "JSON Lines", "The default is"] {
        assert!(help.contains(word), "{word} is missing in {help}");
    }
    let output = xtask(&["advise", "--data", "x", "--memory", "much"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("6GiB"), "{}", stderr(&output));
}

#[test]
fn inpaint_needs_a_video_masks_and_weights_and_says_when_flags_contradict() {
    let refused = |flags: &str, word: &str| {
        let flags = format!("inpaint --output out.mp4 {flags}");
        let output = xtask(&flags.split_whitespace().collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(2), "{flags}");
        assert!(stderr(&output).contains(word), "{}", stderr(&output));
    };
    refused("--mask m --weights w", "--video");
    refused("--video v --mask m", "--weights");
    refused("--video v --weights w", "--mask");
    refused(
        "--video v --mask m --weights w --mode outpaint",
        "--mode outpaint",
    );
    refused(
        "--video v --mask m --weights w --scale-w 1.2",
        "--mode outpaint",
    );
    refused("--video v --mask m --weights w --height 240", "--width");
    refused(
        "--video v --mask m --weights w --neighbor-length 1",
        "--neighbor-length",
    );
    refused("--video v --mask m --weights w --preset 5g", "4g");
}

#[test]
fn an_interval_of_monitor_needs_watching_and_must_pass() {
    for (args, word) in [
        (&["--interval", "2"][..], "--watch"),
        (&["--watch", "--interval", "0"], "above 0"),
        (&["--watch", "--interval", "1e300"], "at most"),
        (&["--pid", "me"], "--pid"),
    ] {
        let output = xtask(&[&["monitor"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(word), "{}", stderr(&output));
    }
}

#[test]
fn plan_needs_a_budget_a_size_and_a_batch_and_says_how_they_are_written() {
    let refused = |args: &[&str], word: &str| {
        let output = xtask(&[&["plan"], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let said = stderr(&output);
        assert!(said.contains(word), "{word} is missing in {said}");
    };
    refused(&[], "watermark");
    refused(&["propainter"], "propainter");
    refused(&["unet"], "--budget");
    let with = |budget, size, batch| ["unet", "--budget", budget, "--size", size, "--batch", batch];
    refused(&with("much", "8x8", "1"), "6GiB");
    refused(&with("1GiB", "8", "1"), "256x256");
    refused(&with("1GiB", "8x0", "1"), "256x256");
    refused(&with("1GiB", "8x8", "0"), "at least 1");
}

#[test]
fn infer_needs_its_files_and_wrong_values_are_answered_at_once() {
    let files = ["--model", "a", "--input", "b", "--output", "c"];
    let cases: [(&[&str], &str); 5] = [
        (&[], "--model"),
        (&["--chunk-size", "few"], "auto or a whole number"),
        (&["--exact", "--overlap", "0.5"], "--exact"),
        (&["--memory-threshold", "1.5"], "at most 1"),
        (&["--budget", "all"], "6GiB"),
    ];
    for (args, word) in cases {
        let files = if args.is_empty() { &[] } else { &files[..] };
        let output = xtask(&[&["infer", "unet"], files, args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(stderr(&output).contains(word), "{}", stderr(&output));
    }
    let help = xtask(&["infer", "unet", "--help"]);
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    for word in ["TIFF", "PNG", "65535", "The default is auto", "goes on"] {
        assert!(help.contains(word), "{word} is missing in {help}");
    }
}

#[test]
fn an_unknown_flag_is_a_usage_error_that_names_it() {
    let output = xtask(&["train", "unet", "--batchsize", "2"]);
    assert_eq!(output.status.code(), Some(2));
    let message = stderr(&output);
    assert!(
        message.contains("--batchsize") && message.contains("--batch-size"),
        "{message}"
    );
}

#[test]
fn zero_steps_are_a_usage_error_that_names_the_flag() {
    let output = xtask(&["train", "--steps", "0"]);
    assert_eq!(output.status.code(), Some(2));
    let message = stderr(&output);
    assert!(
        message.contains("--steps") && message.contains("at least 1"),
        "{message}"
    );
}

#[test]
fn a_wrong_device_is_answered_before_anything_is_built() {
    let output = xtask(&["train", "--device", "gpu"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("cuda:N"), "{}", stderr(&output));
}

#[test]
fn no_command_is_a_usage_error() {
    assert_eq!(xtask(&[]).status.code(), Some(2));
}

/// What the front end hands over, seen by a program that stands in for cargo.
#[cfg(unix)]
mod handing_over {
    use std::fs;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::process;

    /// The front end with `script` in place of cargo.
    fn xtask_with_cargo(script: &str, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command
            .args(args)
            .env(
                "CARGO",
                concat!(env!("CARGO_MANIFEST_DIR"), "/tests/front/cargo.sh"),
            )
            .env("STAND_IN", script)
            .env_remove("BURN_MEMOPT_DEVICE");
        command
    }

    #[test]
    fn the_arguments_the_backend_and_the_exit_code_pass_through() {
        let args = [
            "train",
            "unet",
            "--steps",
            "3",
            "--device",
            "cuda:1",
            "--features",
            "autotune",
        ];
        let mut command = xtask_with_cargo("echo \"$@\"; exit 7", &args);
        let output = process::output(&mut command);
        assert_eq!(output.status.code(), Some(7));
        let line = "run --release -p burn-memopt-cli --no-default-features --features cuda,autotune -- \
                    train unet --steps 3 --device cuda:1 --features autotune";
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), line);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!("cargo {line}")), "{said}");
    }

    #[test]
    fn the_first_compilation_is_announced_and_the_program_learns_what_it_is_called() {
        let target = tempfile::tempdir().expect("a folder for the program");
        let mut command = xtask_with_cargo("echo \"$BURN_MEMOPT_PROGRAM\"", &["train"]);
        command.env("CARGO_TARGET_DIR", target.path());
        let first = process::output(&mut command);
        assert_eq!(String::from_utf8_lossy(&first.stdout), "cargo xtask\n");
        let says_so =
            |stderr: &[u8]| String::from_utf8_lossy(stderr).contains("compiled for the first time");
        assert!(says_so(&first.stderr));
        fs::create_dir(target.path().join("release")).expect("a folder");
        let program = format!("release/burn-memopt{}", std::env::consts::EXE_SUFFIX);
        fs::write(target.path().join(program), "").expect("a program");
        assert!(!says_so(&process::output(&mut command).stderr));
    }

    #[test]
    fn the_device_of_a_settings_file_decides_what_is_compiled() {
        let dir = tempfile::tempdir().expect("a folder for the settings");
        let file = dir.path().join("run.yaml");
        fs::write(&file, "device: vulkan\n").expect("the settings are written");
        let file = file.to_str().expect("a plain path");
        let mut command = xtask_with_cargo("echo \"$7\"", &["train", "--config", file]);
        let output = process::output(&mut command);
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "vulkan");
    }

    #[test]
    fn a_downstream_crate_is_resolved_run_and_checked_with_burn_train() {
        let script = "echo \"$1\" | tee /dev/stderr; case \"$*\" in *train*) exit 3;; esac";
        let mut command = xtask_with_cargo(script, &["downstream"]);
        let output = process::output(&mut command);
        assert_eq!(output.status.code(), Some(1), "the last step failed");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "run\ncheck\n");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            said.contains("1 crates, resolved without a lock file"),
            "{said}"
        );
    }

    #[test]
    fn an_interruption_is_answered_by_the_runner() {
        let script = "trap 'exit 5' INT; echo ready; while :; do sleep 0.05; done";
        let mut command = xtask_with_cargo(script, &["train"]);
        let (mut child, _watchdog) = process::spawn(command.stdout(Stdio::piped()));
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("the script speaks");
        assert_eq!(line, "ready\n");
        let id = child.id().to_string();
        Command::new("kill")
            .args(["-INT", &id])
            .status()
            .expect("the signal is sent");
        assert_eq!(child.wait().expect("the script ends").code(), Some(5));
    }

    #[test]
    fn tests_are_filtered_and_built_with_the_shared_features() {
        let mut command = xtask_with_cargo("echo \"$@\"", &["golden", "--no-gpu"]);
        let output = process::output(&mut command);
        let line =
            "test --workspace --no-fail-fast --features burn-memopt-datasets/tokenizers golden";
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), line);
    }
}
