use std::fs;

use proptest::prelude::*;
use rstest::rstest;

use super::*;

/// Reads record `record` of `text`.
fn read(index: &JsonlIndex, text: &[u8], record: u64) -> Line {
    let open = |range: Range<u64>| &text[range.start as usize..range.end as usize];
    index.read(record, 1 << 10, open).unwrap().unwrap()
}

/// All records of `text`, through an index of at most `max_offsets` offsets.
fn records(text: &[u8], max_offsets: usize) -> Vec<String> {
    let index = JsonlIndex::build(text, max_offsets).unwrap();
    let record = |record| match read(&index, text, record) {
        Line::Text { offset, bytes } => {
            assert!(text[offset as usize..].starts_with(&bytes));
            String::from_utf8(bytes).unwrap()
        }
        Line::TooLong { offset } => panic!("the record at {offset} is too long"),
    };
    (0..index.num_records()).map(record).collect()
}

#[rstest]
#[case::empty("", &[])]
#[case::no_final_newline("1\n2", &["1", "2"])]
#[case::final_newline("1\n2\n", &["1", "2"])]
#[case::carriage_returns("1\r\n2\r\n", &["1\r", "2\r"])]
#[case::blank_lines("\n\n1\n \t\r\n\n2\n\n \n", &["1", "2"])]
#[case::indented("  1\n\t2", &["1", "2"])]
#[case::byte_order_mark("\u{feff}1\n2", &["1", "2"])]
#[case::only_a_byte_order_mark("\u{feff}", &[])]
#[case::blank_line_after_the_mark("\u{feff}\n1", &["1"])]
#[case::mark_in_the_middle("1\n\u{feff}2", &["1", "\u{feff}2"])]
#[case::lone_carriage_return("1\r2", &["1\r2"])]
fn records_are_lines_that_hold_something(#[case] text: &str, #[case] expected: &[&str]) {
    for max_offsets in [1, 2, 1000] {
        assert_eq!(records(text.as_bytes(), max_offsets), expected);
    }
}

#[test]
fn lines_above_the_limit_are_named_and_cost_nothing() {
    let text = b"{}\n123456789\n[]";
    let index = JsonlIndex::build(&text[..], 10).unwrap();
    let read = |record, max_len| {
        let open = |range: Range<u64>| &text[range.start as usize..range.end as usize];
        index.read(record, max_len, open).unwrap().unwrap()
    };
    assert_eq!(read(1, 8), Line::TooLong { offset: 3 });
    assert!(matches!(read(1, 9), Line::Text { offset: 3, .. }));
    assert!(matches!(read(2, 8), Line::Text { offset: 13, .. }));
}

#[test]
fn a_source_that_became_shorter_has_no_record_there() {
    let index = JsonlIndex::build(&b"1\n2\n3\n"[..], 10).unwrap();
    assert_eq!(index.read(2, 10, |_| &b""[..]).unwrap(), None);
}

#[test]
fn memory_is_eight_bytes_a_record_up_to_the_limit() {
    let text = "{}\n".repeat(1000);
    let bytes = |max_offsets| {
        let index = JsonlIndex::build(text.as_bytes(), max_offsets).unwrap();
        assert_eq!(index.num_records(), 1000);
        index.bytes()
    };
    assert_eq!(bytes(1000), 8000);
    assert_eq!(bytes(999), 4000);
    assert!((32..=64).contains(&bytes(8)));
    assert_eq!(bytes(1), 8);
}

#[test]
fn lengths_are_exact_or_means_of_neighbours() {
    let text = b"1\n22\n333\n4444";
    let lengths = |max_offsets| {
        let index = JsonlIndex::build(&text[..], max_offsets).unwrap();
        (0..4)
            .map(|record| index.record_len(record))
            .collect::<Vec<_>>()
    };
    assert_eq!(lengths(4), [2, 3, 4, 4]);
    assert_eq!(lengths(2), [3, 3, 4, 4]);
}

#[test]
#[should_panic(expected = "record must be below 1, got 1")]
fn records_behind_the_last_are_refused() {
    let index = JsonlIndex::build(&b"{}"[..], 1).unwrap();
    let _ = index.record_len(1);
}

proptest! {
    #[test]
    fn any_text_is_read_back_line_by_line(
        lines in prop::collection::vec("[ \ta\u{e9}\"{}]{0,6}", 0..40),
        has_end in any::<bool>(),
        max_offsets in 1_usize..50,
    ) {
        let text = lines.join("\n") + if has_end { "\n" } else { "" };
        let space = [' ', '\t'];
        let expected: Vec<_> = lines
            .iter()
            .map(|line| line.trim_start_matches(space))
            .filter(|line| !line.is_empty())
            .collect();
        prop_assert_eq!(records(text.as_bytes(), max_offsets), expected);
    }
}

const LIMIT: usize = 100;

fn stamp(len: u64) -> FileStamp {
    FileStamp {
        len,
        modified: Duration::new(7, 9),
    }
}

fn index() -> JsonlIndex {
    JsonlIndex::build(&b"1\n22\n333\n"[..], LIMIT).unwrap()
}

#[test]
fn an_index_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    save(&path, stamp(9), &index()).unwrap();
    assert_eq!(load(&path, stamp(9), LIMIT), Some(index()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_index_of_another_text_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    save(&path, stamp(9), &index()).unwrap();
    assert_eq!(load(&path, stamp(8), LIMIT), None);
    let later = FileStamp {
        modified: Duration::new(7, 10),
        ..stamp(9)
    };
    assert_eq!(load(&path, later, LIMIT), None);
    assert_eq!(load(&path, stamp(9), 2), None, "above the limit");
    assert_eq!(load(&folder.path().join("none"), stamp(9), LIMIT), None);
}

#[test]
fn a_damaged_index_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    save(&path, stamp(9), &index()).unwrap();
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        assert_eq!(load(&path, stamp(9), LIMIT), None, "byte {at} changed");
        fs::write(&path, &whole[..at]).unwrap();
        assert_eq!(load(&path, stamp(9), LIMIT), None, "cut after {at} bytes");
    }
}

#[rstest]
#[case::no_stride(|index: &mut JsonlIndex| index.stride = 0)]
#[case::more_records_than_offsets(|index: &mut JsonlIndex| index.num_records = 1 << 60)]
#[case::offsets_out_of_order(|index: &mut JsonlIndex| index.offsets.swap(0, 1))]
#[case::offset_behind_the_end(|index: &mut JsonlIndex| index.offsets[2] = 9)]
fn an_index_that_leads_astray_is_not_taken(#[case] spoil: fn(&mut JsonlIndex)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let mut index = index();
    spoil(&mut index);
    save(&path, stamp(9), &index).unwrap();
    assert_eq!(load(&path, stamp(9), LIMIT), None);
}
