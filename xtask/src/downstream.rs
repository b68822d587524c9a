//! A crate outside this workspace, built as a user's: with the README's dependencies, resolved without a lock file.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::cargo::{cargo, succeeds, workspace_root};

/// Where the crate's sources are, and the beginning of its manifest.
const SOURCES: &str = "xtask/downstream";
/// Where it is put together and built.
const FOLDER: &str = "target/downstream";
/// The library's path in the README, for a crate next to a clone of this repository.
const PATH_IN_README: &str = "\"../burn-memopt/burn-memopt\"";

/// Puts the crate together, resolves it without a lock file, says how many crates it takes, runs
/// it, and checks that it compiles with burn-train.
///
/// # Errors
/// If a file cannot be read or written, the README has no dependencies, or cargo cannot be started.
pub fn run() -> Result<ExitCode> {
    let root = workspace_root();
    let folder = root.join(FOLDER);
    put_together(&root, &folder)?;
    let tree = [
        "tree",
        "--edges",
        "normal",
        "--prefix",
        "none",
        "--no-dedupe",
    ];
    let num_crates = count_crates(in_folder(&folder, &tree))?;
    eprintln!("{num_crates} crates, resolved without a lock file");
    let passed = succeeds(in_folder(&folder, &["run", "--target-dir", "target"]))?
        && succeeds(in_folder(
            &folder,
            &["check", "--features", "train", "--target-dir", "target"],
        ))?;
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Writes manifest and sources into `folder`, and removes a lock file of before.
fn put_together(root: &Path, folder: &Path) -> Result<()> {
    let sources = root.join(SOURCES);
    let manifest = read(&sources.join("Cargo.toml.in"))?;
    let manifest = manifest_of(&manifest, &read(&root.join("README.md"))?, root)?;
    let lock = folder.join("Cargo.lock");
    if lock.exists() {
        fs::remove_file(&lock).with_context(|| format!("cannot remove {}", lock.display()))?;
    }
    let code = folder.join("src");
    fs::create_dir_all(&code).with_context(|| format!("cannot create {}", code.display()))?;
    write(&folder.join("Cargo.toml"), &manifest)?;
    let files = sources.join("src");
    let entries = files.read_dir();
    for entry in entries.with_context(|| format!("cannot list {}", files.display()))? {
        let file = entry.with_context(|| format!("cannot list {}", files.display()))?;
        write(&code.join(file.file_name()), &read(&file.path())?)?;
    }
    Ok(())
}

/// The manifest that begins with `beginning` and has the dependencies of `readme`.
fn manifest_of(beginning: &str, readme: &str, root: &Path) -> Result<String> {
    let dependencies = readme_dependencies(readme)
        .context("README.md has no block of dependencies under \"In a model of your own\"")?;
    ensure!(
        dependencies.contains(PATH_IN_README),
        "README.md does not give burn-memopt the path {PATH_IN_README}"
    );
    // A literal string: a path of Windows has backslashes.
    let library = format!("'{}'", root.join("burn-memopt").display());
    let dependencies = dependencies.replace(PATH_IN_README, &library);
    Ok(format!("{beginning}[dependencies]\n{dependencies}"))
}

/// The first TOML block of the section for models of one's own.
fn readme_dependencies(readme: &str) -> Option<&str> {
    let (_, section) = readme.split_once("\n## In a model of your own\n")?;
    let (_, block) = section.split_once("\n```toml\n")?;
    let end = block.find("```")?;
    Some(&block[..end])
}

/// Runs `cargo tree`, and counts what it lists.
fn count_crates(mut tree: Command) -> Result<usize> {
    let output = tree.output().context("cannot start cargo")?;
    ensure!(
        output.status.success(),
        "cargo cannot resolve the crate: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    let listed = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(listed.lines().collect::<HashSet<_>>().len())
}

fn in_folder(folder: &Path, args: &[&str]) -> Command {
    let mut command = cargo();
    command.current_dir(folder).args(args);
    command
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_has_the_very_lines_of_the_readme_but_for_the_path() {
        let root = workspace_root();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("Cargo.lock"), "of before").unwrap();
        put_together(&root, folder.path()).unwrap();

        let manifest = fs::read_to_string(folder.path().join("Cargo.toml")).unwrap();
        let readme = fs::read_to_string(root.join("README.md")).unwrap();
        let (_, dependencies) = manifest.split_once("[dependencies]\n").unwrap();
        let library = format!("'{}'", root.join("burn-memopt").display());
        let as_in_readme = dependencies.replace(&library, PATH_IN_README);
        assert!(as_in_readme.contains("burn = ") && as_in_readme.contains("burn-memopt = "));
        assert!(
            readme.contains(&format!("```toml\n{as_in_readme}```")),
            "{as_in_readme}"
        );
        assert!(folder.path().join("src/main.rs").exists());
        assert!(!folder.path().join("Cargo.lock").exists());
    }

    #[test]
    fn a_readme_without_the_lines_is_an_error_that_names_them() {
        let refused = |readme: &str| {
            let error = manifest_of("", readme, Path::new("/")).unwrap_err();
            error.to_string()
        };
        assert!(refused("# burn-memopt\n").contains("In a model of your own"));
        let elsewhere = "# x\n## In a model of your own\n\n```toml\nburn-memopt = \"0.1\"\n```\n";
        assert!(refused(elsewhere).contains("../burn-memopt/burn-memopt"));
    }
}
