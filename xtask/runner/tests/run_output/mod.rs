//! What a run of the real runner left behind, shared by the tests of its commands.

#[path = "../../../tests/process/mod.rs"]
pub mod process;

use std::process::{Command, Output};

use serde_json::Value;

/// What a finished runner said.
pub struct Run {
    pub code: Option<i32>,
    pub stderr: String,
    pub events: Vec<Value>,
}

impl Run {
    /// Runs a process to its end.
    pub fn new(command: &mut Command) -> Self {
        Self::of(process::output(command))
    }

    pub fn of(output: Output) -> Self {
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        let parse = |line| serde_json::from_str(line).expect("a JSON object a line");
        Self {
            code: output.status.code(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            events: stdout.lines().map(parse).collect(),
        }
    }

    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// Asserts that it failed with `code` and said all of `words`.
    #[track_caller]
    pub fn failed(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        for word in words {
            assert!(
                self.stderr.contains(word),
                "{word:?} is missing in {}",
                self.stderr
            );
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }
}
