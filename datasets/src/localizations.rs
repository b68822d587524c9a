//! Tables of localized emitters: one row for each emitter and frame.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use csv::StringRecord;

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
    #[error("{path}: line 1 lacks the columns {missing}; it names {found}. Rename or add them", path = .path.display(), missing = .missing.join(", "), found = .found.join(", "))]
    MissingColumns {
        /// The file.
        path: PathBuf,
        /// Columns that are needed and not there.
        missing: Vec<String>,
        /// Columns that are there.
        found: Vec<String>,
    },
    /// A line is not CSV, or has another number of fields than the header.
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

/// Reads a table with a header, finding columns by name in any order.
///
/// `frame`, `x` and `y` are needed; the other fields of a [`Localization`] are read
/// where they are there; other columns are ignored. Upper and lower case are the same.
///
/// # Errors
/// If the file cannot be read, a needed column is missing, or a field is not
/// the number it should be; the message names the line.
pub fn read_csv(path: impl AsRef<Path>) -> Result<Vec<Localization>, LocalizationError> {
    read(path.as_ref(), None)
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
    read(path.as_ref(), Some(num_frames))
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

fn read(path: &Path, num_frames: Option<usize>) -> Result<Vec<Localization>, LocalizationError> {
    let open = |source| LocalizationError::Open {
        path: path.into(),
        source,
    };
    let mut file = BufReader::new(File::open(path).map_err(open)?);
    // The parser leaves the line feed of "\r\n" to the next record, so it counts one
    // line too few at the start of each.
    let lines_behind = u64::from(ends_lines_with_crlf(&mut file).map_err(open)?);
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(file);
    let row_error = |source: csv::Error| LocalizationError::Row {
        path: path.into(),
        line: line_of(source.position(), lines_behind),
        source,
    };
    let columns = Columns::find(path, reader.headers().map_err(row_error)?)?;
    let mut localizations = Vec::new();
    for record in reader.records() {
        let record = record.map_err(row_error)?;
        let row = Row {
            path,
            line: line_of(record.position(), lines_behind),
            record: &record,
        };
        localizations.push(columns.parse(&row, num_frames)?);
    }
    Ok(localizations)
}

/// Whether the first line ends in `"\r\n"`, as far as the buffer shows it.
fn ends_lines_with_crlf(file: &mut impl BufRead) -> io::Result<bool> {
    let mut lines = file.fill_buf()?.split(|&byte| byte == b'\n');
    let first = lines.next().unwrap_or_default();
    Ok(first.ends_with(b"\r") && lines.next().is_some())
}

fn line_of(position: Option<&csv::Position>, lines_behind: u64) -> u64 {
    position.map_or(1, |position| position.line() + lines_behind)
}

/// Where each column is.
struct Columns {
    frame: usize,
    x: usize,
    y: usize,
    /// In the order of [`OPTIONAL`].
    optional: [Option<usize>; OPTIONAL.len()],
}

impl Columns {
    fn find(path: &Path, header: &StringRecord) -> Result<Self, LocalizationError> {
        let mut missing = Vec::new();
        let find = |name: &str| {
            let mut names = header.iter();
            // A byte order mark, as spreadsheets write it, belongs to no name.
            names.position(|other| {
                other
                    .trim_start_matches('\u{feff}')
                    .eq_ignore_ascii_case(name)
            })
        };
        let mut need = |name: &str| {
            find(name).unwrap_or_else(|| {
                missing.push(name.to_string());
                0
            })
        };
        let (frame, x, y) = (need("frame"), need("x"), need("y"));
        if !missing.is_empty() {
            return Err(LocalizationError::MissingColumns {
                path: path.into(),
                missing,
                found: header.iter().map(str::to_string).collect(),
            });
        }
        Ok(Self {
            frame,
            x,
            y,
            optional: OPTIONAL.map(|(name, _)| find(name)),
        })
    }

    fn parse(
        &self,
        row: &Row<'_>,
        num_frames: Option<usize>,
    ) -> Result<Localization, LocalizationError> {
        let mut localization = Localization::new(
            row.frame(self.frame, num_frames)?,
            row.number("x", self.x)?,
            row.number("y", self.y)?,
        );
        for ((name, field), column) in OPTIONAL.into_iter().zip(self.optional) {
            *field(&mut localization) = row.known(name, column)?;
        }
        Ok(localization)
    }
}

/// One line of the table.
struct Row<'a> {
    path: &'a Path,
    line: u64,
    record: &'a StringRecord,
}

impl Row<'_> {
    /// A frame number; some programs write it as `11.0`.
    fn frame(&self, column: usize, num_frames: Option<usize>) -> Result<usize, LocalizationError> {
        let text = self.text(column);
        let whole = text.parse::<usize>().ok().or_else(|| {
            let number = text.parse::<f64>().ok()?;
            let exact = number >= 0.0 && number.fract() == 0.0 && number < 2f64.powi(53);
            exact.then_some(number as usize)
        });
        let frame =
            whole.ok_or_else(|| self.error("frame", column, "a whole number of at least 0"))?;
        match num_frames {
            Some(num_frames) if frame >= num_frames => Err(LocalizationError::FrameOutOfRange {
                path: self.path.into(),
                line: self.line,
                frame,
                num_frames,
            }),
            _ => Ok(frame),
        }
    }

    fn number(&self, name: &str, column: usize) -> Result<f32, LocalizationError> {
        match self.text(column).parse::<f32>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ => Err(self.error(name, column, "a finite number")),
        }
    }

    fn known(&self, name: &str, column: Option<usize>) -> Result<Option<f32>, LocalizationError> {
        match column {
            Some(column) if !self.text(column).is_empty() => self.number(name, column).map(Some),
            _ => Ok(None),
        }
    }

    fn text(&self, column: usize) -> &str {
        self.record.get(column).unwrap_or_default()
    }

    fn error(&self, name: &str, column: usize, rule: &'static str) -> LocalizationError {
        LocalizationError::Value {
            path: self.path.into(),
            line: self.line,
            column: name.to_string(),
            rule,
            value: self.text(column).to_string(),
        }
    }
}
