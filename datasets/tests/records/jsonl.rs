//! JSON Lines as people have them: arrays, broken lines, and answers that are objects.

use std::{fs, io::Write};

use burn::data::dataset::Dataset;
use burn_memopt_datasets::{
    advise::{Companions, DataSource},
    jsonl::{VqaConfig, VqaDataset},
};
use flate2::{Compression, write::GzEncoder};
use rstest::rstest;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases/jsonl");

fn path_of(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

/// Writes `text` as a file of this name.
fn file(name: &str, text: &[u8]) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn answers_of_vqa_v2_are_read() {
    let config = VqaConfig::new().with_answer_field(Some("answers".into()));
    let questions = VqaDataset::<u8>::open(path_of("vqa_v2_answers.jsonl"), &config).unwrap();
    for index in 0..questions.len() {
        assert_eq!(questions.item(index).unwrap().answers, ["yes"; 10]);
    }
    let source = DataSource::open(path_of("vqa_v2_answers.jsonl"), Companions::default()).unwrap();
    assert!(
        source.about.contains("questions with images"),
        "{}",
        source.about
    );
    assert_eq!(source.notes, [] as [&str; 0]);
}

#[test]
fn an_array_is_named() {
    let path = path_of("array_on_one_line.jsonl");
    let advice = DataSource::open(&path, Companions::default()).unwrap_err();
    assert!(advice.to_string().contains("is a JSON array"), "{advice}");
    let questions = VqaDataset::<u8>::open(&path, &VqaConfig::new()).unwrap();
    let loaded = questions.item(0).unwrap_err();
    assert!(loaded.to_string().contains("is a JSON array"), "{loaded}");
}

#[rstest]
#[case::on_many_lines("a.jsonl", "[\n  {\"a\": 1},\n  {\"a\": 2}\n]\n")]
#[case::with_records_on_lines("a.jsonl", "[{\"a\": 1},\n{\"a\": 2}]\n")]
#[case::named_json("a.json", " [{\"a\": 1}]")]
#[case::behind_a_mark("a.json", "\u{feff}[\r\n{\"a\": 1}]")]
fn arrays_in_other_forms_are_named(#[case] name: &str, #[case] text: &str) {
    let (_folder, path) = file(name, text.as_bytes());
    let error = DataSource::open(path, Companions::default()).unwrap_err();
    assert!(error.to_string().contains("is a JSON array"), "{error}");
}

#[test]
fn arrays_that_are_records_stay_records() {
    let text = "[{\"role\": \"user\"}]\n[{\"role\": \"user\"}]\n";
    let (_folder, path) = file("chats.jsonl", text.as_bytes());
    let source = DataSource::open(path, Companions::default()).unwrap();
    assert_eq!(source.about, "2 records");
}

#[test]
fn a_broken_line_is_in_the_advice() {
    let path = path_of("one_broken_line.jsonl");
    let source = DataSource::open(&path, Companions::default()).unwrap();
    let [note] = source.notes.as_slice() else {
        panic!("{:?}", source.notes);
    };
    assert!(
        note.contains("1 of 5 records looked at cannot be read, the first in line 3"),
        "{note}"
    );
}

#[rstest]
#[case::first(
    "{broken\n{\"a\": 1}\n",
    "1 of 2 records looked at cannot be read, the first in line 1"
)]
#[case::behind_blank_lines(
    "{\"a\": 1}\n\n \r\n{\"a\": \n{\"a\": 3\n",
    "2 of 3 records looked at cannot be read, the first in line 4"
)]
fn broken_lines_are_named(#[case] text: &str, #[case] expected: &str) {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(text.as_bytes()).unwrap();
    let packed = packed.finish().unwrap();
    for (name, bytes) in [("a.jsonl", text.as_bytes()), ("a.jsonl.gz", &packed)] {
        let (_folder, path) = file(name, bytes);
        let source = DataSource::open(path, Companions::default()).unwrap();
        assert!(
            source.notes.join("\n").contains(expected),
            "{:?}",
            source.notes
        );
    }
}
