//! The house rules a machine can check.
//!
//! Errors: production files over 400 lines, crates that depend against the arrows, documentation
//! examples marked `ignore`, paths cited in Markdown that do not exist, files marked as pure that name a
//! tensor, a device or a file, and `unsafe` in a file that is not in the list. Warnings: files over 350
//! lines, functions over 60. All findings are reported before the command fails.

mod arrows;
mod promises;
mod rust_source;

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use rust_source::RustSource;

/// Production lines of a file above which it is an error.
const MAX_FILE_LINES: usize = 400;
/// Production lines of a file above which it is a warning.
const LONG_FILE_LINES: usize = 350;
/// Lines of a function above which it is a warning.
const LONG_FUNCTION_LINES: usize = 60;
/// Folders that hold nothing of ours.
const SKIPPED_FOLDERS: [&str; 3] = ["target", "artifacts", ".git"];

/// Something that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the command fails because of it.
    pub is_error: bool,
    /// The file, and the line where it is known.
    pub place: String,
    /// What is wrong.
    pub message: String,
}

impl Finding {
    fn error(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            is_error: true,
            place: place.into(),
            message: message.into(),
        }
    }

    fn warning(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            is_error: false,
            ..Self::error(place, message)
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = if self.is_error { "error" } else { "warning" };
        write!(f, "{severity}: {}: {}", self.place, self.message)
    }
}

/// Checks the workspace below `root`, prints all findings on stderr, and fails if
/// any is an error.
///
/// # Errors
/// If a file or the workspace's manifest cannot be read.
pub fn run(root: &Path) -> Result<ExitCode> {
    let mut findings = check_files(root)?;
    findings.extend(promises::check_list(root, promises::UNSAFE));
    findings.extend(arrows::check(root)?);
    for finding in &findings {
        eprintln!("{finding}");
    }
    let num_errors = findings.iter().filter(|finding| finding.is_error).count();
    eprintln!(
        "tidy: {num_errors} errors, {} warnings",
        findings.len() - num_errors
    );
    Ok(if num_errors == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Checks every Rust and Markdown file below `root`.
fn check_files(root: &Path) -> Result<Vec<Finding>> {
    let mut files = Vec::new();
    collect_files(root, &mut files)?;
    files.sort();
    let mut findings = Vec::new();
    for file in files {
        let name = file
            .strip_prefix(root)
            .unwrap_or(&file)
            .to_string_lossy()
            .replace('\\', "/");
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("rs") => findings.extend(check_rust(&name, &read(&file)?)),
            Some("md") => {
                let text = read(&file)?;
                findings.extend(ignored_examples(&name, &text));
                findings.extend(promises::check_citations(root, &file, &name, &text));
            }
            _ => {}
        }
    }
    Ok(findings)
}

fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries = folder
        .read_dir()
        .with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot list {}", folder.display()))?
            .path();
        if !path.is_dir() {
            files.push(path);
        } else if !SKIPPED_FOLDERS
            .iter()
            .any(|skipped| path.ends_with(skipped))
        {
            collect_files(&path, files)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Checks one Rust file. Lengths count only where it is not itself a test.
fn check_rust(name: &str, text: &str) -> Vec<Finding> {
    let mut findings: Vec<_> = ignored_examples(name, text).collect();
    let source = RustSource::new(text);
    findings.extend(promises::check_unsafe(name, &source, promises::UNSAFE));
    findings.extend(promises::check_pure(name, text, &source));
    if name
        .split('/')
        .any(|part| part == "tests" || part == "tests.rs")
    {
        return findings;
    }
    let lines = source.production_lines();
    if lines > MAX_FILE_LINES {
        let message =
            format!("{lines} lines without tests, at most {MAX_FILE_LINES} are allowed; split it");
        findings.push(Finding::error(name, message));
    } else if lines > LONG_FILE_LINES {
        findings.push(Finding::warning(
            name,
            format!("{lines} lines without tests, over {LONG_FILE_LINES}"),
        ));
    }
    for function in source.functions() {
        if function.num_lines > LONG_FUNCTION_LINES {
            let message = format!(
                "`{}` has {} lines, over {LONG_FUNCTION_LINES}",
                function.name, function.num_lines
            );
            findings.push(Finding::warning(
                format!("{name}:{}", function.line),
                message,
            ));
        }
    }
    findings
}

/// Reports the documentation examples that nobody compiles: in comments of Rust, and in Markdown that
/// documentation includes.
fn ignored_examples<'a>(name: &'a str, text: &'a str) -> impl Iterator<Item = Finding> + 'a {
    let is_markdown = name.ends_with(".md");
    text.lines().enumerate().filter_map(move |(index, line)| {
        let line = line.trim_start();
        let doc = if is_markdown {
            line
        } else {
            line.strip_prefix("///")
                .or_else(|| line.strip_prefix("//!"))?
        };
        let info = doc.trim_start().strip_prefix("```")?;
        let is_ignored = info
            .split(',')
            .any(|word| word.trim().starts_with("ignore"));
        let message = "a documentation example is marked `ignore`; make it run";
        is_ignored.then(|| Finding::error(format!("{name}:{}", index + 1), message))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_examples_are_errors_wherever_they_are() {
        let text = "/// ```ignore\n/// x\n/// ```\n//! ```rust,ignore\n/// ```\n/// ```no_run\n";
        let places = |name, text| -> Vec<String> {
            let places = ignored_examples(name, text).map(|finding| finding.place);
            places.collect()
        };
        assert_eq!(places("a.rs", text), ["a.rs:1", "a.rs:4"]);
        assert_eq!(check_rust("a/tests/b.rs", text).len(), 2);
        assert_eq!(places("a.md", "```\n```\n```ignore\n"), ["a.md:3"]);
    }

    #[test]
    fn long_files_are_warned_about_then_refused() {
        let lines = |count| "const X: u8 = 0;\n".repeat(count);
        assert_eq!(check_rust("a.rs", &lines(350)), []);
        assert!(!check_rust("a.rs", &lines(351))[0].is_error);
        assert!(!check_rust("a.rs", &lines(400))[0].is_error);
        assert!(check_rust("a.rs", &lines(401))[0].is_error);
        assert_eq!(check_rust("a/tests.rs", &lines(401)), []);
    }

    #[test]
    fn long_functions_are_warned_about() {
        let text = format!("fn long() {{\n{}}}\n", "    x();\n".repeat(59));
        let findings = check_rust("a.rs", &text);
        assert_eq!(
            findings[0].to_string(),
            "warning: a.rs:1: `long` has 61 lines, over 60"
        );
        assert_eq!(check_rust("a.rs", &text.replacen("    x();\n", "", 1)), []);
    }

    #[test]
    fn all_findings_below_a_folder_are_reported() {
        let root = tempfile::tempdir().unwrap();
        let source = root.path().join("crate/src");
        std::fs::create_dir_all(&source).unwrap();
        std::fs::create_dir_all(root.path().join("target")).unwrap();
        std::fs::write(source.join("lib.rs"), "x\n".repeat(500)).unwrap();
        std::fs::write(source.join("doc.rs"), "/// ```ignore\n").unwrap();
        std::fs::write(source.join("pure.rs"), "//! Pure.\nuse burn::Tensor;\n").unwrap();
        std::fs::write(source.join("raw.rs"), "unsafe fn a() {}\n").unwrap();
        std::fs::write(root.path().join("target/generated.rs"), "x\n".repeat(500)).unwrap();
        std::fs::write(root.path().join("README.md"), "See `crate/src/gone.rs`.").unwrap();
        let findings = check_files(root.path()).unwrap();
        let places: Vec<_> = findings
            .iter()
            .map(|finding| finding.place.as_str())
            .collect();
        assert_eq!(
            places,
            [
                "README.md:1",
                "crate/src/doc.rs:1",
                "crate/src/lib.rs",
                "crate/src/pure.rs:2",
                "crate/src/raw.rs:1",
            ]
        );
    }
}
