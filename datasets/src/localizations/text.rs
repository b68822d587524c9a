//! The text of a table: its encoding, its delimiter, the lines before its header, and what its columns
//! mean by the names that programs give them.

use std::io;

use csv::StringRecord;
use serde_json::Value;

use super::{Field, OPTIONAL};

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

/// What the numbers of a column measure.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Quantity {
    /// A distance along x (0) or y (1), in pixels or nanometres.
    Length {
        axis: usize,
    },
    Photons,
    /// Something that is read as it is written.
    Other,
}

/// Other names of a column of [`OPTIONAL`], with its quantity. A name that is only known with a
/// unit ends in `[]`.
fn names(field: &str) -> (&'static [&'static str], Quantity) {
    let along = |axis| Quantity::Length { axis };
    match field {
        "photons" => (&["phot", "intensity[]"], Quantity::Photons),
        "photons_sd" => (&["phot_sig"], Quantity::Photons),
        "bg" => (&["offset[]"], Quantity::Photons),
        "sx" => (&["sigma", "sigma1"], along(0)),
        "sy" => (&["sigma", "sigma2"], along(1)),
        "lpx" => (&["x_sig", "uncertainty_xy", "uncertainty"], along(0)),
        "lpy" => (&["y_sig", "uncertainty_xy", "uncertainty"], along(1)),
        "lpz" => (&["z_sig", "uncertainty_z"], Quantity::Other),
        _ => (&[], Quantity::Other),
    }
}

/// A column, and how its numbers become values of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Column {
    pub index: usize,
    /// The axis of a length in nanometres, which becomes pixels.
    pub nanometres: Option<usize>,
}

/// Where each column is.
#[derive(Debug)]
pub(super) struct Columns {
    pub frame: usize,
    pub x: Column,
    pub y: Column,
    /// In the order of [`OPTIONAL`].
    pub optional: Vec<(Column, Field, &'static str)>,
    /// Whether the header is that of ThunderSTORM: units in brackets, frames from 1, and positions
    /// in nanometres from the edge of the first pixel.
    pub is_thunderstorm: bool,
}

impl Columns {
    /// Finds the columns in a header; lengths without a unit are in nanometres if `is_nanometres`.
    ///
    /// # Errors
    /// If needed columns are missing: their names.
    pub(super) fn find(header: &StringRecord, is_nanometres: bool) -> Result<Self, Vec<String>> {
        let header: Vec<(String, Option<String>)> = header.iter().map(split_unit).collect();
        let find = |name: &str, quantity| {
            let (name, needs_unit) = match name.strip_suffix("[]") {
                Some(name) => (name, true),
                None => (name, false),
            };
            header
                .iter()
                .enumerate()
                .find_map(|(index, (other, unit))| {
                    if other != name || (needs_unit && unit.is_none()) {
                        return None;
                    }
                    let nanometres = fits(quantity, unit.as_deref(), is_nanometres)?;
                    Some(Column { index, nanometres })
                })
        };
        let mut missing = Vec::new();
        let mut need = |names: &[&str], quantity| {
            let found = names.iter().find_map(|name| find(name, quantity));
            found.unwrap_or_else(|| {
                missing.push(names[0].to_string());
                Column {
                    index: 0,
                    nanometres: None,
                }
            })
        };
        let frame = need(&["frame", "frame_ix"], Quantity::Other).index;
        let x = need(&["x"], Quantity::Length { axis: 0 });
        let y = need(&["y"], Quantity::Length { axis: 1 });
        if !missing.is_empty() {
            return Err(missing);
        }
        let optional = OPTIONAL.into_iter().filter_map(|(name, field)| {
            let (others, quantity) = names(name);
            let mut names = std::iter::once(name).chain(others.iter().copied());
            let column = names.find_map(|name| find(name, quantity))?;
            Some((column, field, name))
        });
        Ok(Self {
            frame,
            x,
            y,
            optional: optional.collect(),
            is_thunderstorm: header[x.index].1.is_some(),
        })
    }

    /// The first column of lengths in nanometres, which have to become pixels.
    pub(super) fn in_nanometres(&self) -> Option<usize> {
        let optional = self.optional.iter().map(|(column, ..)| *column);
        let mut all = [self.x, self.y].into_iter().chain(optional);
        let found = all.find(|column| column.nanometres.is_some())?;
        Some(found.index)
    }
}

/// The name of a column in lower case, and its unit: `x [nm]` is `x` in `nm`.
fn split_unit(text: &str) -> (String, Option<String>) {
    let text = text.trim().to_lowercase();
    match text.strip_suffix(']').and_then(|text| text.split_once('[')) {
        Some((name, unit)) => (name.trim().to_owned(), Some(unit.trim().to_owned())),
        None => (text, None),
    }
}

/// Whether numbers in `unit` can be read as `quantity`: the axis if they are nanometres to be made
/// pixels, and `None` for a unit that is not known.
fn fits(quantity: Quantity, unit: Option<&str>, is_nanometres: bool) -> Option<Option<usize>> {
    match (quantity, unit) {
        (Quantity::Length { axis }, Some("nm")) => Some(Some(axis)),
        (Quantity::Length { .. }, Some("px" | "pixel" | "pixels")) => Some(None),
        (Quantity::Length { axis }, None) => Some(is_nanometres.then_some(axis)),
        (Quantity::Photons, None | Some("photon" | "photons")) => Some(None),
        (Quantity::Other, None | Some("nm")) => Some(None),
        _ => None,
    }
}
