//! Which pixels of masks are object, decided over all files of a folder at their full depth.

use std::{
    fmt, fs,
    num::NonZero,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use image::{DynamicImage, GrayImage, ImageFormat, ImageReader, ImageResult};

use crate::{
    image_file::{self, ImageFileError},
    lock,
};

/// The values of one mask, as they are stored.
pub(crate) struct MaskValues {
    pub(crate) height: usize,
    pub(crate) width: usize,
    /// The index of a palette of colours, the gray value, or the largest of red, green and blue.
    colours: Vec<u16>,
    /// Opacity, where the file has it.
    alpha: Option<Vec<u16>>,
    /// Whether the format does not keep values exactly.
    is_lossy: bool,
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
    fn seen(&self, index: usize) -> u16 {
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
    let cursor = std::io::Cursor::new(bytes);
    let orientation = |format| -> ImageResult<_> {
        let mut decoder =
            ImageReader::with_format(std::io::Cursor::new(bytes), format).into_decoder()?;
        image::ImageDecoder::orientation(&mut decoder)
    };
    match format {
        ImageFormat::Png if bytes.get(PNG_KIND.0) == Some(&PNG_KIND.1) => {
            let mut decoder = png::Decoder::new(cursor);
            decoder.set_transformations(png::Transformations::IDENTITY);
            let damaged = |error: png::DecodingError| {
                image::ImageError::IoError(std::io::Error::other(error))
            };
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
            let mut decoder = image::codecs::bmp::BmpDecoder::new(cursor)?;
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

/// Which values of the masks of a folder are object. Displayed as a sentence, with a warning where no
/// pixel or every pixel is object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MaskRule {
    /// Whether the object is in the alpha channel alone.
    by_alpha: bool,
    /// The least value of an object in files that keep values exactly.
    least: u16,
    /// The least value that belongs to the object in part, such as its edge after resampling.
    least_edge: u16,
    object_share: f64,
}

/// The least value of an object where the format does not keep values exactly.
const LEAST_IN_LOSSY: u16 = 128;

impl MaskRule {
    /// The share of all pixels that is object, from 0 to 1.
    pub fn object_share(&self) -> f64 {
        self.object_share
    }

    /// Decodes all masks, on all processors, and decides what is object in them.
    pub(crate) fn measure(masks: &[PathBuf]) -> Result<Self, ImageFileError> {
        let next = AtomicUsize::new(0);
        let sum = Mutex::new(Ok(Sums::default()));
        let work = || {
            let mut mine = Sums::default();
            while let Some(path) = masks.get(next.fetch_add(1, Ordering::Relaxed)) {
                match MaskValues::read(path) {
                    Ok(values) => mine.add(&values),
                    Err(error) => {
                        *lock(&sum) = Err(error);
                        return;
                    }
                }
            }
            if let Ok(sum) = lock(&sum).as_mut() {
                sum.merge(&mine);
            }
        };
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        thread::scope(|scope| {
            for _ in 0..threads.min(masks.len()) {
                scope.spawn(work);
            }
        });
        sum.into_inner()
            .unwrap_or_else(|broken| broken.into_inner())
            .map(|sums| sums.rule())
    }

    /// 1 on the object and 0 elsewhere: `[height, width]`.
    pub(crate) fn apply<T: From<bool>>(&self, mask: &MaskValues) -> Vec<T> {
        self.at_least(self.least, mask)
    }

    /// As [`apply`](Self::apply), with the edges of the object.
    pub(crate) fn apply_with_edges(&self, mask: &MaskValues) -> Vec<u8> {
        self.at_least(self.least_edge, mask)
    }

    fn at_least<T: From<bool>>(&self, least: u16, mask: &MaskValues) -> Vec<T> {
        let least = if mask.is_lossy { LEAST_IN_LOSSY } else { least };
        let value = |index: usize| match &mask.alpha {
            Some(alpha) if self.by_alpha => alpha[index],
            _ => mask.seen(index),
        };
        let indices = 0..mask.colours.len();
        indices
            .map(|index| T::from(value(index) >= least))
            .collect()
    }
}

impl fmt::Display for MaskRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} % of the mask pixels are object",
            100.0 * self.object_share
        )?;
        if self.by_alpha {
            f.write_str(", by the alpha channel: the colour is the same everywhere")?;
        } else if self.least > 1 {
            write!(
                f,
                ", from the value {} on: smaller ones are noise or edges",
                self.least
            )?;
        }
        if self.object_share == 0.0 {
            f.write_str("; warning: no mask has an object")?;
        } else if self.object_share == 1.0 {
            f.write_str("; warning: every pixel is object, so there is nothing to tell apart")?;
        }
        Ok(())
    }
}

/// How often each value occurs.
struct Counts {
    /// In all pixels.
    all: Vec<u64>,
    /// In pixels whose neighbours to the right and below have the same value.
    flat: Vec<u64>,
}

/// What all masks of a folder have together.
#[derive(Default)]
struct Sums {
    exact: Counts,
    exact_alpha: Counts,
    lossy: Counts,
    /// Least and largest stored colour and opacity.
    colours: Option<(u16, u16)>,
    opacity: Option<(u16, u16)>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            all: vec![0; 1 << 16],
            flat: vec![0; 1 << 16],
        }
    }
}

impl Counts {
    fn add(&mut self, width: usize, len: usize, value: impl Fn(usize) -> u16) {
        for index in 0..len {
            let at = value(index);
            let right = (index + 1) % width == 0 || value(index + 1) == at;
            let below = index + width >= len || value(index + width) == at;
            self.all[usize::from(at)] += 1;
            self.flat[usize::from(at)] += u64::from(right && below);
        }
    }

    fn merge(&mut self, other: &Self) {
        for (mine, other) in [(&mut self.all, &other.all), (&mut self.flat, &other.flat)] {
            for (mine, other) in mine.iter_mut().zip(other) {
                *mine += other;
            }
        }
    }

    /// The least value of an object, and of its edge.
    ///
    /// Classes and instances are areas of one value, so every value but zero is object. A mask of two
    /// values that went through a lossy format or a resampling has other values too, but few next to
    /// each other that are alike: there half of the largest value is the limit.
    fn least(&self) -> (u16, u16) {
        /// A mask with noise has an object brighter than this.
        const MIN_BRIGHT: usize = 64;
        /// Fewer pixels of other values than this do not say what they are.
        const MIN_OTHERS: u64 = 16;
        let top = self.all.iter().rposition(|&count| count > 0).unwrap_or(0);
        if top < MIN_BRIGHT {
            return (1, 1);
        }
        let (bright, eighth) = (top - top / 16, top / 8);
        let sum = |counts: &[u64]| counts.iter().sum::<u64>();
        let (others, flat) = (sum(&self.all[1..bright]), sum(&self.flat[1..bright]));
        let between = sum(&self.all[eighth + 1..top - eighth]);
        let is_noise =
            others >= MIN_OTHERS && flat * 2 < others && between <= sum(&self.all[bright..]);
        if is_noise {
            ((top / 2 + 1) as u16, (eighth + 1) as u16)
        } else {
            (1, 1)
        }
    }

    fn num_from(&self, least: u16) -> u64 {
        self.all[usize::from(least)..].iter().sum()
    }
}

impl Sums {
    fn add(&mut self, mask: &MaskValues) {
        let len = mask.colours.len();
        let counts = if mask.is_lossy {
            &mut self.lossy
        } else {
            &mut self.exact
        };
        counts.add(mask.width, len, |index| mask.seen(index));
        self.colours = widest(self.colours, range(&mask.colours));
        if let Some(alpha) = &mask.alpha {
            self.exact_alpha.add(mask.width, len, |index| alpha[index]);
            self.opacity = widest(self.opacity, range(alpha));
        }
    }

    fn merge(&mut self, other: &Self) {
        self.exact.merge(&other.exact);
        self.exact_alpha.merge(&other.exact_alpha);
        self.lossy.merge(&other.lossy);
        self.colours = widest(self.colours, other.colours);
        self.opacity = widest(self.opacity, other.opacity);
    }

    fn rule(&self) -> MaskRule {
        let varies = |range: Option<(u16, u16)>| range.is_some_and(|(least, most)| least < most);
        let by_alpha = varies(self.opacity) && !varies(self.colours);
        let counts = if by_alpha {
            &self.exact_alpha
        } else {
            &self.exact
        };
        let (least, least_edge) = counts.least();
        let mut object = counts.num_from(least);
        let mut all = counts.num_from(0);
        if !by_alpha {
            object += self.lossy.num_from(LEAST_IN_LOSSY);
            all += self.lossy.num_from(0);
        }
        MaskRule {
            by_alpha,
            least,
            least_edge,
            object_share: object as f64 / all.max(1) as f64,
        }
    }
}

fn range(values: &[u16]) -> Option<(u16, u16)> {
    Some((*values.iter().min()?, *values.iter().max()?))
}

fn widest(one: Option<(u16, u16)>, other: Option<(u16, u16)>) -> Option<(u16, u16)> {
    match (one, other) {
        (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
        (one, other) => one.or(other),
    }
}
