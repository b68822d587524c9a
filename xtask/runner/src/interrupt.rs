//! Ctrl-C: once to finish the step and save, twice to stop at once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use xtask::cargo::PROGRAM_VARIABLE;

use crate::report::note;

/// What a shell reports of a program that Ctrl-C ended.
const ABORTED: i32 = 130;

/// Whether the user, or the system, asked the run to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    requested: Arc<AtomicBool>,
}

impl Interrupt {
    /// Takes over Ctrl-C and the signals that end a program, for the rest of the process.
    ///
    /// # Errors
    /// If that was done before, or the system refuses.
    pub fn install() -> Result<Self> {
        Self::announcing("finishing this step, then saving")
    }

    /// As [`install`](Self::install); `doing` says what happens after the first request.
    ///
    /// # Errors
    /// As [`install`](Self::install).
    pub fn announcing(doing: &'static str) -> Result<Self> {
        let interrupt = Self::default();
        let seen = interrupt.clone();
        ctrlc::set_handler(move || {
            if seen.request() {
                note("\naborted; what was saved before is whole");
                std::process::exit(ABORTED);
            }
            note(format_args!("\n{doing}; once more aborts at once"));
        })
        .context("cannot take over Ctrl-C")?;
        Ok(interrupt)
    }

    /// Asks the run to end, and says whether that was asked before.
    pub fn request(&self) -> bool {
        self.requested.swap(true, Ordering::SeqCst)
    }

    /// Whether the run should end after this step.
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }
}

/// The command line that continues the run in `artifact_dir`, compiled with `features`.
///
/// Everything else, the device too, is read from the folder.
pub fn resume_command(model: &str, artifact_dir: &Path, features: &[String]) -> String {
    let dir = quoted(&artifact_dir.display().to_string());
    let mut command = format!("{} train {model} --resume {dir}", program());
    if !features.is_empty() {
        command += &format!(" --features {}", features.join(","));
    }
    command
}

/// What the user calls this program: `burn-memopt`, unless `cargo xtask` started it.
pub fn program() -> String {
    std::env::var(PROGRAM_VARIABLE).unwrap_or_else(|_| "burn-memopt".into())
}

/// A word of a command line, in quotes if a shell needs them.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/\\._-:=,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_second_request_finds_one_before_it() {
        let interrupt = Interrupt::default();
        let seen = interrupt.clone();
        assert!(!seen.is_requested());
        assert!(!interrupt.request());
        assert!(seen.is_requested());
        assert!(interrupt.request());
    }

    #[test]
    fn the_command_line_can_be_pasted() {
        let command =
            |dir: &str, features: &[String]| resume_command("unet", Path::new(dir), features);
        assert_eq!(
            command("artifacts/a-1", &[]),
            "burn-memopt train unet --resume artifacts/a-1"
        );
        assert_eq!(
            command("it's", &[]),
            r"burn-memopt train unet --resume 'it'\''s'"
        );
        assert!(command("a", &["autotune".into()]).ends_with("--resume a --features autotune"));
    }
}
