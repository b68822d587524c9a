//! Small files of every kind that is read, and two hundred thousand changes of them: each is read or
//! refused, without a panic, a hang, or an allocation beyond what the file can hold.

#![cfg(all(feature = "tiff", feature = "jsonl"))]

#[path = "../allocations/mod.rs"]
mod allocations;
mod changes;
mod images;
mod jsonl;
mod tables;
mod tiff;

use std::{fs, path::Path};

/// A file of a corpus.
struct Saved {
    name: String,
    bytes: Vec<u8>,
}

/// The files below `folders`, which start at the crate, in the order of their names. Those whose name
/// does not end in one of `extensions` are left out, unless there is none.
fn saved(folders: &[&str], extensions: &[&str]) -> Vec<Saved> {
    let mut files = Vec::new();
    for folder in folders {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.display().to_string();
            let is_wanted = extensions.iter().any(|end| name.ends_with(end));
            if path.is_file() && (extensions.is_empty() || is_wanted) {
                let bytes = fs::read(path).expect("a file");
                files.push(Saved { name, bytes });
            }
        }
    }
    files.sort_by(|left, right| left.name.cmp(&right.name));
    files
}

/// Runs `read` and checks that it makes no allocation larger than `limit`.
#[track_caller]
fn within<T>(limit: usize, name: &str, read: impl FnOnce() -> T) -> T {
    allocations::take();
    let result = read();
    let largest = allocations::take().largest;
    assert!(largest <= limit, "{name}: {largest} bytes at once");
    result
}
