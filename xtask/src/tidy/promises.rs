//! What files promise about themselves: which are pure, and which may have `unsafe`.

use std::path::Path;

use super::Finding;
use super::rust_source::RustSource;

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
}
