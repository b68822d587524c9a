//! What can be wrong with questions about images.

use std::{io, path::PathBuf};

use super::super::JsonlError;
use crate::image_file::ImageFileError;

/// Why a question or its image could not be read. Records are numbered from 0.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum VqaError {
    /// The record itself cannot be read.
    #[error(transparent)]
    Record(#[from] JsonlError),
    /// The path of an image leads out of the root folder.
    #[error("{path}: record {record} names the image {image}, which lies outside the root {root}; set `root`, or `allow_outside_root` if you trust the file", path = .path.display(), root = .root.display())]
    OutsideRoot {
        /// The JSON Lines file.
        path: PathBuf,
        /// The record.
        record: u64,
        /// The image as the record names it.
        image: String,
        /// The folder that images must be in.
        root: PathBuf,
    },
    /// An image is not there.
    #[error("{path}: the image {image} of record {record} is missing: add it, or set `root` to the folder that paths start from", path = .path.display(), image = .image.display())]
    MissingImage {
        /// The JSON Lines file.
        path: PathBuf,
        /// The record.
        record: u64,
        /// The image.
        image: PathBuf,
        /// Why the system refused.
        #[source]
        source: io::Error,
    },
    /// What is named as an image is no file but a folder or a device.
    #[error("{path}: the image {image} of record {record} is no file", path = .path.display(), image = .image.display())]
    NotAFile {
        /// The JSON Lines file.
        path: PathBuf,
        /// The record.
        record: u64,
        /// The image.
        image: PathBuf,
    },
    /// An image is damaged.
    #[error("{path}: the image of record {record} cannot be read", path = .path.display())]
    Image {
        /// The JSON Lines file.
        path: PathBuf,
        /// The record.
        record: u64,
        /// What is wrong with which image.
        #[source]
        source: ImageFileError,
    },
    /// An image has another size than all should have.
    #[error("{path}: the image {image} of record {record} is {found_height}×{found_width} pixels (height × width), expected is {height}×{width}: scale it, or set another `image_size`", path = .path.display(), image = .image.display())]
    SizeDiffers {
        /// The JSON Lines file.
        path: PathBuf,
        /// The record.
        record: u64,
        /// The image.
        image: PathBuf,
        /// Height of the image.
        found_height: usize,
        /// Width of the image.
        found_width: usize,
        /// Height that is expected.
        height: usize,
        /// Width that is expected.
        width: usize,
    },
    /// An image would take more memory than is allowed.
    #[error("{path}: the image {image} of record {record} takes {needed} bytes decoded, {allowed} are allowed: scale it, or raise `max_image_bytes`", path = .path.display(), image = .image.display())]
    TooLarge {
        /// The JSON Lines file.
        path: PathBuf,
        /// The record.
        record: u64,
        /// The image.
        image: PathBuf,
        /// Bytes that its pixels take.
        needed: u64,
        /// Bytes that are allowed.
        allowed: u64,
    },
}
