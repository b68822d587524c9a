//! TIFF masks that are no pictures: whole numbers of 32 bits and more, floating-point numbers, and
//! indices of a palette.

use std::{
    fs::File,
    io::{self, BufReader},
    path::Path,
};

use image::{DynamicImage, ImageBuffer, ImageError, Luma, metadata::Orientation};
use tiff::{decoder::Decoder, tags::Tag};

use crate::{
    image_file::{self, ImageFileError},
    tiff::{FrameSource, SampleType, TiffStack},
};

pub(super) fn is_tiff(bytes: &[u8]) -> bool {
    image::guess_format(bytes).is_ok_and(|format| format == image::ImageFormat::Tiff)
}

/// Height and width in pixels, as the mask is seen.
pub(super) fn size(path: &Path) -> Result<(usize, usize), ImageFileError> {
    let stack = open(path)?;
    let (height, width) = (stack.height(), stack.width());
    Ok(match image_file::swaps_sides(orientation(path)) {
        true => (width, height),
        false => (height, width),
    })
}

/// The values. Floating-point numbers up to 1 are shares of 65,535, larger ones labels.
pub(super) fn read(path: &Path) -> Result<DynamicImage, ImageFileError> {
    let page = open(path)?.page(0).map_err(|error| damaged(path, error))?;
    let values = page.to_f32();
    let is_float = matches!(
        page.sample_type(),
        SampleType::F16 | SampleType::F32 | SampleType::F64
    );
    let unit = match is_float && !values.iter().any(|&value| value > 1.0) {
        true => f32::from(u16::MAX),
        false => 1.0,
    };
    // Every value above zero stays above it, and what is no number is background.
    let stored = |value: &f32| (value * unit).ceil() as u16;
    let values = values.iter().map(stored).collect();
    let (width, height) = (page.width() as u32, page.height() as u32);
    let image = ImageBuffer::<Luma<u16>, Vec<u16>>::from_raw(width, height, values);
    let mut image = DynamicImage::from(image.expect("invariant: a value for each pixel"));
    image.apply_orientation(orientation(path));
    Ok(image)
}

fn open(path: &Path) -> Result<TiffStack, ImageFileError> {
    let stack = TiffStack::open(path).map_err(|error| damaged(path, error))?;
    match stack.num_frames() {
        1 => Ok(stack),
        _ => Err(ImageFileError::Several { path: path.into() }),
    }
}

/// As the file says; as it is stored where this decoder does not read it.
fn orientation(path: &Path) -> Orientation {
    let read = || {
        let file = BufReader::new(File::open(path)?);
        Decoder::new(file)?.find_tag_unsigned(Tag::Orientation)
    };
    let value = read().ok().flatten().and_then(Orientation::from_exif);
    value.unwrap_or(Orientation::NoTransforms)
}

fn damaged(path: &Path, error: crate::tiff::TiffStackError) -> ImageFileError {
    image_file::unreadable(path, ImageError::IoError(io::Error::other(error)))
}
