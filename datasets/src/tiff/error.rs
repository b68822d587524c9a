//! What can go wrong with a TIFF stack, and where.

use std::{io, path::PathBuf};

use ::tiff::TiffError;

/// Why a TIFF stack could not be opened, read or written.
///
/// `page` counts from 0, `offset` is a byte position in the file: that of the
/// page's directory unless the variant says otherwise.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum TiffStackError {
    /// The file is missing or may not be read.
    #[error("cannot open the TIFF stack {path}: check that the file exists and may be read", path = .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        source: io::Error,
    },
    /// The file does not start with a TIFF header.
    #[error("{path} is not a TIFF file ({reason}): pass a gray multi-page TIFF", path = .path.display())]
    NotTiff {
        /// The file.
        path: PathBuf,
        /// What the header holds instead.
        reason: String,
    },
    /// The header is whole but points to no page.
    #[error("{path} is a TIFF file without any page: export the stack again", path = .path.display())]
    NoPages {
        /// The file.
        path: PathBuf,
    },
    /// A page's directory contradicts itself or the format.
    #[error("{path}: the directory of page {page} at byte {offset} is corrupt: {reason}; export the stack again", path = .path.display())]
    CorruptDirectory {
        /// The file.
        path: PathBuf,
        /// The page.
        page: usize,
        /// Where its directory starts.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// The pages form a loop.
    #[error("{path}: page {page} at byte {offset} was already visited, so the pages form a loop; export the stack again", path = .path.display())]
    PageLoop {
        /// The file.
        path: PathBuf,
        /// The page that closes the loop.
        page: usize,
        /// The directory visited twice.
        offset: u64,
    },
    /// Bytes that the file promises are past its end.
    #[error("{path}: page {page} is truncated: {what} needs {len} bytes at byte {offset}, the file ends at byte {file_len}; copy or export the stack again", path = .path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// The page.
        page: usize,
        /// What was to be read.
        what: &'static str,
        /// Where it should start.
        offset: u64,
        /// How many bytes it needs.
        len: u64,
        /// Where the file ends.
        file_len: u64,
    },
    /// A page has no pixels.
    #[error("{path}: page {page} at byte {offset} is {height}×{width} pixels, but every page must have at least one pixel", path = .path.display())]
    ZeroSized {
        /// The file.
        path: PathBuf,
        /// The page.
        page: usize,
        /// Where its directory starts.
        offset: u64,
        /// Its height in pixels.
        height: u64,
        /// Its width in pixels.
        width: u64,
    },
    /// A page has another size than the first.
    #[error("{path}: page {page} at byte {offset} is {height}×{width} pixels, page 0 is {expected_height}×{expected_width}; split the file into stacks of one size", path = .path.display())]
    SizeDiffers {
        /// The file.
        path: PathBuf,
        /// The page.
        page: usize,
        /// Where its directory starts.
        offset: u64,
        /// Its height in pixels.
        height: usize,
        /// Its width in pixels.
        width: usize,
        /// The height of page 0.
        expected_height: usize,
        /// The width of page 0.
        expected_width: usize,
    },
    /// A page claims more pixels than its bytes can hold.
    #[error("{path}: page {page} at byte {offset} claims {claimed} bytes of pixels, but stores {stored} bytes, which cannot hold them; export the stack again", path = .path.display())]
    Implausible {
        /// The file.
        path: PathBuf,
        /// The page.
        page: usize,
        /// Where its directory starts.
        offset: u64,
        /// Bytes of pixels claimed.
        claimed: u64,
        /// Bytes stored for them.
        stored: u64,
    },
    /// A page is a valid TIFF image of a kind that is not read here.
    #[error("{path}: page {page} at byte {offset} {what}; save the stack as 8-, 16- or 32-bit gray pages, uncompressed or with deflate", path = .path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The page.
        page: usize,
        /// Where its directory starts.
        offset: u64,
        /// What is not supported.
        what: String,
    },
    /// The system failed to deliver bytes inside the file.
    #[error("cannot read page {page} of {path} at byte {offset}", path = .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The page.
        page: usize,
        /// Where the read started.
        offset: u64,
        /// Why the system refused.
        #[source]
        source: io::Error,
    },
    /// A page's pixels could not be decoded.
    #[error("cannot decode page {page} of {path} (directory at byte {offset}): export the stack again, or leave the page out", path = .path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// The page.
        page: usize,
        /// Where its directory starts.
        offset: u64,
        /// What the decoder found.
        #[source]
        source: TiffError,
    },
    /// The file changed since it was opened.
    #[error("page {page} of {path} changed since the stack was opened; open it again", path = .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// The page.
        page: usize,
    },
    /// A page is not where the regular spacing of the others says.
    #[error("{path}: the directory of page {page} is not at byte {offset}, where it was when the stack was opened; start again once no other program writes the file", path = .path.display())]
    Irregular {
        /// The file.
        path: PathBuf,
        /// The page.
        page: usize,
        /// Where its directory should start.
        offset: u64,
    },
    /// There is no such frame.
    #[error("{path} has {num_frames} frames, there is no frame {index}", path = .path.display())]
    FrameOutOfRange {
        /// The file.
        path: PathBuf,
        /// The frame asked for.
        index: usize,
        /// How many there are.
        num_frames: usize,
    },
    /// A stack could not be created or moved into place.
    #[error("cannot write the TIFF stack {path}: check that its folder exists, may be written and has room", path = .path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        source: io::Error,
    },
    /// A page could not be written.
    #[error("cannot write page {page} of {path}: check the free space", path = .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The page.
        page: usize,
        /// Why the system refused.
        #[source]
        source: io::Error,
    },
    /// A stack was to be finished in the middle of a page.
    #[error("cannot finish {path}: {rows} of {height} rows of page {page} were written; write the rest first", path = .path.display())]
    UnfinishedPage {
        /// The file.
        path: PathBuf,
        /// The page.
        page: usize,
        /// Rows written.
        rows: usize,
        /// Rows that a page has.
        height: usize,
    },
    /// An unfinished stack has fewer rows than it is said to have.
    #[error("the unfinished stack {path} holds {there} rows, and not {wanted}: remove it and start again", path = .path.display())]
    RowsMissing {
        /// The unfinished file.
        path: PathBuf,
        /// Rows that it holds.
        there: u64,
        /// Rows after which to resume.
        wanted: u64,
    },
    /// The folder of a sequence could not be listed.
    #[error("cannot list the folder {path}: check that it exists and may be read", path = .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        source: io::Error,
    },
    /// A sequence has no file.
    #[error("there is no TIFF file in {path}: pass a folder of files that end in .tif or .tiff", path = .path.display())]
    NoFiles {
        /// The folder.
        path: PathBuf,
    },
    /// A file of a sequence has frames of another size than the first.
    #[error("the frames of {path} are {height}×{width} pixels, those of {first} {expected_height}×{expected_width}; read files of one size as a sequence", path = .path.display(), first = .first.display())]
    FileDiffers {
        /// The file.
        path: PathBuf,
        /// The height of its frames.
        height: usize,
        /// The width of its frames.
        width: usize,
        /// The first file.
        first: PathBuf,
        /// The height of its frames.
        expected_height: usize,
        /// The width of its frames.
        expected_width: usize,
    },
}
