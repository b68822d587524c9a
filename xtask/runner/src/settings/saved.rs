//! The settings that a run has saved in its folder, with paths that stay right when it is resumed from
//! another folder, or moved together with its data.

use std::collections::BTreeSet;
use std::io;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};
use xtask::cli::paths::{from_text, to_text};
use xtask::cli::values::{Words, paths, words};
use xtask::cli::{INCEPTION, PROCEDURAL};

use super::{ModelSettings, Settings, UsageError, settings_of};
use crate::run_dir::RunDir;

/// The settings as they are saved in the folder `root`, which need not be there yet: so that the run
/// may be resumed from another folder, and moved together with its data.
///
/// # Errors
/// If the working directory is gone.
pub fn to_save<M: ModelSettings>(settings: &Settings<M>, root: &Path) -> Result<Value> {
    let mut saved = serde_json::to_value(settings).context("cannot turn the settings into JSON")?;
    if let Value::Object(saved) = &mut saved {
        start_in(root, saved, &paths::<Settings<M>>())?;
    }
    Ok(saved)
}

/// Opens the folder of a run to continue it, and reads its settings.
///
/// # Errors
/// As [`RunDir::open`]; and if the settings are wrong.
pub fn open_run<M: ModelSettings>(root: &Path) -> Result<(RunDir, Settings<M>)> {
    open_run_with(root, &Words::new())
}

/// As [`open_run`], with other values of some settings that the run has.
///
/// # Errors
/// As [`open_run`]; and [`UsageError`] if the run does not have one of them.
pub fn open_run_with<M: ModelSettings>(
    root: &Path,
    given: &Words,
) -> Result<(RunDir, Settings<M>)> {
    let (run, mut saved) = RunDir::open(root, M::MODEL)?;
    if let Value::Object(saved) = &mut saved {
        start_here(&run.config_file(), saved, &paths::<Settings<M>>())?;
    }
    let mut saved = words(&saved);
    let is_other = |name: &&String| *name != INCEPTION && !saved.contains_key(*name);
    if let Some(name) = given.keys().find(is_other) {
        bail!(UsageError(format!(
            "the run in {} was not trained on what --{name} names; leave it out",
            root.display()
        )));
    }
    saved.extend(given.clone());
    let settings = settings_of(&saved)
        .with_context(|| format!("cannot use the settings in {}", run.config_file().display()))?;
    Ok((run, settings))
}

/// The key of saved settings that names the folder where their relative paths start, seen from the
/// folder of the file. Without it, they start in the working directory: so older builds saved them.
const START_KEY: &str = "paths_start_in";

/// Lets the settings `names`, paths that start in the working directory, start in `folder`, where
/// they are saved. The folder need not be there yet.
///
/// # Errors
/// If the working directory is gone.
pub fn start_in(
    folder: &Path,
    settings: &mut Map<String, Value>,
    names: &BTreeSet<String>,
) -> Result<()> {
    let (here, folder) = (real_folder(Path::new("."))?, real_folder(folder)?);
    rebase(settings, names, &here, &folder);
    settings.insert(START_KEY.into(), ".".into());
    Ok(())
}

/// Lets the settings `names` that were saved in `file` start in the working directory.
///
/// # Errors
/// If the working directory is gone.
pub fn start_here(
    file: &Path,
    settings: &mut Map<String, Value>,
    names: &BTreeSet<String>,
) -> Result<()> {
    let Some(Value::String(start)) = settings.remove(START_KEY) else {
        return Ok(());
    };
    let folder = real_folder(&file.with_file_name("").join(start))?;
    rebase(settings, names, &folder, &real_folder(Path::new("."))?);
    Ok(())
}

fn rebase(settings: &mut Map<String, Value>, names: &BTreeSet<String>, from: &Path, to: &Path) {
    for name in names {
        if let Some(Value::String(path)) = settings.get_mut(name)
            && path != PROCEDURAL
        {
            *path = to_text(&rebased(&from_text(path), from, to));
        }
    }
}

/// A path that starts at the folder `from`, as one that starts at the folder `to`. Both folders are
/// as [`real_folder`] returns them; an absolute path stays as it is.
fn rebased(path: &Path, from: &Path, to: &Path) -> PathBuf {
    if path.has_root() {
        return path.into();
    }
    let mut whole = from.to_path_buf();
    let mut is_above = true;
    for part in path.components() {
        match part {
            Component::CurDir => {}
            // Behind a name, which may be that of a link, only the system knows the parent.
            Component::ParentDir if is_above => drop(whole.pop()),
            part => {
                is_above = false;
                whole.push(part);
            }
        }
    }
    let shared = to.components().zip(whole.components());
    let num_shared = shared.take_while(|(one, other)| one == other).count();
    if num_shared == 0 {
        // On another drive.
        return whole;
    }
    let up = to
        .components()
        .skip(num_shared)
        .map(|_| Component::ParentDir);
    let rebased: PathBuf = up.chain(whole.components().skip(num_shared)).collect();
    if rebased.as_os_str().is_empty() {
        ".".into()
    } else {
        rebased
    }
}

/// The path of a folder from the root and without links, whether or not the folder is there yet.
///
/// # Errors
/// If the working directory is gone.
fn real_folder(folder: &Path) -> Result<PathBuf> {
    let read = || -> io::Result<PathBuf> {
        let folder = std::path::absolute(folder)?;
        let found = folder.ancestors().find_map(|ancestor| {
            let real = ancestor.canonicalize().ok()?;
            Some(real.join(folder.strip_prefix(ancestor).ok()?))
        });
        // Without a trailing separator.
        Ok(found.unwrap_or(folder).components().collect())
    };
    read().with_context(|| format!("cannot find the folder {}", folder.display()))
}

/// Whether both paths lead to the same thing on the disk.
pub fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_the_same_file_from_another_folder() {
        for (path, from, to, expected) in [
            (
                "data/a.tif",
                "/home/b",
                "/home/b/runs/1",
                "../../data/a.tif",
            ),
            (
                "../../data/a.tif",
                "/home/b/runs/1",
                "/home/b",
                "data/a.tif",
            ),
            ("./a.tif", "/home/b", "/home/b", "a.tif"),
            ("..", "/home/b", "/home", "."),
            ("../c", "/home/b", "/mnt", "../home/c"),
            ("link/../a", "/home/b", "/home", "b/link/../a"),
            ("/data/a.tif", "/home/b", "/mnt", "/data/a.tif"),
        ] {
            let rebased = rebased(path.as_ref(), from.as_ref(), to.as_ref());
            assert_eq!(rebased, Path::new(expected), "{path} from {from} to {to}");
        }
    }

    #[test]
    fn a_folder_that_is_a_link_or_not_there_has_a_real_path() {
        let root = tempfile::tempdir().unwrap();
        let real = root.path().canonicalize().unwrap();
        std::fs::create_dir(root.path().join("a")).unwrap();
        std::os::unix::fs::symlink("a", root.path().join("link")).unwrap();
        assert_eq!(
            real_folder(&root.path().join("link/new")).unwrap(),
            real.join("a/new")
        );
        assert_eq!(
            real_folder(&root.path().join("a/")).unwrap(),
            real.join("a")
        );
        assert!(is_same(&root.path().join("link"), &real.join("a")));
    }
}
