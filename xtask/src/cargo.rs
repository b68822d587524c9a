//! Running cargo: the program, the tests, the checks.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::cli::Target;
use crate::device::{DEVICE_VARIABLE, DeviceList};
use crate::tidy;

/// The features that tests, lints and documentation are built with. One set for
/// all of them, so that burn is compiled once.
const FEATURES: &str = "burn-memopt-cli/wgpu,burn-memopt-datasets/tokenizers";
/// The variable that gives the program the name it was started by.
pub const PROGRAM_VARIABLE: &str = "BURN_MEMOPT_PROGRAM";
/// [`FEATURES`] without a GPU backend.
const FEATURES_WITHOUT_GPU: &str = "burn-memopt-datasets/tokenizers";

/// The root of this workspace.
pub fn workspace_root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    root.expect("invariant: xtask is below the workspace root")
        .to_path_buf()
}

/// Builds the program in release mode for the chosen device, and becomes it.
///
/// The arguments of this process are passed on unchanged. Where no flag names the device, a
/// settings file with a `device` of its own may.
///
/// # Errors
/// If the device variable is wrong or cargo cannot be started.
pub fn run_program(target: &Target) -> Result<ExitCode> {
    let variable = std::env::var(DEVICE_VARIABLE).ok();
    let devices = target
        .device
        .clone()
        .or_else(|| devices_in_file(target.config.as_deref()?))
        .unwrap_or_default();
    let mut wanted = Vec::new();
    for device in devices.all() {
        let device = device
            .or_variable(variable.as_deref())
            .map_err(anyhow::Error::msg)?;
        let feature = device.backend_to_build().feature().to_owned();
        if !wanted.contains(&feature) {
            wanted.push(feature);
        }
    }
    wanted.extend_from_slice(target.features);
    let mut command = cargo();
    command
        .args([
            "run",
            "--release",
            "-p",
            "burn-memopt-cli",
            "--no-default-features",
            "--features",
        ])
        .arg(wanted.join(","))
        .arg("--")
        .args(std::env::args_os().skip(1))
        .env(PROGRAM_VARIABLE, "cargo xtask");
    announce(&command);
    if !program_file().exists() {
        eprintln!(
            "the program is compiled for the first time, which takes about ten minutes on two cores"
        );
    }
    become_process(command)
}

/// Where cargo puts the program.
fn program_file() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| workspace_root().join("target"));
    let name = format!("burn-memopt{}", std::env::consts::EXE_SUFFIX);
    target.join("release").join(name)
}

/// Runs the tests whose name contains `filter`, or all, documentation examples included.
///
/// # Errors
/// If cargo cannot be started.
pub fn test(no_gpu: bool, filter: Option<&str>) -> Result<ExitCode> {
    let mut command = test_command(no_gpu);
    command.args(filter);
    announce(&command);
    become_process(command)
}

/// Runs criterion's benchmarks, which leave their reports in `target/criterion`.
///
/// # Errors
/// If cargo cannot be started or a benchmark fails.
pub fn criterion() -> Result<()> {
    // The workspace, so that burn is compiled once.
    let command = workspace_command(&["bench", "--workspace", "--bench", "memory"]);
    anyhow::ensure!(succeeds(command)?, "criterion's benchmarks failed");
    Ok(())
}

/// Runs fmt, tidy, clippy, the tests and the documentation build, cheapest first,
/// and stops at the first that fails.
///
/// # Errors
/// If cargo cannot be started or the sources cannot be read.
pub fn check(no_gpu: bool) -> Result<ExitCode> {
    let features = features(no_gpu);
    let lint = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--features",
        features,
        "--",
        "-D",
        "warnings",
    ];
    let mut doc = workspace_command(&["doc", "--workspace", "--no-deps", "--features", features]);
    doc.env("RUSTDOCFLAGS", "-D warnings");

    if !succeeds(workspace_command(&["fmt", "--all", "--check"]))?
        || tidy::run(&workspace_root())? != ExitCode::SUCCESS
        || !succeeds(workspace_command(&lint))?
        || !succeeds(test_command(no_gpu))?
        || !succeeds(doc)?
    {
        return Ok(ExitCode::FAILURE);
    }
    eprintln!("all checks passed");
    Ok(ExitCode::SUCCESS)
}

/// All tests, whichever of them fail: a run takes half an hour, and should tell of each failure.
fn test_command(no_gpu: bool) -> Command {
    workspace_command(&[
        "test",
        "--workspace",
        "--no-fail-fast",
        "--features",
        features(no_gpu),
    ])
}

fn features(no_gpu: bool) -> &'static str {
    if no_gpu {
        FEATURES_WITHOUT_GPU
    } else {
        FEATURES
    }
}

/// The cargo that started this program, so that toolchain overrides hold.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    // Mesa's software Vulkan needs a runtime folder; any will do.
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        command.env("XDG_RUNTIME_DIR", std::env::temp_dir());
    }
    command
}

fn workspace_command(args: &[&str]) -> Command {
    let mut command = cargo();
    command.current_dir(workspace_root()).args(args);
    command
}

/// Prints the command line that is about to run.
fn announce(command: &Command) {
    let args = command.get_args().map(|arg| arg.to_string_lossy());
    let line = args.fold(String::from("cargo"), |line, arg| {
        if arg.contains(char::is_whitespace) {
            line + " '" + &arg + "'"
        } else {
            line + " " + &arg
        }
    });
    eprintln!("+ {line}");
}

/// Prints the command line, runs it and says whether it succeeded.
///
/// # Errors
/// If cargo cannot be started.
pub(crate) fn succeeds(mut command: Command) -> Result<bool> {
    announce(&command);
    let status = command.status().context("cannot start cargo")?;
    Ok(status.success())
}

/// Replaces this process, so that signals and the exit code are the child's own.
#[cfg(unix)]
fn become_process(mut command: Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;

    Err(command.exec()).context("cannot start cargo")
}

/// Waits for the child and passes its exit code on. Ctrl-C goes to every process
/// of the console; only the child reacts to it.
#[cfg(windows)]
fn become_process(mut command: Command) -> Result<ExitCode> {
    ctrlc::set_handler(|| {}).context("cannot leave Ctrl-C to the program")?;
    let status = command.status().context("cannot start cargo")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// The `device` a settings file names, in any of its three formats.
///
/// Only this one key is needed before the program exists, and settings are flat, so a scan does.
/// What it misses, the program reports when it reads the file.
fn devices_in_file(path: &Path) -> Option<DeviceList> {
    let text = std::fs::read_to_string(path).ok()?;
    let quotes = ['"', '\''];
    text.match_indices("device").find_map(|(at, key)| {
        let is_key = text[..at].trim_end_matches(quotes).trim_end_matches(' ');
        if !(is_key.is_empty() || is_key.ends_with(['\n', ',', '{'])) {
            return None;
        }
        let rest = text[at + key.len()..]
            .trim_start_matches(quotes)
            .trim_start();
        let value = rest.strip_prefix(['=', ':'])?.trim_start();
        let value = match value.strip_prefix(quotes) {
            Some(quoted) => quoted.split(quotes).next()?,
            None => value.split(['\n', '}']).next()?,
        };
        value.trim().parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Backend;

    #[test]
    fn the_device_is_found_in_every_format_of_settings() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings");
        for text in [
            "steps = 3\ndevice = \"cuda:1\"\n",
            "steps: 3\ndevice: cuda:1\n",
            "device: 'cuda:1'",
            "{\"steps\": 3, \"device\": \"cuda:1\"}",
        ] {
            std::fs::write(&path, text).unwrap();
            let found = devices_in_file(&path).unwrap().main();
            assert_eq!(
                (found.backend, found.index),
                (Some(Backend::Cuda), Some(1)),
                "{text}"
            );
        }
        for text in [
            "device = \"cuda:1,flex\"\nsteps = 3\n",
            "steps: 3\ndevice: cuda:1,flex\n",
            "{\"device\": \"cuda:1,flex\", \"steps\": 3}",
        ] {
            std::fs::write(&path, text).unwrap();
            let found = devices_in_file(&path).unwrap();
            assert_eq!(found.to_string(), "cuda:1,flex", "{text}");
        }
        for text in ["steps = 3", "data = \"my device: flex\""] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(devices_in_file(&path), None, "{text}");
        }
        assert_eq!(devices_in_file(&dir.path().join("missing")), None);
    }
}
