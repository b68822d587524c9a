//! Tables of localized emitters: one row for each emitter and frame.

mod table;
mod text;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use table::{Table, read_table};

/// One emitter in one frame.
///
/// Positions are in pixels; the centre of the first pixel is at 0.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Localization {
    /// Frame of the stack, from 0.
    pub frame: usize,
    /// Column in pixels.
    pub x: f32,
    /// Row in pixels.
    pub y: f32,
    /// Photons collected from the emitter in this frame, where known.
    pub photons: Option<f32>,
    /// Standard deviation of the spot along x in pixels, where known.
    pub sx: Option<f32>,
    /// Standard deviation of the spot along y in pixels, where known.
    pub sy: Option<f32>,
    /// Background in photons a pixel, where known.
    pub bg: Option<f32>,
    /// Position along the optical axis, where known.
    pub z: Option<f32>,
    /// Standard deviation of the estimate of `x` in pixels, where known.
    pub lpx: Option<f32>,
    /// Standard deviation of the estimate of `y` in pixels, where known.
    pub lpy: Option<f32>,
    /// Standard deviation of the estimate of `z`, where known.
    pub lpz: Option<f32>,
    /// Standard deviation of the estimate of `photons`, where known.
    pub photons_sd: Option<f32>,
    /// Probability that there is an emitter, where known.
    pub prob: Option<f32>,
}

/// The place of a value that may be unknown.
type Field = fn(&mut Localization) -> &mut Option<f32>;

/// Columns that a table may have, besides `frame`, `x` and `y`.
const OPTIONAL: [(&str, Field); 10] = [
    ("photons", |row| &mut row.photons),
    ("sx", |row| &mut row.sx),
    ("sy", |row| &mut row.sy),
    ("bg", |row| &mut row.bg),
    ("z", |row| &mut row.z),
    ("lpx", |row| &mut row.lpx),
    ("lpy", |row| &mut row.lpy),
    ("lpz", |row| &mut row.lpz),
    ("photons_sd", |row| &mut row.photons_sd),
    ("prob", |row| &mut row.prob),
];
/// The first of them, which a table has in any case.
const ALWAYS: usize = 4;

impl Localization {
    /// An emitter of which only frame and position are known.
    pub fn new(frame: usize, x: f32, y: f32) -> Self {
        Self {
            frame,
            x,
            y,
            ..Self::default()
        }
    }
}

/// Why a table of localizations could not be read or written.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum LocalizationError {
    /// The file is missing or may not be read.
    #[error("cannot open the table of localizations {path}: check that the file exists and may be read", path = .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        source: io::Error,
    },
    /// The header lacks columns that are needed.
    #[error("{path}: line {line} lacks the columns {missing}; it names {found}. Rename or add them", path = .path.display(), missing = .missing.join(", "), found = .found.join(", "))]
    MissingColumns {
        /// The file.
        path: PathBuf,
        /// The line of the header, from 1.
        line: u64,
        /// Columns that are needed and not there.
        missing: Vec<String>,
        /// Columns that are there.
        found: Vec<String>,
    },
    /// The table is in nanometres, and the size of a pixel is not known.
    #[error("{path}: line {line}: the column \"{column}\" is in nanometres; give the size of a pixel in nanometres (--pixel-size)", path = .path.display())]
    NeedsPixelSize {
        /// The file.
        path: PathBuf,
        /// The line of the header, from 1.
        line: u64,
        /// The column.
        column: String,
    },
    /// There is a header, and nothing after it.
    #[error("{path}: the table has no rows; pass a table with at least one emitter", path = .path.display())]
    NoRows {
        /// The file.
        path: PathBuf,
    },
    /// A line has another number of fields than the header.
    #[error("{path}: line {line} is not a row of the table: it has {found} fields, the header has {expected}", path = .path.display())]
    FieldCount {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// Fields of the line.
        found: usize,
        /// Fields of the header.
        expected: usize,
    },
    /// Some numbers have a comma and others a point.
    #[error("{path}: line {line} has a number with a comma, other lines have points; write all numbers with the same decimal mark and without thousands separators", path = .path.display())]
    DecimalMarks {
        /// The file.
        path: PathBuf,
        /// The first line with a comma in a number, from 1.
        line: u64,
    },
    /// A line is not CSV.
    #[error("{path}: line {line} is not a row of the table", path = .path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What the parser found.
        #[source]
        source: csv::Error,
    },
    /// A field does not hold what its column promises.
    #[error("{path}: line {line}: {column} must be {rule}, got \"{value}\"", path = .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The column's name.
        column: String,
        /// What the column must hold.
        rule: &'static str,
        /// What it holds.
        value: String,
    },
    /// A row names a frame that the stack does not have.
    #[error("{path}: line {line} names frame {frame}, but the stack has {num_frames} frames (0 to {last}); pass the table that belongs to the stack", path = .path.display(), last = .num_frames.saturating_sub(1))]
    FrameOutOfRange {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The frame named.
        frame: usize,
        /// Frames in the stack.
        num_frames: usize,
    },
    /// The table could not be written.
    #[error("cannot write the table of localizations {path}: check that its folder exists, may be written and has room", path = .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: csv::Error,
    },
}

/// Reads a table in pixels with a header, as [`read_table`] does, finding columns by name in any
/// order.
///
/// `frame`, `x` and `y` are needed; the other fields of a [`Localization`] are read
/// where they are there; other columns are ignored. Upper and lower case are the same.
///
/// # Errors
/// If the file cannot be read, a needed column is missing, or a field is not
/// the number it should be; the message names the line.
pub fn read_csv(path: impl AsRef<Path>) -> Result<Vec<Localization>, LocalizationError> {
    Ok(read_table(path, None)?.rows)
}

/// Reads a table as [`read_csv`] does and checks that every frame is below
/// `num_frames`.
///
/// # Errors
/// As [`read_csv`], and if a row names a frame that the stack does not have.
pub fn read_csv_for_stack(
    path: impl AsRef<Path>,
    num_frames: usize,
) -> Result<Vec<Localization>, LocalizationError> {
    let path = path.as_ref();
    let table = read_table(path, None)?;
    let mut rows = table.rows.iter().zip(&table.lines);
    match rows.find(|(row, _)| row.frame >= num_frames) {
        None => Ok(table.rows),
        Some((row, &line)) => Err(LocalizationError::FrameOutOfRange {
            path: path.into(),
            line,
            frame: row.frame,
            num_frames,
        }),
    }
}

/// Writes a table that [`read_csv`] reads back; unknown values stay empty.
///
/// `frame`, `x`, `y`, `photons`, `sx`, `sy` and `bg` are always columns, the others if
/// any row knows them.
///
/// # Errors
/// If the file cannot be written.
pub fn write_csv(
    path: impl AsRef<Path>,
    localizations: &[Localization],
) -> Result<(), LocalizationError> {
    let path = path.as_ref();
    let mut rows = localizations.to_vec();
    let known = |rows: &mut [Localization], field: Field| {
        let mut rows = rows.iter_mut();
        rows.any(|row| field(row).is_some())
    };
    let columns: Vec<_> = OPTIONAL
        .into_iter()
        .enumerate()
        .filter(|&(index, (_, field))| index < ALWAYS || known(&mut rows, field))
        .map(|(_, column)| column)
        .collect();
    let mut write = || {
        let mut writer = csv::Writer::from_path(path)?;
        let names = columns.iter().map(|(name, _)| *name);
        writer.write_record(["frame", "x", "y"].into_iter().chain(names))?;
        for row in &mut rows {
            let mut record = vec![row.frame.to_string(), row.x.to_string(), row.y.to_string()];
            let values = columns.iter().map(|(_, field)| *field(row));
            record.extend(values.map(|value| value.map_or(String::new(), |v| v.to_string())));
            writer.write_record(record)?;
        }
        writer.flush()?;
        Ok(())
    };
    write().map_err(|source| LocalizationError::Write {
        path: path.into(),
        source,
    })
}
