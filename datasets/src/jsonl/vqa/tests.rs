use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use burn::data::dataset::Dataset;
use flate2::{Compression, write::GzEncoder};
use image::{Rgb, RgbImage};
use rstest::rstest;
use tempfile::TempDir;

use super::*;
use crate::{
    jsonl::JsonlError, lazy::LazyDataset, stream::StreamingDataset, synthetic::vqa::VqaSetConfig,
};

/// A folder with an image of 2 by 3 pixels, `a.png`, and these questions.
fn set(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vqa.jsonl");
    fs::write(&path, text).unwrap();
    write_image(&folder.path().join("a.png"));
    (folder, path)
}

fn write_image(path: &Path) {
    RgbImage::from_fn(3, 2, |x, y| Rgb([255, (x * 51) as u8, (y * 51) as u8]))
        .save(path)
        .unwrap();
}

fn ask(image: &str) -> String {
    format!(r#"{{"image": "{image}", "question": "?", "answer": "!"}}"#)
}

/// The error of the first question.
fn error(path: &Path, config: &VqaConfig) -> VqaError {
    let questions = VqaDataset::<f32>::open(path, config).unwrap();
    let error = questions.item(0).unwrap_err();
    assert!(error.to_string().contains("vqa.jsonl"), "{error}");
    assert!(error.to_string().contains("record 0"), "{error}");
    error
}

#[test]
fn images_come_as_planes_of_either_kind() {
    let (_folder, path) = set(&ask("a.png"));
    let item = VqaDataset::<u8>::open(&path, &VqaConfig::new())
        .unwrap()
        .item(0)
        .unwrap();
    assert_eq!((item.height, item.width), (2, 3));
    assert_eq!(item.image[..6], [255; 6]);
    assert_eq!(item.image[6..12], [0, 51, 102, 0, 51, 102]);
    assert_eq!(item.image[12..], [0, 0, 0, 51, 51, 51]);
    assert_eq!(
        (item.question.as_str(), item.answers.as_slice()),
        ("?", &["!".into()][..])
    );

    let same = VqaDataset::<f32>::open(&path, &VqaConfig::new())
        .unwrap()
        .item(0)
        .unwrap();
    let scaled: Vec<_> = item
        .image
        .iter()
        .map(|value| f32::from(*value) / 255.0)
        .collect();
    assert_eq!(same.image, scaled);
}

#[rstest]
#[case::text(r#""two""#, &["two"])]
#[case::number("2", &["2"])]
#[case::negative("-2", &["-2"])]
#[case::fraction("2.5", &["2.5"])]
#[case::boolean("true", &["true"])]
#[case::list(r#"["two", 2, false]"#, &["two", "2", "false"])]
#[case::empty_list("[]", &[])]
#[case::object(r#"{"answer": "two", "answer_id": 1}"#, &["two"])]
#[case::objects(r#"[{"answer": "two", "answer_confidence": "yes"}, {"x": [{}], "answer": 2}]"#, &["two", "2"])]
fn answers_are_one_or_many(#[case] answer: &str, #[case] expected: &[&str]) {
    let text =
        format!(r#"{{"id": [1, {{}}], "answer": {answer}, "image": "a.png", "question": "?"}}"#);
    let (_folder, path) = set(&text);
    let questions = VqaDataset::<u8>::open(path, &VqaConfig::new()).unwrap();
    assert_eq!(questions.record(0).unwrap().answers, expected);
}

#[rstest]
#[case::no_question(
    r#"{"image": "a.png", "answer": "!"}"#,
    "the field `question` is missing"
)]
#[case::no_answer(
    r#"{"image": "a.png", "question": "?"}"#,
    "the field `answer` is missing"
)]
#[case::two_images(
    r#"{"image": "a.png", "image": "b.png"}"#,
    "the field `image` stands twice"
)]
#[case::image_is_no_text(r#"{"image": 3}"#, "invalid type: integer `3`, expected a string")]
#[case::no_object("[1, 2]", "expected an object with the fields `image` and `question`")]
#[case::list_of_lists(
    r#"{"answer": [["!"]]}"#,
    "expected an answer: text, a number, true or false"
)]
#[case::answer_is_an_object(r#"{"answer": {}}"#, "or a list of answers")]
#[case::answer_has_no_answer(r#"{"answer": [{"text": "!"}]}"#, "or an object with `answer`")]
#[case::answer_within_answer(
    r#"{"answer": {"answer": {"answer": "!"}}}"#,
    "expected an answer: text, a number, true or false"
)]
#[case::two_answers(
    r#"{"answer": {"answer": 1, "answer": 2}}"#,
    "the field `answer` stands twice"
)]
fn records_that_are_no_questions_are_named(#[case] text: &str, #[case] reason: &str) {
    let (_folder, path) = set(text);
    let VqaError::Record(JsonlError::Parse { source, .. }) = error(&path, &VqaConfig::new()) else {
        panic!("another error");
    };
    assert!(source.to_string().contains(reason), "{source}");
}

#[test]
fn fields_may_have_other_names_and_answers_be_absent() {
    let (_folder, path) = set(r#"{"img": "a.png", "q": "?", "answer": 1}"#);
    let config = VqaConfig::new()
        .with_image_field("img".into())
        .with_question_field("q".into())
        .with_answer_field(None);
    let item = VqaDataset::<u8>::open(path, &config)
        .unwrap()
        .item(0)
        .unwrap();
    assert_eq!((item.question.as_str(), item.answers.len()), ("?", 0));
}

#[test]
fn a_missing_image_is_named() {
    let (_folder, path) = set(&ask("b.png"));
    let error = error(&path, &VqaConfig::new());
    assert!(matches!(error, VqaError::MissingImage { .. }), "{error}");
    assert!(error.to_string().contains("b.png"), "{error}");
}

#[test]
fn an_image_of_another_size_is_named_before_it_is_decoded() {
    let (folder, path) = set(&ask("a.png"));
    let config = VqaConfig::new().with_image_size(Some([3, 2]));
    // Without its last bytes only the header can be read.
    let bytes = fs::read(folder.path().join("a.png")).unwrap();
    fs::write(folder.path().join("a.png"), &bytes[..bytes.len() - 20]).unwrap();
    let error = error(&path, &config);
    assert!(matches!(error, VqaError::SizeDiffers { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("is 2×3 pixels (height × width), expected is 3×2"),
        "{error}"
    );
}

#[test]
fn an_image_above_the_limit_is_named() {
    let (_folder, path) = set(&ask("a.png"));
    let open = |max| VqaConfig::new().with_max_image_bytes(max);
    let error = error(&path, &open(71));
    assert!(
        matches!(
            error,
            VqaError::TooLarge {
                needed: 72,
                allowed: 71,
                ..
            }
        ),
        "{error}"
    );
    let questions = VqaDataset::<f32>::open(&path, &open(72)).unwrap();
    questions.item(0).unwrap();
}

#[test]
fn a_damaged_image_is_named() {
    let (folder, path) = set(&ask("a.png"));
    fs::write(folder.path().join("a.png"), "no image").unwrap();
    let error = error(&path, &VqaConfig::new());
    assert!(matches!(error, VqaError::Image { .. }), "{error}");
}

#[test]
fn a_folder_is_no_image() {
    let (_folder, path) = set(&ask("."));
    let error = error(&path, &VqaConfig::new());
    assert!(matches!(error, VqaError::NotAFile { .. }), "{error}");
}

#[test]
fn images_outside_the_root_are_refused_unless_allowed() {
    let (folder, _) = set("");
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).unwrap();
    let absolute = folder.path().join("a.png");
    for image in ["../a.png", absolute.to_str().unwrap()] {
        let path = inner.join("vqa.jsonl");
        fs::write(&path, ask(&image.replace('\\', "\\\\"))).unwrap();
        let error = error(&path, &VqaConfig::new());
        assert!(matches!(error, VqaError::OutsideRoot { .. }), "{error}");
        let config = VqaConfig::new().with_allow_outside_root(true);
        VqaDataset::<u8>::open(&path, &config)
            .unwrap()
            .item(0)
            .unwrap();
    }
}

#[test]
fn images_may_start_from_another_root() {
    let (folder, path) = set(&ask("x/../b.png"));
    fs::create_dir(folder.path().join("images")).unwrap();
    write_image(&folder.path().join("images/b.png"));
    let config = VqaConfig::new().with_root(Some(folder.path().join("images")));
    let item = VqaDataset::<u8>::open(path, &config)
        .unwrap()
        .item(0)
        .unwrap();
    assert_eq!(item.image_path, folder.path().join("images/b.png"));
}

#[test]
fn items_cost_their_image_and_their_text() {
    let text = ask("a.png");
    let (folder, path) = set(&text);
    let cost = |config| {
        let questions = VqaDataset::<u8>::open(&path, &config).unwrap();
        questions.item_bytes(0) - text.len() as u64 - size_of::<VqaItem<u8>>() as u64
    };
    assert_eq!(cost(VqaConfig::new()), 18);
    assert_eq!(cost(VqaConfig::new().with_image_size(Some([2, 3]))), 18);
    fs::remove_file(folder.path().join("a.png")).unwrap();
    assert_eq!(cost(VqaConfig::new()), 0);
}

#[test]
fn compressed_questions_are_read_as_a_stream() {
    let folder = tempfile::tempdir().unwrap();
    let path = VqaSetConfig::new(5).write(folder.path()).unwrap();
    let compressed = folder.path().join("vqa.jsonl.gz");
    let file = File::create(&compressed).unwrap();
    let mut encoder = GzEncoder::new(file, Compression::fast());
    encoder.write_all(&fs::read(&path).unwrap()).unwrap();
    encoder.finish().unwrap();

    let config = VqaConfig::new();
    let dataset = VqaDataset::<f32>::open(&path, &config).unwrap();
    let stream = VqaStream::<f32>::open(&compressed, &config).unwrap();
    let records: Vec<_> = stream.records(2).unwrap().map(Result::unwrap).collect();
    assert_eq!(records.len(), 3);
    for (index, record) in (2..5).zip(records) {
        // The index counts the line feed as well.
        assert_eq!(dataset.item_bytes(index), stream.item_bytes(&record) + 1);
        let item = stream.load(record).unwrap();
        assert_eq!(item, dataset.get(index).unwrap());
    }
}
