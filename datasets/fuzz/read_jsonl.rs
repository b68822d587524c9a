//! What is done with hostile text, by `cargo fuzz` and by the workspace's tests.

use std::{ops::Range, path::Path};

use burn_memopt_datasets::jsonl::{JsonlError, JsonlIndex, JsonlRecord, Line};
use serde_json::Value;

/// Bytes of the longest line that is read.
const MAX_LINE_LEN: usize = 256;

/// Reads every record of `text` by an index of at most `max_offsets` offsets, and compares with
/// what reading it whole finds. Returns how many records were parsed.
///
/// # Panics
/// If they differ, or an error does not name its place.
pub fn read(text: &[u8], max_offsets: usize) -> usize {
    let mut num_parsed = 0;
    let index = JsonlIndex::build(text, max_offsets).expect("memory can be read");
    let expected = plain_lines(text);
    assert_eq!(index.num_records(), expected.len() as u64);
    assert!(index.bytes() <= 8 * max_offsets as u64);
    let open = |range: Range<u64>| &text[range.start as usize..range.end as usize];
    for (record, expected) in (0..).zip(expected) {
        assert!(index.record_len(record) > 0);
        let line = index.read(record, MAX_LINE_LEN, open);
        let line = line.expect("memory can be read");
        match line.expect("the record is where it was") {
            Line::Text { offset, bytes } => {
                assert_eq!(bytes, expected);
                assert!(text[offset as usize..].starts_with(expected));
                num_parsed += usize::from(parse(record, offset, bytes));
            }
            Line::TooLong { offset } => {
                assert!(expected.len() > MAX_LINE_LEN);
                assert!(text[offset as usize..].starts_with(expected));
            }
        }
    }
    num_parsed
}

/// The lines that hold something, found the simple way.
fn plain_lines(text: &[u8]) -> Vec<&[u8]> {
    let is_space = |byte: &u8| b" \t\r\n".contains(byte);
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    text.split(|byte| *byte == b'\n')
        .filter_map(|line| Some(&line[line.iter().position(|byte| !is_space(byte))?..]))
        .collect()
}

/// Parses a record and compares with the parser alone; `false` if both refuse it.
fn parse(number: u64, offset: u64, text: Vec<u8>) -> bool {
    let expected = str::from_utf8(&text).ok().map(serde_json::from_str);
    let expected = expected.and_then(Result::<Value, _>::ok);
    let record = JsonlRecord {
        number,
        offset,
        text,
    };
    let found = record.parse::<Value>(Path::new("hostile.jsonl"));
    if let Err(error) = &found {
        let place = match error {
            JsonlError::JsonArray { .. } => "hostile.jsonl: the file is a JSON array".into(),
            _ => format!("hostile.jsonl: record {number} at byte {offset} is not"),
        };
        assert!(error.to_string().starts_with(&place), "{error}");
    }
    assert_eq!(found.ok(), expected);
    expected.is_some()
}
