//! What files promise: which are pure, which may have `unsafe`, and that the paths that Markdown cites
//! are there.

use std::path::Path;

use super::rust_source::RustSource;
use super::{Finding, SKIPPED_FOLDERS};

/// The line that begins the documentation of a pure file.
const PURE: &str = "//! Pure.";
/// Names of tensors, devices and files, which a pure file does not import.
const IMPURE: [&str; 8] = [
    "Tensor",
    "TensorData",
    "Device",
    "Backend",
    "File",
    "OpenOptions",
    "fs",
    "memmap2",
];

/// The only files with `unsafe`, each with what it needs it for.
pub const UNSAFE: &[(&str, &str)] = &[
    (
        "burn-memopt/src/chunked/buffer.rs",
        "advice to the system about large pages",
    ),
    (
        "burn-memopt/src/memory/allocator.rs",
        "the allocator that counts",
    ),
    (
        "burn-memopt/src/nn/columns.rs",
        "products of matrices that threads write into one tensor",
    ),
    ("datasets/src/tiff/mmap.rs", "the memory map"),
    (
        "datasets/tests/allocations/mod.rs",
        "a test's own allocator",
    ),
    ("datasets/tests/video_memory.rs", "a test's own allocator"),
    (
        "xtask/tests/process/mod.rs",
        "a child process that is interrupted",
    ),
];

/// Reports what a file that is marked as pure imports or names all the same, outside of its tests.
pub fn check_pure(name: &str, text: &str, source: &RustSource) -> Vec<Finding> {
    if !text.lines().any(|line| line.starts_with(PURE)) {
        return Vec::new();
    }
    let finding = |(line, word)| {
        let message = format!("a pure file must not name `{word}`");
        Finding::error(format!("{name}:{line}"), message)
    };
    source.named(&IMPURE).map(finding).collect()
}

/// Reports the first `unsafe` of a file that is not in the list of `allowed` ones.
pub fn check_unsafe(name: &str, source: &RustSource, allowed: &[(&str, &str)]) -> Option<Finding> {
    let is_allowed = allowed.iter().any(|(file, _)| *file == name);
    let line = source.unsafe_line().filter(|_| !is_allowed)?;
    let message = "`unsafe` is for the files in tidy's list only; do without it";
    Some(Finding::error(format!("{name}:{line}"), message))
}

/// Reports the files in the list of `allowed` ones that have no `unsafe`, or are gone.
pub fn check_list(root: &Path, allowed: &[(&str, &str)]) -> Vec<Finding> {
    let has_unsafe = |file: &str| {
        let text = std::fs::read_to_string(root.join(file)).unwrap_or_default();
        RustSource::new(&text).unsafe_line().is_some()
    };
    let stale = allowed.iter().filter(|(file, _)| !has_unsafe(file));
    stale
        .map(|(file, _)| Finding::error(*file, "has no `unsafe`; take it from tidy's list"))
        .collect()
}

/// Reports every path that `text`, the content of `file`, cites and that is not there.
///
/// Cited is what a link points to, and inline code that reads like a path of this
/// repository: it begins with a folder of it, or is the name of a Markdown file.
/// Paths may be relative to the file or to `root`.
pub fn check_citations(root: &Path, file: &Path, name: &str, text: &str) -> Vec<Finding> {
    let folder = file.parent().unwrap_or(root);
    let is_there = |path: &str| folder.join(path).exists() || root.join(path).exists();
    let mut findings = Vec::new();
    let mut in_fence = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_fence = !in_fence;
            continue;
        }
        if in_fence {
            continue;
        }
        let links = link_targets(line).filter_map(local_target);
        let codes = line
            .split('`')
            .skip(1)
            .step_by(2)
            .filter_map(|code| cited_path(code, &is_there));
        for path in links.chain(codes).filter(|path| !is_there(path)) {
            let message = format!("cites {path}, which does not exist");
            findings.push(Finding::error(format!("{name}:{}", index + 1), message));
        }
    }
    findings
}

/// The targets of a line's links, between `](` and `)`.
fn link_targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(')')?.0))
}

/// A link's target without its anchor, if it points to a file of this repository: not to another site, to
/// an item of Rust (rustdoc checks those) or to a page that rustdoc writes.
fn local_target(target: &str) -> Option<&str> {
    let path = target.split('#').next().unwrap_or_default();
    let is_elsewhere = path.is_empty()
        || path.contains("::")
        || path.contains("://")
        || path.starts_with("mailto:")
        || path.ends_with(".html");
    (!is_elsewhere).then_some(path)
}

/// Inline code as a path, if it is one of this repository.
fn cited_path<'a>(code: &'a str, is_there: &impl Fn(&str) -> bool) -> Option<&'a str> {
    let path = match code.rsplit_once(':') {
        Some((path, line)) if line.parse::<usize>().is_ok() => path,
        _ => code,
    };
    let is_plain = path
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    if !is_plain || path.starts_with('/') {
        return None;
    }
    let is_ours = match path.split_once('/') {
        Some((first, _)) => !SKIPPED_FOLDERS.contains(&first) && is_there(first),
        None => path.len() > 3 && path.ends_with(".md"),
    };
    is_ours.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(findings: impl IntoIterator<Item = Finding>) -> Vec<String> {
        findings
            .into_iter()
            .map(|found| found.to_string())
            .collect()
    }

    #[test]
    fn a_pure_file_that_imports_a_tensor_a_device_or_a_file_is_an_error() {
        let text = "//! Where windows start.\n//! Pure.\nuse burn::tensor::{DType, Device};\n\
                    // A Tensor in a comment.\nfn read(path: &str) { std::fs::read(path); }\n\
                    #[cfg(test)]\nmod tests {\n    use burn::tensor::Tensor;\n}\n";
        let check = |text: &str| lines(check_pure("a.rs", text, &RustSource::new(text)));
        assert_eq!(
            check(text),
            [
                "error: a.rs:3: a pure file must not name `Device`",
                "error: a.rs:5: a pure file must not name `fs`",
            ]
        );
        assert_eq!(check(&text.replace("Pure.", "Purely numbers.")), [""; 0]);
    }

    #[test]
    fn unsafe_outside_of_the_list_is_an_error_in_tests_too() {
        let text = "#![deny(unsafe_op_in_unsafe_fn)]\n// unsafe\n#[cfg(test)]\nmod tests {\n    \
                    fn a() { unsafe { b() } }\n}\n";
        let source = RustSource::new(text);
        let allowed = [("a.rs", "a reason")];
        assert_eq!(check_unsafe("a.rs", &source, &allowed), None);
        let found = lines(check_unsafe("b.rs", &source, &allowed));
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("error: b.rs:5: `unsafe`"), "{found:?}");
    }

    #[test]
    fn a_list_that_names_files_without_unsafe_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("a.rs"), "fn a() { unsafe {} }").unwrap();
        std::fs::write(root.path().join("b.rs"), "fn b() { \"unsafe\" }").unwrap();
        let allowed = [("a.rs", ""), ("b.rs", ""), ("gone.rs", "")];
        let places = check_list(root.path(), &allowed).into_iter();
        let places: Vec<_> = places.map(|finding| finding.place).collect();
        assert_eq!(places, ["b.rs", "gone.rs"]);
    }

    fn missing(text: &str) -> Vec<String> {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("models/src")).unwrap();
        std::fs::write(root.path().join("models/src/lib.rs"), "").unwrap();
        std::fs::write(root.path().join("README.md"), "").unwrap();
        let file = root.path().join("models/README.md");
        let findings = check_citations(root.path(), &file, "models/README.md", text);
        findings.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn paths_that_exist_are_fine() {
        let text = "`models/src/lib.rs`, `src/lib.rs:12`, `src/`, `README.md`, [a](src/lib.rs#L1), [b](#c)";
        assert_eq!(missing(text), [""; 0]);
    }

    #[test]
    fn what_is_no_path_of_ours_is_left_alone() {
        let text = "`and/or`, `burn-nn/src/lib.rs`, `f16/bf16`, `a b/c`, `models/{a,b}.rs`, \
                    `target/x`, `/etc/x`, [a](https://x.org/y), `config.json`, \
                    [b](crate::a::B), [c](../x/index.html)\n```\n`models/gone.rs`\n```";
        assert_eq!(missing(text), [""; 0]);
    }

    #[test]
    fn paths_that_are_gone_are_reported_with_their_line() {
        let text = "x\n`models/src/gone.rs` and `GONE.md`\n[a](gone.png)";
        assert_eq!(
            missing(text),
            [
                "error: models/README.md:2: cites models/src/gone.rs, which does not exist",
                "error: models/README.md:2: cites GONE.md, which does not exist",
                "error: models/README.md:3: cites gone.png, which does not exist",
            ]
        );
    }
}
