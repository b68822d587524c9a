//! What can be wrong with images and their masks.

use std::path::PathBuf;

use crate::image_file::ImageFileError;

/// Why images and masks could not be paired or read.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum ImageMaskError {
    /// A folder cannot be listed, or a file cannot be read.
    #[error(transparent)]
    File(#[from] ImageFileError),
    /// An image has no mask.
    #[error("{image} has no mask: add {stem}.png to {folder}, or remove the image", image = .image.display(), folder = .folder.display())]
    MissingMask {
        /// The image.
        image: PathBuf,
        /// Its name without extension.
        stem: String,
        /// The folder of the masks.
        folder: PathBuf,
    },
    /// A mask has no image.
    #[error("the mask {mask} has no image named {stem} in {folder}: add the image, or remove the mask", mask = .mask.display(), folder = .folder.display())]
    ExtraMask {
        /// The mask.
        mask: PathBuf,
        /// Its name without extension.
        stem: String,
        /// The folder of the images.
        folder: PathBuf,
    },
    /// An image and its mask have different sizes.
    #[error("{image} is {image_height}×{image_width} pixels (height × width), its mask {mask} is {mask_height}×{mask_width}: scale one to the other", image = .image.display(), mask = .mask.display())]
    SizeDiffers {
        /// The image.
        image: PathBuf,
        /// Height of the image.
        image_height: usize,
        /// Width of the image.
        image_width: usize,
        /// The mask.
        mask: PathBuf,
        /// Height of the mask.
        mask_height: usize,
        /// Width of the mask.
        mask_width: usize,
    },
}
