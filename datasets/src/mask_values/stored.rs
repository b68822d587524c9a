//! The values of one mask, as its file stores them.

use std::{
    fs,
    io::{self, Cursor},
    path::Path,
};

use image::{
    DynamicImage, GrayImage, ImageDecoder, ImageError, ImageFormat, ImageReader, ImageResult,
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
}

impl MaskValues {
    pub(crate) fn read(path: &Path) -> Result<Self, ImageFileError> {
        let failed = |source| image_file::unreadable(path, source);
        let bytes = fs::read(path).map_err(|source| failed(source.into()))?;
        let (mut image, format) = image_file::decode_bytes(path, &bytes)?;
        if let Some(indices) = palette_indices(&bytes, format).map_err(failed)? {
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
        Ok(Self {
            height,
            width,
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
fn palette_indices(bytes: &[u8], format: ImageFormat) -> ImageResult<Option<DynamicImage>> {
    /// Where a PNG file says what its samples are, and what it says of indices.
    const PNG_KIND: (usize, u8) = (25, 3);
    let cursor = Cursor::new(bytes);
    let orientation = |format| -> ImageResult<_> {
        let mut decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder()?;
        decoder.orientation()
    };
    match format {
        ImageFormat::Png if bytes.get(PNG_KIND.0) == Some(&PNG_KIND.1) => {
            let mut decoder = png::Decoder::new(cursor);
            decoder.set_transformations(png::Transformations::IDENTITY);
            let damaged = |error: png::DecodingError| ImageError::IoError(io::Error::other(error));
            let mut reader = decoder.read_info().map_err(damaged)?;
            let info = reader.info();
            let palette = info.palette.as_deref().unwrap_or_default();
            if is_gray(palette.as_chunks::<3>().0) {
                return Ok(None);
            }
            let (width, height, bits) = (info.width, info.height, info.bit_depth as usize);
            let line = reader.output_line_size(width).unwrap_or(0);
            let mut packed = vec![0; line * height as usize];
            reader.next_frame(&mut packed).map_err(damaged)?;
            let per_byte = 8 / bits;
            let mut indices = GrayImage::new(width, height);
            for (x, y, index) in indices.enumerate_pixels_mut() {
                let x = x as usize;
                let byte = packed[y as usize * line + x / per_byte];
                // The leftmost pixel has the highest bits.
                let shift = 8 - bits * (x % per_byte + 1);
                index.0[0] = (byte >> shift) & (0xff >> (8 - bits));
            }
            let mut indices = DynamicImage::from(indices);
            indices.apply_orientation(orientation(format)?);
            Ok(Some(indices))
        }
        ImageFormat::Bmp => {
            let mut decoder = BmpDecoder::new(cursor)?;
            if decoder.get_palette().is_none_or(is_gray) {
                return Ok(None);
            }
            decoder.set_indexed_color(true);
            DynamicImage::from_decoder(decoder).map(Some)
        }
        _ => Ok(None),
    }
}

/// Whether a palette has grays only, not all of them alike.
fn is_gray(palette: &[[u8; 3]]) -> bool {
    let gray = |color: &[u8; 3]| color[0] == color[1] && color[1] == color[2];
    palette.iter().all(gray) && palette.iter().any(|color| *color != palette[0])
}
