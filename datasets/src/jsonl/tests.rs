use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    thread,
};

use burn::data::dataset::Dataset;
use flate2::{Compression, write::GzEncoder};
use rstest::rstest;
use tempfile::TempDir;

use super::*;
use crate::{lazy::LazyDataset, stream::StreamingDataset};

/// A file of these bytes.
fn file(bytes: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data.jsonl");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

/// Short lines that follow each other.
fn numbers(count: u32) -> String {
    (0..count).map(|number| format!("{number}\n")).collect()
}

/// The items of a stream from `start` on, and the texts of its errors.
fn stream(path: &Path, config: &JsonlConfig, start: u64) -> Vec<Result<u32, String>> {
    let stream = JsonlStream::<u32>::open_with(path, config).unwrap();
    let items = stream.records(start).unwrap();
    items
        .map(|record| stream.load(record?))
        .map(|item| item.map_err(|error| error.to_string()))
        .collect()
}

#[rstest]
#[case::no_final_newline("10\n11\n12")]
#[case::final_newline("10\n11\n12\n")]
#[case::carriage_returns("10\r\n11\r\n12\r\n")]
#[case::byte_order_mark_and_blank_lines("\u{feff}10\n\n \n11\n12\n\n")]
fn every_way_to_read_finds_the_same_records(#[case] text: &str) {
    let (_folder, plain) = file(text);
    let (_folder_gzip, compressed) = file(gzip(text));
    let dataset = JsonlDataset::<u32>::open(&plain).unwrap();
    let items: Vec<_> = dataset.iter().map(Result::unwrap).collect();
    assert_eq!(items, [10, 11, 12]);
    for path in [plain, compressed] {
        let items = stream(&path, &JsonlConfig::new(), 0);
        assert_eq!(items, [Ok(10), Ok(11), Ok(12)]);
    }
}

#[test]
fn invalid_utf8_is_named_and_concerns_its_record_alone() {
    let (_folder, path) = file(b"1\n\"a\xff\"\n3\n");
    let dataset = JsonlDataset::<u32>::open(&path).unwrap();
    let error = dataset.item(1).unwrap_err();
    let JsonlError::Utf8 {
        record,
        offset,
        ref source,
        ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((record, offset, source.valid_up_to()), (1, 2, 2));
    let text = error.to_string();
    assert!(
        text.contains("data.jsonl: record 1 at byte 2 is not UTF-8"),
        "{text}"
    );
    assert_eq!(dataset.item(2).unwrap(), 3);
    let items = stream(&path, &JsonlConfig::new(), 0);
    assert_eq!(items, [Ok(1), Err(text), Ok(3)]);
}

#[rstest]
#[case::not_json("1\n{\n3\n")]
#[case::two_values("1\n2 2\n3\n")]
#[case::another_type("1\n\"two\"\n3\n")]
fn invalid_json_is_named_and_concerns_its_record_alone(#[case] text: &str) {
    let (_folder, path) = file(text);
    let dataset = JsonlDataset::<u32>::open(&path).unwrap();
    let error = dataset.item(1).unwrap_err();
    assert!(
        matches!(
            error,
            JsonlError::Parse {
                record: 1,
                offset: 2,
                ..
            }
        ),
        "{error}"
    );
    let items = stream(&path, &JsonlConfig::new(), 0);
    assert_eq!(items, [Ok(1), Err(error.to_string()), Ok(3)]);
}

#[test]
fn lines_longer_than_the_limit_are_named_and_keep_their_numbers() {
    let text = format!("1\n{}\n3\n", "2".repeat(300_000));
    let config = JsonlConfig::new().with_max_line_len(100);
    let (_folder, plain) = file(&text);
    let (_folder_gzip, compressed) = file(gzip(&text));
    let dataset = JsonlDataset::<u32>::open_with(&plain, &config).unwrap();
    let error = dataset.item(1).unwrap_err();
    assert!(
        matches!(
            error,
            JsonlError::TooLong {
                record: 1,
                offset: 2,
                max_line_len: 100,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(dataset.item(2).unwrap(), 3);
    for path in [plain, compressed] {
        let items = stream(&path, &config, 0);
        let error = items[1].as_ref().unwrap_err();
        assert!(
            error.contains("record 1 at byte 2 is longer than the limit of 100 bytes"),
            "{error}"
        );
        assert_eq!((&items[0], &items[2], items.len()), (&Ok(1), &Ok(3), 3));
        assert_eq!(stream(&path, &config, 2), [Ok(3)]);
    }
}

#[test]
fn a_truncated_gzip_file_gives_its_whole_records_and_names_the_one_it_ends_in() {
    // Lines that do not compress, so that some of them come before the cut.
    let line = |seed: u32| seed.wrapping_mul(2_654_435_761).to_string() + "\n";
    let text: String = (0..2000).map(line).collect();
    let bytes = gzip(&text);
    let (_folder, path) = file(&bytes[..bytes.len() / 2]);
    let items = stream(&path, &JsonlConfig::new(), 0);
    let (last, whole) = items.split_last().unwrap();
    assert!(whole.len() > 100);
    for (item, expected) in whole.iter().zip(text.lines()) {
        assert_eq!(item.as_ref().unwrap().to_string(), expected);
    }
    let error = last.as_ref().unwrap_err();
    let expected = format!(
        "the gzip file is truncated: it ends in record {}",
        whole.len()
    );
    assert!(error.contains(&expected), "{error}");
    // The same for who wants only what lies behind.
    let items = stream(&path, &JsonlConfig::new(), 1999);
    assert_eq!(items, [Err(error.clone())]);
}

#[test]
fn a_gzip_file_without_any_data_is_truncated() {
    let (_folder, path) = file([0x1f, 0x8b]);
    let error = JsonlStream::<u32>::open(&path).unwrap_err();
    assert!(
        matches!(
            error,
            JsonlError::Truncated {
                record: 0,
                offset: 0,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn damaged_gzip_data_end_the_stream_with_an_error() {
    let mut bytes = gzip(&numbers(1000));
    let at = bytes.len() - 6;
    bytes[at] ^= 1; // the checksum
    let (_folder, path) = file(bytes);
    let items = stream(&path, &JsonlConfig::new(), 0);
    assert_eq!(items.len(), 1001);
    let error = items[1000].as_ref().unwrap_err();
    assert!(error.contains("cannot read record 1000"), "{error}");
}

#[test]
fn streams_start_anywhere_and_go_through_every_member_of_a_gzip_file() {
    let text = numbers(40_000);
    let (first, second) = text.split_at(77_777);
    let (_folder, compressed) = file([gzip(first), gzip(second)].concat());
    let (_folder_plain, plain) = file(&text);
    for path in [plain, compressed] {
        for start in [0, 1, 17_000, 39_999, 40_000, 1 << 40] {
            let items = stream(&path, &JsonlConfig::new(), start);
            let numbers = items.into_iter().map(|item| u64::from(item.unwrap()));
            assert!(numbers.eq(start..40_000), "{} from {start}", path.display());
        }
    }
}

#[test]
fn threads_read_side_by_side() {
    let (_folder, path) = file(numbers(2000));
    // Few offsets, so that records lie behind others.
    let config = JsonlConfig::new().with_max_offsets(100);
    let dataset = JsonlDataset::<u32>::open_with(&path, &config).unwrap();
    thread::scope(|scope| {
        for first in 0..4 {
            let dataset = &dataset;
            scope.spawn(move || {
                for index in (first..2000).step_by(4) {
                    assert_eq!(dataset.item(index).unwrap(), index as u32);
                }
            });
        }
    });
}

#[test]
fn a_file_that_became_shorter_is_named() {
    let (_folder, path) = file(numbers(10));
    let dataset = JsonlDataset::<u32>::open(&path).unwrap();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(4)
        .unwrap();
    assert_eq!(dataset.item(1).unwrap(), 1);
    let error = dataset.item(5).unwrap_err();
    assert!(
        matches!(
            error,
            JsonlError::Changed {
                record: 5,
                offset: 10,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    for error in [
        JsonlDataset::<u32>::open("nowhere.jsonl").unwrap_err(),
        JsonlStream::<u32>::open("nowhere.jsonl").unwrap_err(),
    ] {
        assert!(
            error.to_string().contains("cannot open nowhere.jsonl"),
            "{error}"
        );
    }
}

#[test]
fn items_cost_their_text_and_their_fields() {
    let (_folder, path) = file("1\n22\n333");
    let dataset = JsonlDataset::<u32>::open(&path).unwrap();
    let bytes = [0, 1, 2].map(|index| dataset.item_bytes(index));
    assert_eq!(bytes, [2 + 4, 3 + 4, 3 + 4]);
}

#[test]
fn a_saved_index_is_used_while_the_text_is_the_same() {
    let (folder, path) = file("1\n2\n3\n");
    let config = JsonlConfig::new().with_saved_index(Some(folder.path().join("data.index")));
    let open = || JsonlDataset::<u32>::open_with(&path, &config).unwrap();
    assert_eq!(open().len(), 3);
    // Another text that pretends to be the same shows which index is used.
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "1\n2222").unwrap();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(written)
        .unwrap();
    assert_eq!(open().len(), 3);
    fs::write(&path, "1\n2\n3\n4\n").unwrap();
    assert_eq!(open().item(3).unwrap(), 4);
}

#[test]
fn an_index_that_cannot_be_saved_is_named() {
    let (folder, path) = file("1\n");
    let config = JsonlConfig::new().with_saved_index(Some(folder.path().join("none/index")));
    let error = JsonlDataset::<u32>::open_with(&path, &config).unwrap_err();
    assert!(matches!(error, JsonlError::SaveIndex { .. }), "{error}");
}
