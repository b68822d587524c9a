//! The text of a table: its encoding, its delimiter, and the lines before its header.

use std::io;

use csv::StringRecord;
use serde_json::Value;

use super::columns::Columns;

/// Decodes UTF-8 and UTF-16, with or without a byte order mark.
///
/// Bytes of another encoding become the replacement character: numbers and the names that are
/// searched for are ASCII.
pub(super) fn decode(bytes: Vec<u8>) -> io::Result<String> {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|&pair| unit(pair)).collect();
        let text = String::from_utf16(&units).ok().filter(|_| rest.is_empty());
        text.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "damaged UTF-16"))
    };
    match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        // The first character of a header is ASCII, so one of its bytes is zero.
        [first, 0, ..] if *first != 0 => utf16(&bytes, u16::from_le_bytes),
        [0, second, ..] if *second != 0 => utf16(&bytes, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => Ok(String::from_utf8_lossy(rest).into_owned()),
        _ => Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }),
    }
}

/// How a table is written.
pub(super) struct Layout {
    /// The byte at which the lines begin that the CSV parser reads.
    pub start: usize,
    pub delimiter: u8,
    /// What comment lines say about coordinates.
    pub coordinates: Coordinates,
}

/// Coordinates as DECODE describes them in a comment line.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Coordinates {
    pub is_nanometres: bool,
    /// Nanometres, along x and y.
    pub pixel_size: Option<[f64; 2]>,
}

impl Layout {
    pub(super) fn find(text: &str) -> Self {
        let mut coordinates = Coordinates::default();
        let mut start = 0;
        for line in text.split_inclusive(['\n', '\r']) {
            let trimmed = line.trim().trim_matches('"');
            if let Some(comment) = trimmed.strip_prefix('#') {
                coordinates.add(comment);
            } else if let Some(delimiter) = excel_delimiter(trimmed) {
                start += line.len();
                return Self {
                    start,
                    delimiter,
                    coordinates,
                };
            } else if !trimmed.is_empty() {
                break;
            }
            start += line.len();
        }
        Self {
            start: 0,
            delimiter: delimiter_of(&text[start..]),
            coordinates,
        }
    }
}

impl Coordinates {
    fn add(&mut self, comment: &str) {
        let Ok(description) = serde_json::from_str::<Value>(comment.trim()) else {
            return;
        };
        if let Some(unit) = description.get("xyz_unit").and_then(Value::as_str) {
            self.is_nanometres = unit == "nm";
        }
        let size = description.get("px_size").and_then(Value::as_array);
        if let Some([x, y]) = size.map(Vec::as_slice)
            && let (Some(x), Some(y)) = (x.as_f64(), y.as_f64())
        {
            self.pixel_size = Some([x, y]);
        }
    }
}

/// The delimiter of a line `sep=;`, which Excel puts first.
fn excel_delimiter(line: &str) -> Option<u8> {
    match line.as_bytes() {
        [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', delimiter] => Some(*delimiter),
        _ => None,
    }
}

/// The delimiter with which the header names the needed columns; if none does, the one with the
/// most columns.
fn delimiter_of(text: &str) -> u8 {
    let header = |delimiter: u8| -> StringRecord {
        let mut reader = reader(text, delimiter);
        reader.headers().cloned().unwrap_or_default()
    };
    let mut candidates = [b',', b';', b'\t'].map(|delimiter| (delimiter, header(delimiter)));
    // Stable, so a comma wins where all are equal.
    candidates.sort_by_key(|(_, header)| {
        let is_complete = Columns::find(header, false).is_ok();
        (!is_complete, std::cmp::Reverse(header.len()))
    });
    candidates[0].0
}

/// A parser of the lines in `text`, the first of which is the header.
pub(super) fn reader(text: &str, delimiter: u8) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .comment(Some(b'#'))
        .flexible(true)
        .delimiter(delimiter)
        .from_reader(text.as_bytes())
}
