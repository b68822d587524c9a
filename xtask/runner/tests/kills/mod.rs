//! Kills a command at moments that a seed draws, and runs it again until it is done.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use burn_memopt_datasets::shuffle::mix;

use crate::runner::process;

/// How often files are looked for.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// A process is killed at most so long after a file has appeared.
const LATEST: Duration = Duration::from_millis(20);

/// SIGKILL at random moments: some within the time that the command takes, the others when a file
/// appears.
pub struct Kills {
    seed: u64,
    /// Kills that are left.
    left: u64,
    /// Processes started.
    num_started: u64,
    /// What the command takes if it is not killed.
    whole: Duration,
    /// The folder to look into, and beginnings of names in it to wait for.
    marks: (PathBuf, Vec<&'static str>),
}

impl Kills {
    /// So many kills of a command that takes the time `whole`.
    pub fn new(seed: u64, num_kills: u64, whole: Duration) -> Self {
        Self {
            seed,
            left: num_kills,
            num_started: 0,
            whole,
            marks: Default::default(),
        }
    }

    /// Lets half of the kills wait for files in `folder` whose names begin so.
    pub fn at_files(&mut self, folder: PathBuf, marks: &[&'static str]) {
        self.marks = (folder, marks.to_vec());
    }

    /// Kills that are left.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Runs commands until one ends by itself, and returns what that said.
    pub fn until_done(&mut self, mut next: impl FnMut() -> Command) -> Output {
        loop {
            if let Some(output) = self.run(&mut next()) {
                return output;
            }
        }
    }

    /// Runs a command; `None` if it was killed.
    fn run(&mut self, command: &mut Command) -> Option<Output> {
        if self.left == 0 {
            return Some(process::output(command));
        }
        self.num_started += 1;
        let number = self.num_started;
        // From 0 to 1.
        let drawn = |of: u64| mix(mix(self.seed, number), of) as f64 / u64::MAX as f64;
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let before = names(&self.marks.0);
        let (mut child, _watchdog) = process::spawn(command);
        let is_reached = if number.is_multiple_of(2) || self.marks.1.is_empty() {
            let moment = self.whole.mul_f64(drawn(0));
            wait(&mut child, moment, || false)
        } else {
            let marks = &self.marks.1;
            let mark = marks[(drawn(0) * marks.len() as f64) as usize % marks.len()];
            let has_come = || {
                let names = names(&self.marks.0);
                let mut new = names.difference(&before);
                new.any(|name| name.to_string_lossy().starts_with(mark))
            };
            wait(&mut child, 3 * self.whole, has_come)
                && wait(&mut child, LATEST.mul_f64(drawn(1)), || false)
        };
        if is_reached {
            // It may have ended by now.
            let _ = child.kill();
        }
        let output = child.wait_with_output().expect("the process ends");
        if output.status.code().is_some() {
            return Some(output);
        }
        self.left -= 1;
        None
    }
}

/// Waits for a moment, or for what `has_come`. Returns whether the process is still running.
fn wait(child: &mut Child, moment: Duration, has_come: impl Fn() -> bool) -> bool {
    let started = Instant::now();
    while started.elapsed() < moment && !has_come() {
        if child.try_wait().expect("a child").is_some() {
            return false;
        }
        sleep(LOOK_EVERY);
    }
    true
}

fn names(folder: &Path) -> BTreeSet<OsString> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name()).collect()
}

/// The content of all files below a folder.
pub fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("below").into();
                files.insert(name, fs::read(&path).expect("a file"));
            }
        }
    }
    files
}

/// Asserts that there are the same files with the same content.
#[track_caller]
pub fn assert_same(killed: &BTreeMap<PathBuf, Vec<u8>>, whole: &BTreeMap<PathBuf, Vec<u8>>) {
    assert!(
        killed.keys().eq(whole.keys()),
        "{:?}\n{:?}",
        killed.keys(),
        whole.keys()
    );
    for (path, content) in killed {
        assert!(content == &whole[path], "{} differs", path.display());
    }
}
