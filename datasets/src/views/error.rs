//! Why a folder of views is refused.

use std::path::PathBuf;

use super::labels::COLUMNS;
use crate::image_file::ImageFileError;

/// Why the images of a folder, or where they were taken from, could not be read.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum ViewError {
    /// The folder cannot be listed or has no image, or a file cannot be read.
    #[error(transparent)]
    File(#[from] ImageFileError),
    /// A pattern does not say where the labels are in a name.
    #[error(
        "the pattern of file names must contain CLASS, ELEV and AZIM once each, with other characters between them, \
         such as CLASS_ELEV_AZIM, got \"{pattern}\""
    )]
    Pattern {
        /// The pattern.
        pattern: String,
    },
    /// A file is not named as the pattern says.
    #[error("the name of {path} does not match the pattern {pattern}, in which ELEV and AZIM are whole numbers: rename the file, or pass the pattern of your names", path = .path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// The pattern.
        pattern: String,
    },
    /// The table is missing, may not be read, or is not CSV.
    #[error("cannot read the table of views {path}: pass a CSV file in UTF-8 with the columns {columns}", path = .path.display(), columns = COLUMNS.join(", "))]
    Table {
        /// The table.
        path: PathBuf,
        /// What the parser found.
        #[source]
        source: csv::Error,
    },
    /// The header of the table lacks columns.
    #[error("{path} lacks the columns {missing}; its first line is \"{found}\". Rename or add them, separated by commas", path = .path.display(), missing = .missing.join(", "))]
    MissingColumns {
        /// The table.
        path: PathBuf,
        /// Columns that are needed and not there.
        missing: Vec<&'static str>,
        /// The header.
        found: String,
    },
    /// The table has a header, and nothing after it.
    #[error("{path}: the table has no rows; add one for each image", path = .path.display())]
    NoRows {
        /// The table.
        path: PathBuf,
    },
    /// Two rows name the same file.
    #[error("{path}: line {line} names {file}, which another line before it names too: remove one", path = .path.display(), file = .file.display())]
    Duplicate {
        /// The table.
        path: PathBuf,
        /// The second of the lines, from 1.
        line: usize,
        /// The image.
        file: PathBuf,
    },
    /// A row names a file that is not there.
    #[error("{path}: line {line} names {file}, where there is no image: add it, or remove the row", path = .path.display(), file = .file.display())]
    MissingFile {
        /// The table.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The image.
        file: PathBuf,
    },
    /// A class, an elevation or an azimuth is not what it must be.
    #[error("{place}: the {what} must be {rule}, got \"{value}\"")]
    Value {
        /// The image, or the line of the table.
        place: String,
        /// What is wrong.
        what: &'static str,
        /// What it must be.
        rule: String,
        /// What it is.
        value: String,
    },
    /// The numbers of the classes have a gap.
    #[error("class {class} has no image, as the classes of {path} are {found}: number them from 0 without gaps, or give them names", path = .path.display())]
    ClassWithoutImages {
        /// The folder or the table.
        path: PathBuf,
        /// The class.
        class: usize,
        /// The classes that have images.
        found: String,
    },
    /// An image is not square.
    #[error("{path} is {height}×{width} pixels (height × width), but views must be square: crop or pad it", path = .path.display())]
    NotSquare {
        /// The image.
        path: PathBuf,
        /// Its height.
        height: usize,
        /// Its width.
        width: usize,
    },
    /// Two images have different sizes.
    #[error("{first} is {first_height}×{first_width} pixels (height × width), {second} is {second_height}×{second_width}: scale all images to one size", first = .first.display(), second = .second.display())]
    SizeDiffers {
        /// One of them.
        first: PathBuf,
        /// Its height.
        first_height: usize,
        /// Its width.
        first_width: usize,
        /// The other.
        second: PathBuf,
        /// Its height.
        second_height: usize,
        /// Its width.
        second_width: usize,
    },
    /// A split leaves a class without images for training.
    #[error(
        "all images of the class {class} would be held out: lower the share, pass another seed, or add images"
    )]
    ClassHeldOut {
        /// The class.
        class: String,
    },
}
