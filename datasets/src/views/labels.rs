//! Where images were taken from, as their names or a table say.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use csv::StringRecord;

use super::{error::ViewError, names::NamePattern};
use crate::{folder::natural_cmp, image_file};

/// Heights of the camera, one for each elevation index. `v` is 0.5 level with the object and 0 straight
/// above it: the angle from the vertical is `arccos(1 - 2 v)`, so 90°, 78.5°, 66.4° and 53.1°.
pub const ELEVATIONS: [f64; 4] = [0.5, 0.4, 0.3, 0.2];

/// Columns of a table: those of the labels follow that of the file.
pub(super) const COLUMNS: [&str; 4] = ["file", "class", "elevation", "azimuth"];

/// What says where the images of a folder were taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Labels {
    /// The names of the files without extension. In the pattern, `CLASS` stands for the class, `ELEV` for
    /// the elevation index and `AZIM` for the azimuth in whole degrees; everything else stands for itself.
    Names(String),
    /// A table (CSV, UTF-8) with the columns `file`, `class`, `elevation` and `azimuth` in any order; others
    /// are ignored. Files are relative to the folder of the images. Classes are words or numbers.
    Table(PathBuf),
    /// Nothing: the images have no labels.
    None,
}

impl Default for Labels {
    /// Names such as `box_0_015`: the pattern is `CLASS_ELEV_AZIM`.
    fn default() -> Self {
        Self::Names("CLASS_ELEV_AZIM".into())
    }
}

/// What an image shows, and where it was taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ViewLabel {
    /// Number of the class, from 0.
    pub class: usize,
    /// Index of the camera's height in [`ELEVATIONS`].
    pub elevation: usize,
    /// Angle of the camera around the vertical, in degrees from 0 to 359.
    pub azimuth: u32,
}

/// An image on disk.
#[derive(Debug, Clone)]
pub(super) struct View {
    pub path: PathBuf,
    pub name: String,
    pub label: Option<ViewLabel>,
}

/// The images of `folder`, and the names of their classes.
pub(super) fn read(folder: &Path, labels: Labels) -> Result<(Vec<View>, Vec<String>), ViewError> {
    match labels {
        Labels::Names(pattern) => number_classes(folder, by_names(folder, &pattern)?),
        Labels::Table(table) => number_classes(&table, by_table(folder, &table)?),
        Labels::None => {
            let unlabelled = |path: PathBuf| View {
                name: image_file::stem(&path),
                path,
                label: None,
            };
            let images = image_file::list(folder)?;
            Ok((images.into_iter().map(unlabelled).collect(), Vec::new()))
        }
    }
}

/// A view whose class has no number yet.
struct NamedView {
    path: PathBuf,
    name: String,
    class: String,
    elevation: usize,
    azimuth: u32,
}

impl NamedView {
    /// Checks the texts of the class, the elevation and the azimuth, found at `place`.
    fn new(
        path: PathBuf,
        name: String,
        place: impl Fn() -> String,
        [class, elevation, azimuth]: [&str; 3],
    ) -> Result<Self, ViewError> {
        let refused = |what, rule: String, value: &str| ViewError::Value {
            place: place(),
            what,
            rule,
            value: value.into(),
        };
        if class.is_empty() {
            return Err(refused("class", "a word or a number".into(), class));
        }
        let index = elevation.parse().ok();
        let index = index.filter(|&index| index < ELEVATIONS.len());
        let degrees = azimuth.parse().ok().filter(|&degrees| degrees < 360);
        Ok(Self {
            path,
            name,
            class: class.into(),
            elevation: index.ok_or_else(|| {
                let rule = format!("an index from 0 to {}", ELEVATIONS.len() - 1);
                refused("elevation", rule, elevation)
            })?,
            azimuth: degrees.ok_or_else(|| {
                let rule = "a whole number of degrees from 0 to 359";
                refused("azimuth", rule.into(), azimuth)
            })?,
        })
    }
}

/// All images of `folder` in natural order, labelled by their names.
fn by_names(folder: &Path, pattern: &str) -> Result<Vec<NamedView>, ViewError> {
    let parsed = NamePattern::parse(pattern).ok_or_else(|| ViewError::Pattern {
        pattern: pattern.into(),
    })?;
    let labelled = |path: PathBuf| {
        let name = image_file::stem(&path);
        let Some(texts) = parsed.find(&name) else {
            return Err(ViewError::Name {
                path,
                pattern: pattern.into(),
            });
        };
        let place = || path.display().to_string();
        NamedView::new(path.clone(), name.clone(), place, texts)
    };
    let images = image_file::list(folder)?;
    images.into_iter().map(labelled).collect()
}

/// The images of `folder` that `table` names, in its order.
fn by_table(folder: &Path, table: &Path) -> Result<Vec<NamedView>, ViewError> {
    let unreadable = |source| ViewError::Table {
        path: table.into(),
        source,
    };
    let text = fs::read_to_string(table).map_err(|source| unreadable(source.into()))?;
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let [file, columns @ ..] = find_columns(table, reader.headers().map_err(unreadable)?)?;
    let mut views = Vec::new();
    let mut seen = HashSet::new();
    let mut record = StringRecord::new();
    while reader.read_record(&mut record).map_err(unreadable)? {
        // Spreadsheets write rows that were cleared.
        if record.iter().all(str::is_empty) {
            continue;
        }
        // The parser leaves the line feed of "\r\n" to the next record, and does not count it before.
        let read = &text[..reader.position().byte() as usize];
        let line = || read.trim_end().lines().count();
        let name = &record[file];
        let path = folder.join(name);
        if !path.is_file() {
            return Err(ViewError::MissingFile {
                path: table.into(),
                line: line(),
                file: path,
            });
        }
        // Paths are equal by what they name: `./a.png` is `a.png`.
        if !seen.insert(path.clone()) {
            return Err(ViewError::Duplicate {
                path: table.into(),
                line: line(),
                file: path,
            });
        }
        let name = Path::new(name).with_extension("").display().to_string();
        let place = || format!("{}: line {}", table.display(), line());
        let texts = columns.map(|column| &record[column]);
        views.push(NamedView::new(path, name, place, texts)?);
    }
    match views.is_empty() {
        true => Err(ViewError::NoRows { path: table.into() }),
        false => Ok(views),
    }
}

/// The places of [`COLUMNS`] in a header.
fn find_columns(table: &Path, header: &StringRecord) -> Result<[usize; 4], ViewError> {
    let find = |column: &str| {
        let mut names = header.iter();
        names.position(|name| name.eq_ignore_ascii_case(column))
    };
    let missing: Vec<_> = COLUMNS
        .into_iter()
        .filter(|column| find(column).is_none())
        .collect();
    let places = COLUMNS.map(find);
    if let [Some(file), Some(class), Some(elevation), Some(azimuth)] = places {
        return Ok([file, class, elevation, azimuth]);
    }
    Err(ViewError::MissingColumns {
        path: table.into(),
        missing,
        found: header.iter().collect::<Vec<_>>().join(","),
    })
}

/// Numbers the classes in natural order of their names. Classes that are numbers must be all from 0 on, so
/// that each keeps its number; `place` is where they are from.
fn number_classes(
    place: &Path,
    views: Vec<NamedView>,
) -> Result<(Vec<View>, Vec<String>), ViewError> {
    let mut names: Vec<_> = views.iter().map(|view| view.class.clone()).collect();
    names.sort_by(|left, right| natural_cmp(left, right));
    names.dedup();
    let numbers = names.iter().map(|name| name.parse::<usize>().ok());
    if let Some(numbers) = numbers.collect::<Option<Vec<_>>>()
        && let Some(class) = (0..numbers.len()).find(|&class| numbers[class] != class)
    {
        return Err(ViewError::ClassWithoutImages {
            path: place.into(),
            class,
            found: names.join(", "),
        });
    }
    let numbered = |view: NamedView| View {
        label: Some(ViewLabel {
            class: names.partition_point(|name| natural_cmp(name, &view.class).is_lt()),
            elevation: view.elevation,
            azimuth: view.azimuth,
        }),
        path: view.path,
        name: view.name,
    };
    let views = views.into_iter().map(numbered).collect();
    Ok((views, names))
}
