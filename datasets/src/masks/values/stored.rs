//! The values of one mask, as its file stores them.

use std::{
    error::Error,
    fs,
    io::{self, Cursor},
    path::Path,
};

use image::{
    DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, ImageReader, ImageResult, Luma,
    codecs::bmp::BmpDecoder,
};

use crate::image_file::{self, ImageFileError};

/// The values of one mask, as they are stored.
pub(crate) struct MaskValues {
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// The index of a palette of colours, the gray value, or the largest of red, green and blue.
    pub(super) colours: Vec<u16>,
    /// Opacity, where the file has it.
    pub(super) alpha: Option<Vec<u16>>,
    /// Whether the format does not keep values exactly.
    pub(super) is_lossy: bool,
    /// Whether red, green and blue differ somewhere.
    pub(super) is_coloured: bool,
}

/// What the colours of a palette mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Palette {
    /// Colours are classes, and so the index counts; grays, and black and white alone, are gray values.
    Object,
    /// The index always counts, but of a palette of grays.
    Classes,
}

impl MaskValues {
    /// Height and width in pixels of a file that is not cut off. Decodes no pixel.
    pub(crate) fn check(path: &Path) -> Result<(usize, usize), ImageFileError> {
        match image_file::check(path) {
            #[cfg(feature = "tiff")]
            Err(error @ ImageFileError::Unreadable { .. }) => {
                measured::size(path).map_err(|_| error)
            }
            size => size,
        }
    }

    pub(crate) fn read(path: &Path, palette: Palette) -> Result<Self, ImageFileError> {
        let failed = |source| image_file::unreadable(path, source);
        let bytes = fs::read(path).map_err(|source| failed(source.into()))?;
        let (mut image, format) = match image_file::decode_bytes(path, &bytes) {
            #[cfg(feature = "tiff")]
            Err(ImageFileError::Unreadable { .. }) if measured::is_tiff(&bytes) => {
                (measured::read(path)?, ImageFormat::Tiff)
            }
            decoded => decoded?,
        };
        if let Some(indices) = palette_indices(&bytes, format, palette).map_err(failed)? {
            image = indices;
        }
        let is_lossy = match format {
            ImageFormat::Jpeg => true,
            ImageFormat::WebP => !bytes.windows(4).any(|name| name == b"VP8L"),
            _ => false,
        };
        let (height, width) = (image.height() as usize, image.width() as usize);
        let has_alpha = image.color().has_alpha();
        let channels = usize::from(image.color().channel_count());
        let samples = samples(image);
        let pixels = samples.chunks_exact(channels);
        let num_colours = channels - usize::from(has_alpha);
        let largest = |pixel: &[u16]| pixel[..num_colours].iter().copied().max().unwrap_or(0);
        let is_gray = |pixel: &[u16]| pixel[..num_colours].iter().all(|value| *value == pixel[0]);
        Ok(Self {
            height,
            width,
            is_coloured: !pixels.clone().all(is_gray),
            colours: pixels.clone().map(largest).collect(),
            alpha: has_alpha.then(|| pixels.map(|pixel| pixel[num_colours]).collect()),
            is_lossy,
        })
    }

    /// What is seen: a pixel that is wholly transparent is background.
    pub(super) fn seen(&self, index: usize) -> u16 {
        match &self.alpha {
            Some(alpha) if alpha[index] == 0 => 0,
            _ => self.colours[index],
        }
    }
}

fn samples(image: DynamicImage) -> Vec<u16> {
    match image {
        DynamicImage::ImageLuma16(image) => image.into_raw(),
        DynamicImage::ImageLumaA16(image) => image.into_raw(),
        DynamicImage::ImageRgb16(image) => image.into_raw(),
        DynamicImage::ImageRgba16(image) => image.into_raw(),
        DynamicImage::ImageRgb32F(_) => image.into_rgb16().into_raw(),
        DynamicImage::ImageRgba32F(_) => image.into_rgba16().into_raw(),
        other => other.into_bytes().into_iter().map(u16::from).collect(),
    }
}

/// The indices of a file with a palette of colours, which number classes. A palette of grays is
/// another way to store gray values.
fn palette_indices(
    bytes: &[u8],
    format: ImageFormat,
    meaning: Palette,
) -> ImageResult<Option<DynamicImage>> {
    let (indices, palette) = match format {
        ImageFormat::Png if bytes.get(PNG_KIND.0) == Some(&PNG_KIND.1) => png_indices(bytes)?,
        ImageFormat::Gif => gif_indices(bytes)?,
        ImageFormat::Bmp => {
            let mut decoder = BmpDecoder::new(Cursor::new(bytes))?;
            let Some(palette) = decoder.get_palette().map(<[_]>::to_vec) else {
                return Ok(None);
            };
            decoder.set_indexed_color(true);
            let indices = DynamicImage::from_decoder(decoder)?.into_luma8();
            (indices, palette)
        }
        _ => return Ok(None),
    };
    if is_gray(&palette) || (meaning == Palette::Object && is_black_and_white(&indices, &palette)) {
        return Ok(None);
    }
    let mut decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder()?;
    let mut indices = DynamicImage::from(indices);
    indices.apply_orientation(decoder.orientation()?);
    Ok(Some(indices))
}

/// Where a PNG file says what its samples are, and what it says of indices.
const PNG_KIND: (usize, u8) = (25, 3);

/// Colours, each red, green and blue.
type Colours = Vec<[u8; 3]>;

fn png_indices(bytes: &[u8]) -> ImageResult<(GrayImage, Colours)> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(damaged)?;
    let info = reader.info();
    let palette = info.palette.as_deref().unwrap_or_default();
    let palette = palette.as_chunks::<3>().0.to_vec();
    let (width, height, bits) = (info.width, info.height, info.bit_depth as usize);
    let line = reader.output_line_size(width).unwrap_or(0);
    let mut packed = vec![0; line * height as usize];
    reader.next_frame(&mut packed).map_err(damaged)?;
    let per_byte = 8 / bits;
    let indices = GrayImage::from_fn(width, height, |x, y| {
        let x = x as usize;
        let byte = packed[y as usize * line + x / per_byte];
        // The leftmost pixel has the highest bits.
        let shift = 8 - bits * (x % per_byte + 1);
        Luma([(byte >> shift) & (0xff >> (8 - bits))])
    });
    Ok((indices, palette))
}

fn gif_indices(bytes: &[u8]) -> ImageResult<(GrayImage, Colours)> {
    let mut decoder = gif::DecodeOptions::new()
        .read_info(bytes)
        .map_err(damaged)?;
    let mut indices = GrayImage::new(decoder.width().into(), decoder.height().into());
    let global = decoder.global_palette().unwrap_or_default().to_vec();
    let frame = decoder.read_next_frame().map_err(damaged)?;
    let frame = frame.ok_or_else(|| damaged("no picture"))?;
    let palette = frame.palette.as_ref().unwrap_or(&global);
    let (left, top) = (u32::from(frame.left), u32::from(frame.top));
    let lines = frame.buffer.chunks_exact(usize::from(frame.width).max(1));
    for (y, line) in (top..).zip(lines) {
        for (x, &index) in (left..).zip(line) {
            if let Some(pixel) = indices.get_pixel_mut_checked(x, y)
                && frame.transparent != Some(index)
            {
                *pixel = Luma([index]);
            }
        }
    }
    Ok((indices, palette.as_chunks::<3>().0.to_vec()))
}

fn damaged(error: impl Into<Box<dyn Error + Send + Sync>>) -> ImageError {
    ImageError::IoError(io::Error::other(error))
}

/// Whether a palette has grays only, not all of them alike.
fn is_gray(palette: &[[u8; 3]]) -> bool {
    let gray = |color: &[u8; 3]| color[0] == color[1] && color[1] == color[2];
    palette.iter().all(gray) && palette.iter().any(|color| *color != palette[0])
}

/// Whether a picture shows black, and white at the most, wherever these are in its palette.
fn is_black_and_white(indices: &GrayImage, palette: &[[u8; 3]]) -> bool {
    let shows = |colour| {
        let is_it = move |index: &u8| palette.get(usize::from(*index)) == Some(&colour);
        indices
            .as_raw()
            .iter()
            .filter(move |index| is_it(index))
            .count()
    };
    let num_black = shows([0; 3]);
    num_black > 0 && num_black + shows([255; 3]) == indices.as_raw().len()
}

#[cfg(feature = "tiff")]
mod measured {
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
}
