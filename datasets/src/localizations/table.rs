//! Reading a table, whichever program wrote it.

use std::{borrow::Cow, fs, io, path::Path};

use csv::StringRecord;

use super::{
    Localization, LocalizationError,
    text::{self, Column, Columns, Layout},
};

/// The rows of a table, and where they are in its file.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The emitters.
    pub rows: Vec<Localization>,
    /// The line of each row, from 1.
    pub lines: Vec<u64>,
}

/// Reads a table of pixels or nanometres, in the form of this crate, Picasso, ThunderSTORM or
/// DECODE; `pixel_size` is the side of a pixel in nanometres.
///
/// The delimiter may be a comma, a semicolon or a tab, and the decimal mark a point or a comma.
/// Frames that begin at 1, as those of ThunderSTORM do, are counted from 0. A value besides frame,
/// x and y that is not finite is unknown.
///
/// # Errors
/// As [`read_csv`](super::read_csv), and if the table is in nanometres and no pixel size is known.
pub fn read_table(
    path: impl AsRef<Path>,
    pixel_size: Option<f64>,
) -> Result<Table, LocalizationError> {
    let path = path.as_ref();
    let open = |source: io::Error| LocalizationError::Open {
        path: path.into(),
        source,
    };
    let text = text::decode(fs::read(path).map_err(open)?).map_err(open)?;
    let layout = Layout::find(&text);
    let body = &text[layout.start..];
    let mut reader = text::reader(body, layout.delimiter);
    let row_error = |line, source| LocalizationError::Row {
        path: path.into(),
        line,
        source,
    };
    let header = reader.headers().map_err(|source| row_error(1, source))?;
    let (header, mut lines) = (header.clone(), LineCounter::new(&text, layout.start));
    let header_line = lines.line_before(layout.start + reader.position().byte() as usize);
    let columns = Columns::find(&header, layout.coordinates.is_nanometres).map_err(|missing| {
        LocalizationError::MissingColumns {
            path: path.into(),
            line: header_line,
            missing,
            found: header.iter().map(str::to_string).collect(),
        }
    })?;
    let pixel_size = pixel_size.map(|size| [size; 2]);
    let pixel_size = pixel_size.or(layout.coordinates.pixel_size);
    if let (Some(index), None) = (columns.in_nanometres(), pixel_size) {
        return Err(LocalizationError::NeedsPixelSize {
            path: path.into(),
            line: header_line,
            column: header[index].to_string(),
        });
    }
    let num_fields = num_filled(&header);
    let mut parser = Parser {
        path,
        columns,
        pixel_size: pixel_size.unwrap_or([1.0; 2]),
        first_comma: None,
        has_points: false,
    };
    let mut table = Table {
        rows: Vec::new(),
        lines: Vec::new(),
    };
    let mut record = StringRecord::new();
    loop {
        let read = reader.read_record(&mut record);
        let line = lines.line_before(layout.start + reader.position().byte() as usize);
        if !read.map_err(|source| row_error(line, source))? {
            break;
        }
        let num_found = num_filled(&record);
        if num_found == 0 {
            continue;
        }
        if record.len() < num_fields || num_found > header.len() {
            return Err(LocalizationError::FieldCount {
                path: path.into(),
                line,
                found: record.len(),
                expected: num_fields,
            });
        }
        table.rows.push(parser.parse(&record, line)?);
        table.lines.push(line);
    }
    if let (Some(line), true) = (parser.first_comma, parser.has_points) {
        return Err(LocalizationError::DecimalMarks {
            path: path.into(),
            line,
        });
    }
    let counts_from_one = parser.columns.is_thunderstorm;
    // Some programs write this header with frames from 0.
    if counts_from_one && table.rows.iter().all(|row| row.frame > 0) {
        table.rows.iter_mut().for_each(|row| row.frame -= 1);
    }
    Ok(table)
}

/// Fields up to the last that is not empty.
fn num_filled(record: &StringRecord) -> usize {
    let filled = |&index: &usize| !record[index].is_empty();
    (0..record.len())
        .rev()
        .find(filled)
        .map_or(0, |last| last + 1)
}

/// Counts lines; the parser leaves the line feed of `"\r\n"` to the next record.
struct LineCounter<'a> {
    text: &'a str,
    counted: usize,
    line: u64,
}

impl<'a> LineCounter<'a> {
    fn new(text: &'a str, start: usize) -> Self {
        let mut counter = Self {
            text,
            counted: 0,
            line: 1,
        };
        counter.line_before(start);
        counter
    }

    /// The line of the record that ends at byte `end`.
    fn line_before(&mut self, end: usize) -> u64 {
        let count = |bytes: &[u8]| bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
        let passed = &self.text.as_bytes()[self.counted..end];
        let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let content = passed.iter().rposition(|byte| !is_break(byte));
        let content = content.map_or(0, |last| last + 1);
        let line = self.line + count(&passed[..content]);
        self.line += count(passed);
        self.counted = end;
        line
    }
}

struct Parser<'a> {
    path: &'a Path,
    columns: Columns,
    /// Nanometres along x and y.
    pixel_size: [f64; 2],
    /// The first line with a comma in a number.
    first_comma: Option<u64>,
    has_points: bool,
}

impl Parser<'_> {
    fn parse(
        &mut self,
        record: &StringRecord,
        line: u64,
    ) -> Result<Localization, LocalizationError> {
        let frame = self.frame(record, line)?;
        let x = self.position("x", record, self.columns.x, line)?;
        let y = self.position("y", record, self.columns.y, line)?;
        let mut row = Localization::new(frame, x, y);
        for index in 0..self.columns.optional.len() {
            let (column, field, name) = self.columns.optional[index];
            if !record[column.index].is_empty() {
                let value = self.number(name, record, column, line)?;
                *field(&mut row) = value.is_finite().then_some(value);
            }
        }
        Ok(row)
    }

    /// A frame number; some programs write it as `11.0`.
    fn frame(&mut self, record: &StringRecord, line: u64) -> Result<usize, LocalizationError> {
        let text = &record[self.columns.frame];
        let whole = text.parse::<usize>().ok().or_else(|| {
            let number = self.with_point(text, line).parse::<f64>().ok()?;
            let exact = number >= 0.0 && number.fract() == 0.0 && number < 2f64.powi(53);
            exact.then_some(number as usize)
        });
        whole.ok_or_else(|| self.error("frame", text, "a whole number of at least 0", line))
    }

    fn position(
        &mut self,
        name: &str,
        record: &StringRecord,
        column: Column,
        line: u64,
    ) -> Result<f32, LocalizationError> {
        let number = self.number(name, record, column, line)?;
        if !number.is_finite() {
            return Err(self.error(name, &record[column.index], "a finite number", line));
        }
        let from_edge = self.columns.is_thunderstorm && column.nanometres.is_some();
        Ok(if from_edge { number - 0.5 } else { number })
    }

    /// A number; a length in pixels, from the origin that the table has.
    fn number(
        &mut self,
        name: &str,
        record: &StringRecord,
        column: Column,
        line: u64,
    ) -> Result<f32, LocalizationError> {
        let text = &record[column.index];
        let number = self.with_point(text, line);
        let number = match column.nanometres {
            None => number.parse::<f32>().ok(),
            Some(axis) => {
                let length = number.parse::<f64>().ok();
                length.map(|length| (length / self.pixel_size[axis]) as f32)
            }
        };
        number.ok_or_else(|| self.error(name, text, "a finite number", line))
    }

    /// A number with a point where it may have a comma.
    fn with_point<'t>(&mut self, text: &'t str, line: u64) -> Cow<'t, str> {
        self.has_points |= text.contains('.');
        if !text.contains(',') {
            return text.into();
        }
        self.first_comma.get_or_insert(line);
        text.replace(',', ".").into()
    }

    fn error(&self, name: &str, value: &str, rule: &'static str, line: u64) -> LocalizationError {
        LocalizationError::Value {
            path: self.path.into(),
            line,
            column: name.to_string(),
            rule,
            value: value.to_string(),
        }
    }
}
