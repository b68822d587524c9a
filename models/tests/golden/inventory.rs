//! Which cases of the golden set the tests read.

use std::collections::BTreeSet;
use std::path::Path;

use crate::harness;

/// Every case of the repository's set is read by a test. Another set may have more: they are named.
#[test]
fn golden_cases_without_a_test_are_named() {
    let sources = sources();
    let is_read = |case: &String| sources.contains(&format!("\"{case}\""));
    let unread: Vec<String> = cases().into_iter().filter(|case| !is_read(case)).collect();
    if std::env::var_os("BURN_MEMOPT_GOLDEN").is_none() {
        assert!(unread.is_empty(), "no test reads {}", unread.join(", "));
    } else if !unread.is_empty() {
        eprintln!(
            "cases of this golden set that no test reads: {}",
            unread.join(", ")
        );
    }
}

/// The names of the cases of the set.
fn cases() -> BTreeSet<String> {
    let folder = harness::root().join("cases");
    let files = folder
        .read_dir()
        .unwrap_or_else(|e| panic!("{folder:?}: {e}"));
    let paths = files.map(|file| file.expect("a file").path());
    let cases = paths.filter(|path| path.extension().is_some_and(|ext| ext == "json"));
    cases
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into())
        .collect()
}

/// The code of all tests that read cases.
fn sources() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let elsewhere = [
        "../burn-memopt/tests/amp_golden.rs",
        "../datasets/tests/images/preprocess_golden.rs",
    ];
    let mut files: Vec<_> = elsewhere.iter().map(|file| folder.join(file)).collect();
    let here = folder.join("tests/golden").read_dir().expect("the tests");
    files.extend(here.map(|file| file.expect("a file").path()));
    files.retain(|file| file.extension().is_some_and(|ext| ext == "rs"));
    let texts = files.iter().map(std::fs::read_to_string);
    texts
        .collect::<Result<_, _>>()
        .expect("the code of the tests")
}
