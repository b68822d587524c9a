//! `plan` as a user meets it: the real runner, one process a test.

#[path = "../../tests/process/mod.rs"]
mod process;

use std::process::{Command, Output};

use serde_json::Value;

/// A network so small that a step takes milliseconds.
const TINY: [&str; 4] = ["--base-channels", "8", "--depth", "1"];

fn runner(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_burn-memopt"));
    command
        .args(args)
        // Where burn loads first; tests are built with a GPU backend too.
        .env("BURN_DEVICE", "flex")
        .env_remove("BURN_MEMOPT_DEVICE");
    process::output(&mut command)
}

fn plan(model: &str, args: &[&str]) -> Output {
    let fixed = ["plan", model, "--device", "flex"];
    runner(&[&fixed, args, &TINY].concat())
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[track_caller]
fn json(model: &str, args: &[&str]) -> Value {
    let output = plan(model, &[args, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let printed = stdout(&output);
    assert_eq!(printed.lines().count(), 1, "{printed}");
    serde_json::from_str(&printed).expect("a JSON object")
}

fn bytes(report: &Value, key: &str) -> u64 {
    report[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key} in {report}"))
}

#[test]
fn a_large_budget_changes_nothing() {
    let args = ["--budget", "4GiB", "--size", "32x32", "--batch", "4"];
    let report = json("unet", &args);
    assert_eq!(report["precision"], "f32");
    assert_eq!(report["grad_checkpoint"], "none");
    assert_eq!(
        (
            bytes(&report, "micro_batch_size"),
            bytes(&report, "accumulation_steps")
        ),
        (4, 1)
    );
}

#[test]
fn a_small_budget_is_kept_by_settings_that_training_accepts() {
    let work = ["--size", "64x64", "--batch", "4"];
    let whole = json("unet", &[&["--budget", "4GiB"], &work[..]].concat());
    let budget = (bytes(&whole, "measured_peak") / 2).to_string();
    let report = json("unet", &[&["--budget", &budget], &work[..]].concat());
    let (measured, predicted) = (
        bytes(&report, "measured_peak"),
        bytes(&report, "predicted_peak"),
    );
    assert!(
        measured <= budget.parse().unwrap(),
        "{measured} of {budget}"
    );
    assert!(
        measured.abs_diff(predicted) * 10 <= predicted,
        "{measured}, not {predicted}"
    );
    let batch = bytes(&report, "micro_batch_size") * bytes(&report, "accumulation_steps");
    assert_eq!(batch, 4);

    let command = report["command"].as_str().expect("a command");
    let flags: Vec<_> = command
        .split_whitespace()
        .skip_while(|word| *word != "train")
        .collect();
    assert_eq!(flags[..2], ["train", "unet"], "{command}");
    let output = runner(&[&flags, &["--dry-run", "--json"][..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn the_state_of_the_optimizer_in_use_is_counted() {
    let work = "plan watermark --device flex --size 32x32 --batch 1 --budget 4GiB --depth 1 --base-channels 32 --json";
    let of = |flags: &[&str]| -> Value {
        let work: Vec<_> = work.split_whitespace().collect();
        let output = runner(&[&work, flags].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_str(&stdout(&output)).expect("JSON")
    };
    let plain = of(&[]);
    let packed = of(&["--optimizer", "adamw8bit", "--optimizer-state", "host"]);
    assert_eq!(
        bytes(&plain, "optimizer_state"),
        2 * bytes(&plain, "gradients")
    );
    let saved = bytes(&plain, "optimizer_state") - bytes(&packed, "optimizer_state");
    assert!(saved * 2 > bytes(&plain, "gradients"));
    // Host memory is the device's here.
    let peak = |report: &Value| bytes(&report["rounds"][0], "predicted");
    assert!(peak(&plain) > peak(&packed) + saved / 2, "{saved}");
    let command = packed["command"].as_str().expect("a command");
    assert!(command.contains("--optimizer adamw8bit --optimizer-state host"));
    assert!(
        !plain["command"]
            .as_str()
            .expect("a command")
            .contains("--optimizer")
    );
}

#[test]
fn an_impossible_budget_fails_and_says_the_least_that_would_do() {
    let args = ["--size", "64x64", "--batch", "2", "--precision", "f32"];
    let output = plan("decode", &[&["--budget", "100KiB"], &args[..]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(output.stdout.is_empty());
    let said = stderr(&output);
    assert!(said.contains("the least that is needed"), "{said}");
    let least = said.split("allow ").nth(1).expect("the least");
    let least = least.split(',').next().expect("an amount").replace(' ', "");
    let output = plan("decode", &[&["--budget", &least], &args[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn the_table_gives_every_choice_its_reason() {
    let args = ["--budget", "1GiB", "--size", "32x32", "--batch", "2"];
    let output = plan("watermark", &args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let table = stdout(&output);
    for words in [
        "precision        f32",
        "grad checkpoint  none",
        "micro-batch      2 × 1",
        "predicted peak",
        "measured peak",
        "burn-memopt train watermark --precision f32",
        "--base-channels 8",
    ] {
        assert!(table.contains(words), "{words:?} is missing in\n{table}");
    }
}

#[test]
fn images_too_large_for_inference_are_cut_into_tiles() {
    let args = [
        "--size",
        "512x512",
        "--batch",
        "1",
        "--inference",
        "--precision",
        "f32",
    ];
    let whole = json("unet", &[&["--budget", "4GiB"], &args[..]].concat());
    let budget = (bytes(&whole, "measured_peak") / 4).to_string();
    let report = json("unet", &[&["--budget", &budget], &args[..]].concat());
    assert!(bytes(&report, "measured_peak") <= budget.parse().unwrap());
    assert!(report["tile"][0].as_u64() < Some(512), "{report}");
    let command = report["command"].as_str().expect("a command");
    assert!(command.contains("--chunk-size"), "{command}");
}

#[test]
fn wrong_amounts_and_depths_are_usage_errors() {
    let work = ["--size", "32x32", "--batch", "2"];
    let output = plan("unet", &[&["--budget", "2XB"], &work[..]].concat());
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("--budget"), "{}", stderr(&output));
    let small = [
        "plan", "unet", "--budget", "1GiB", "--size", "4x4", "--batch", "1", "--depth", "3",
    ];
    let output = runner(&small);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("--depth 3"), "{}", stderr(&output));
}
