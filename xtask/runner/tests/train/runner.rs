//! The real runner as a process, and what it leaves behind.

#[path = "../run_output/mod.rs"]
mod run_output;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

pub use run_output::{Run, process};

/// A network and batches so small that a step takes milliseconds.
pub const TINY: [&str; 6] = ["--base-channels", "4", "--depth", "1", "--batch-size", "2"];

/// Few frames and corrections of their flow.
const TINY_CLIPS: [&str; 6] = ["--num-videos", "3", "--num-local", "2", "--raft-iter", "1"];

/// The same, and a shallow network.
const TINY_PAINTER: [&str; 10] = [
    "--num-videos",
    "3",
    "--num-local",
    "2",
    "--raft-iter",
    "1",
    "--num-reference",
    "1",
    "--depth",
    "1",
];

/// A small field and few images.
const TINY_GAN: [&str; 12] = [
    "--samples",
    "2",
    "--field-depth",
    "2",
    "--field-width",
    "8",
    "--base-channels",
    "4",
    "--batch-size",
    "2",
    "--num-azimuths",
    "4",
];

/// A folder for the files of one test, and the model it trains.
pub struct Workplace {
    folder: TempDir,
    model: &'static str,
}

impl Workplace {
    pub fn new() -> Self {
        Self::of("unet")
    }

    pub fn of(model: &'static str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, model }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The path as an argument.
    pub fn arg(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Makes a tiny new run in the artifact folder `name`; `args` win over what makes it tiny.
    pub fn train(&self, name: &str, args: &[&str]) -> Run {
        Run::new(&mut self.train_command(name, args))
    }

    pub fn train_command(&self, name: &str, args: &[&str]) -> Command {
        let dir = self.arg(name);
        let mut all = vec!["--artifact-dir", &dir];
        let tiny: &[&str] = match self.model {
            "flow-completion" => &TINY_CLIPS,
            "gan" => &TINY_GAN,
            "propainter" => &TINY_PAINTER,
            _ => &TINY,
        };
        let is_of_generated = |flag: &str| flag == "--num-videos" || flag == "--num-azimuths";
        let is_replaced =
            |flag: &str| args.contains(&flag) || is_of_generated(flag) && args.contains(&"--data");
        for flag in tiny.chunks(2).filter(|flag| !is_replaced(flag[0])) {
            all.extend(flag);
        }
        all.extend(args);
        command_of(self.model, &all)
    }

    /// Continues the run in the artifact folder `name`.
    pub fn resume(&self, name: &str, args: &[&str]) -> Run {
        Run::new(&mut self.resume_command(name, args))
    }

    pub fn resume_command(&self, name: &str, args: &[&str]) -> Command {
        let dir = self.arg(name);
        let mut all = vec!["--resume", &dir];
        all.extend(args);
        command_of(self.model, &all)
    }
}

/// A runner's command line; `args` follow `train unet`.
pub fn command(args: &[&str]) -> Command {
    command_of("unet", args)
}

fn command_of(model: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_burn-memopt"));
    let fixed = ["train", model, "--json", "--log-every", "1"];
    command
        .args(fixed)
        .args(args)
        // Where burn loads an optimizer's state first; tests are built with a GPU backend too.
        .env("BURN_DEVICE", "flex")
        .env("XDG_RUNTIME_DIR", std::env::temp_dir())
        .env_remove("BURN_MEMOPT_DEVICE");
    command
}

/// Runs the runner to its end.
pub fn run(args: &[&str]) -> Run {
    Run::new(&mut command(args))
}

impl Run {
    /// The loss of every step as it was printed, by step.
    pub fn losses(&self) -> BTreeMap<u64, String> {
        let steps = self.events.iter().filter(|event| event["event"] == "step");
        steps
            .map(|event| {
                let step = event["step"].as_u64().expect("a number");
                (step, event["loss"].to_string())
            })
            .collect()
    }

    #[track_caller]
    pub fn summary(&self) -> &Value {
        let last = self.events.last().expect("a line on stdout");
        assert_eq!(last["event"], "summary");
        last
    }
}

/// Every file below a folder, with its content.
pub fn files_in(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files.extend(files_in(&path)),
            false => {
                let content = fs::read(&path).expect("a file");
                files.insert(path, content);
            }
        }
    }
    files
}

/// What follows the header of a safetensors file, whose notes are in any order.
pub fn tensors(file: Vec<u8>) -> Vec<u8> {
    let (len, rest) = file.split_first_chunk::<8>().expect("a header");
    rest[u64::from_le_bytes(*len) as usize..].to_vec()
}
