//! Text watermarks on images, with masks that say where the text is.
//!
//! A watermark is a word in one of two typefaces, of random size, weight, direction, colour and
//! opacity, once or repeated over the whole image. Backgrounds are generated, or cut out of a
//! folder of photographs.

mod word;

use std::path::{Path, PathBuf};

use burn::config::Config;
use image::{RgbImage, imageops};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::clip::{MovingClip, MovingClipConfig};
use crate::{
    image_file::{self, ImageFileError},
    masks::HoleMask,
    shuffle::mix,
    video::{FrameError, FrameFolderWriter, FrameFormat, Resampling, VideoFrame},
};
use word::{Placement, Word};

/// Least side of an image in pixels: there is room for a letter.
const MIN_SIDE: usize = 16;
/// Least height of a line of text in pixels: thinner strokes cover no pixel by half.
const MIN_TEXT_HEIGHT: f64 = 12.0;

/// What generated watermarks look like.
#[derive(Config, Debug)]
pub struct WatermarkConfig {
    /// Number of images. The default is `200`.
    #[config(default = 200)]
    pub num_images: usize,
    /// Height of an image in pixels. The default is `64`.
    #[config(default = 64)]
    pub height: usize,
    /// Width of an image in pixels. The default is `64`.
    #[config(default = 64)]
    pub width: usize,
    /// Least height of a line of text in pixels. The default is `16.0`.
    #[config(default = 16.0)]
    pub min_text_height: f64,
    /// Largest height of a line of text in pixels. The default is `32.0`.
    #[config(default = 32.0)]
    pub max_text_height: f64,
    /// Least opacity, above 0. The default is `0.5`.
    #[config(default = 0.5)]
    pub min_opacity: f64,
    /// Largest opacity, at most 1. The default is `0.9`.
    #[config(default = 0.9)]
    pub max_opacity: f64,
    /// Largest angle between the text and the horizontal, in degrees. The default is `45.0`.
    #[config(default = 45.0)]
    pub max_angle: f64,
    /// Share of the watermarks that are repeated over the whole image. The default is `0.3`.
    #[config(default = 0.3)]
    pub tiled: f64,
    /// Share of the images without a watermark. The default is `0.05`.
    #[config(default = 0.05)]
    pub blank: f64,
    /// Seed of everything random: the same configuration makes the same images.
    /// The default is `0`.
    #[config(default = 0)]
    pub seed: u64,
}

impl WatermarkConfig {
    /// Refuses what no image can have.
    fn check(&self) {
        assert!(self.num_images > 0, "num_images must be at least 1, got 0");
        for (name, side) in [("height", self.height), ("width", self.width)] {
            assert!(
                side >= MIN_SIDE,
                "{name} must be at least {MIN_SIDE}, got {side}"
            );
        }
        let text_height = self.min_text_height;
        let ranges = [
            (
                "min_text_height",
                text_height,
                MIN_TEXT_HEIGHT,
                self.max_text_height,
            ),
            ("min_opacity", self.min_opacity, 0.05, self.max_opacity),
            ("max_opacity", self.max_opacity, 0.05, 1.0),
            ("max_angle", self.max_angle, 0.0, 180.0),
            ("tiled", self.tiled, 0.0, 1.0),
            ("blank", self.blank, 0.0, 1.0),
        ];
        assert!(
            self.max_text_height.is_finite(),
            "max_text_height must be finite"
        );
        for (name, value, least, most) in ranges {
            assert!(
                (least..=most).contains(&value),
                "{name} must be {least} to {most}, got {value}"
            );
        }
    }
}

/// Least share of a pixel that letters must cover to change it, so that the mask holds no pixel
/// that looks as before.
const MIN_COVERAGE: f32 = 0.25;
/// Least difference between the brightness of the text and of the image's mean, from 0 to 1.
const MIN_CONTRAST: f32 = 0.4;

/// An image with a watermark, and the truth about it.
///
/// # Shapes
/// - background, image: `[height, width, 3]`, red, green and blue from 0 to 255
/// - alpha: `[height, width]`
#[derive(Debug, Clone, PartialEq)]
pub struct Watermarked {
    /// What was written; `None` on an image without a watermark.
    pub text: Option<String>,
    /// The image under the watermark.
    pub background: Vec<u8>,
    /// The image with the watermark.
    pub image: Vec<u8>,
    /// How much of the background is hidden, from 0 to 1.
    pub alpha: Vec<f32>,
    /// 1 exactly where text was blended over the background, that is where `alpha` is above 0.
    pub hole_mask: HoleMask,
}

/// The folders of generated images on disk, as
/// [`ImageMaskFolder`](crate::masks::ImageMaskFolder) reads them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatermarkFiles {
    /// Images with watermarks, PNG.
    pub images: PathBuf,
    /// Masks of the same names, PNG.
    pub masks: PathBuf,
}

/// Images with text watermarks, each made when it is asked for.
///
/// # Example
/// ```
/// # let folder = tempfile::tempdir()?;
/// use burn_memopt_datasets::masks::ImageMaskFolder;
/// use burn_memopt_datasets::synthetic::watermark::{WatermarkConfig, Watermarks};
///
/// let watermarks = Watermarks::new(WatermarkConfig::new().with_num_images(3).with_blank(0.0));
/// let files = watermarks.write(folder.path())?;
/// let pairs = ImageMaskFolder::open(files.images, files.masks)?;
/// assert!(pairs.item(2)?.mask.contains(&1.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Watermarks {
    config: WatermarkConfig,
    /// Photographs to cut backgrounds out of; none if they are generated.
    photographs: Vec<PathBuf>,
}

impl Watermarks {
    /// Watermarks on generated backgrounds: textured objects on a textured ground.
    ///
    /// # Panics
    /// If a side is below 16 pixels, there is no image, or a range is empty or goes too far.
    pub fn new(config: WatermarkConfig) -> Self {
        config.check();
        Self {
            config,
            photographs: Vec::new(),
        }
    }

    /// Watermarks on parts of the PNG and JPEG files of `folder`, cut out at random places and
    /// scales.
    ///
    /// The files are used in natural order, each for as many consecutive images as the others:
    /// the last images show other photographs than the first.
    ///
    /// # Errors
    /// If the folder cannot be listed or holds no image.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn on_photographs(
        config: WatermarkConfig,
        folder: impl AsRef<Path>,
    ) -> Result<Self, ImageFileError> {
        config.check();
        Ok(Self {
            config,
            photographs: image_file::list(folder.as_ref())?,
        })
    }

    /// Makes image `index`.
    ///
    /// # Errors
    /// If its background cannot be read.
    ///
    /// # Panics
    /// If there is no image `index`.
    pub fn image(&self, index: usize) -> Result<Watermarked, ImageFileError> {
        crate::check_index("image", index, self.config.num_images);
        let photograph = self.photograph_of(index).map(open);
        Ok(self.draw(index, photograph.transpose()?.as_ref()))
    }

    /// Writes all images into `images` and `masks` in `folder`, creating them.
    ///
    /// # Errors
    /// If a background cannot be read, or a folder or file not be written.
    pub fn write(&self, folder: impl AsRef<Path>) -> Result<WatermarkFiles, FrameError> {
        let files = WatermarkFiles {
            images: folder.as_ref().join("images"),
            masks: folder.as_ref().join("masks"),
        };
        let images = FrameFolderWriter::create(&files.images, FrameFormat::Png)?;
        let masks = FrameFolderWriter::create(&files.masks, FrameFormat::Png)?;
        // Decoding is slow, and neighbours share a photograph.
        let mut opened: Option<(&Path, RgbImage)> = None;
        for index in 0..self.config.num_images {
            if let Some(path) = self.photograph_of(index)
                && opened.as_ref().is_none_or(|(last, _)| *last != path)
            {
                opened = Some((path, open(path)?));
            }
            let item = self.draw(index, opened.as_ref().map(|(_, photograph)| photograph));
            images.write(&VideoFrame {
                index,
                height: self.config.height,
                width: self.config.width,
                pixels: item.image,
            })?;
            masks.write_mask(index, &item.hole_mask)?;
        }
        Ok(files)
    }

    fn photograph_of(&self, index: usize) -> Option<&Path> {
        let file = index * self.photographs.len() / self.config.num_images;
        self.photographs.get(file).map(PathBuf::as_path)
    }

    /// Image `index` on a part of `photograph`, or on a generated background.
    fn draw(&self, index: usize, photograph: Option<&RgbImage>) -> Watermarked {
        let config = &self.config;
        let (height, width) = (config.height, config.width);
        let mut rng = StdRng::seed_from_u64(mix(config.seed, index as u64));
        let background = match photograph {
            Some(photograph) => cut_background(photograph, height as u32, width as u32, &mut rng),
            None => generate_background(height, width, &mut rng),
        };
        let (text, coverage) = match rng.random_bool(config.blank) {
            true => (None, vec![0.0; height * width]),
            false => self.cover(&mut rng),
        };
        let opacity = between(config.min_opacity, config.max_opacity, &mut rng) as f32;
        let color = color(&background, &mut rng);
        let alpha: Vec<f32> = coverage.iter().map(|share| opacity * share).collect();
        let pixels = background.as_chunks::<3>().0.iter().zip(&alpha);
        let image = pixels.flat_map(|(under, &alpha)| blend(*under, color, alpha));
        let holes = alpha.iter().map(|&alpha| u8::from(alpha > 0.0));
        Watermarked {
            text,
            image: image.collect(),
            hole_mask: HoleMask::new(height, width, holes.collect()),
            background,
            alpha,
        }
    }

    /// A word, and the share of each pixel that it covers: none, or at least [`MIN_COVERAGE`].
    fn cover(&self, rng: &mut StdRng) -> (Option<String>, Vec<f32>) {
        let config = &self.config;
        loop {
            let line_height = between(config.min_text_height, config.max_text_height, rng);
            let word = Word::random(line_height as f32, rng);
            let placement = Placement::random(config, rng);
            let mut coverage = word.cover(&placement, config.height, config.width);
            for share in &mut coverage {
                if *share < MIN_COVERAGE {
                    *share = 0.0;
                }
            }
            // A gap between two letters may be all that the image would show.
            if coverage.iter().any(|&share| share > 0.0) {
                return (Some(word.text), coverage);
            }
        }
    }
}

fn open(path: &Path) -> Result<RgbImage, ImageFileError> {
    let (image, _) = image_file::decode(path)?;
    Ok(image.into_rgb8())
}

/// White, black, or any colour; the opposite where it would not stand out.
fn color(background: &[u8], rng: &mut StdRng) -> [f32; 3] {
    let color = match rng.random_range(0..4) {
        0 | 1 => [255.0; 3],
        2 => [0.0; 3],
        _ => [(); 3].map(|()| 255.0 * rng.random::<f32>()),
    };
    let sum: f32 = background.iter().copied().map(f32::from).sum();
    let mean = sum / (255.0 * background.len() as f32);
    let brightness = color.iter().sum::<f32>() / (3.0 * 255.0);
    match (brightness - mean).abs() < MIN_CONTRAST {
        true if mean < 0.5 => [255.0; 3],
        true => [0.0; 3],
        false => color,
    }
}

fn blend(under: [u8; 3], over: [f32; 3], alpha: f32) -> [u8; 3] {
    [0, 1, 2].map(|channel: usize| {
        let under = f32::from(under[channel]);
        (under + alpha * (over[channel] - under)).round() as u8
    })
}

/// Uniform from `least` to `most`.
fn between(least: f64, most: f64, rng: &mut StdRng) -> f64 {
    least + (most - least) * rng.random::<f64>()
}

/// Largest number of objects in a generated picture.
const MAX_OBJECTS: usize = 3;
/// Least and largest share of the picture that each object covers.
const OBJECT_SHARES: [f64; 2] = [0.05, 0.3];

/// Textured objects on a textured ground, as `[height, width, 3]`.
fn generate_background(height: usize, width: usize, rng: &mut StdRng) -> Vec<u8> {
    let config = MovingClipConfig::new()
        .with_num_frames(1)
        .with_height(height)
        .with_width(width)
        .with_num_objects(rng.random_range(0..=MAX_OBJECTS))
        .with_object_share(between(OBJECT_SHARES[0], OBJECT_SHARES[1], rng))
        .with_seed(rng.random());
    MovingClip::new(&config).frame(0).pixels
}

/// A part of `photograph` with these proportions, at a random place, scaled to
/// `[height, width, 3]`.
fn cut_background(photograph: &RgbImage, height: u32, width: u32, rng: &mut StdRng) -> Vec<u8> {
    let largest = (f64::from(photograph.height()) / f64::from(height))
        .min(f64::from(photograph.width()) / f64::from(width));
    // Never enlarged, unless the photograph is smaller than the image.
    let scale = between(largest.min(1.0), largest, rng);
    let scaled = |side: u32, most: u32| ((f64::from(side) * scale) as u32).clamp(1, most);
    let part_height = scaled(height, photograph.height());
    let part_width = scaled(width, photograph.width());
    let top = rng.random_range(0..=photograph.height() - part_height);
    let left = rng.random_range(0..=photograph.width() - part_width);
    let part = imageops::crop_imm(photograph, left, top, part_width, part_height);
    let part = VideoFrame {
        index: 0,
        height: part_height as usize,
        width: part_width as usize,
        pixels: part.to_image().into_raw(),
    };
    let part = part.resized(height as usize, width as usize, Resampling::Bilinear);
    part.pixels
}

#[cfg(test)]
mod tests;
