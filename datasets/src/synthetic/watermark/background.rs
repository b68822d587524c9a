//! What watermarks lie on: generated pictures, or parts of photographs.

use image::{RgbImage, imageops};
use rand::{RngExt, rngs::StdRng};

use super::between;
use crate::synthetic::clip::{MovingClip, MovingClipConfig};

/// Largest number of objects in a generated picture.
const MAX_OBJECTS: usize = 3;
/// Least and largest share of the picture that each object covers.
const OBJECT_SHARES: [f64; 2] = [0.05, 0.3];

/// Textured objects on a textured ground, as `[height, width, 3]`.
pub fn generate(height: usize, width: usize, rng: &mut StdRng) -> Vec<u8> {
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
pub fn cut(photograph: &RgbImage, height: u32, width: u32, rng: &mut StdRng) -> Vec<u8> {
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
    let filter = imageops::FilterType::Triangle;
    imageops::resize(&part.to_image(), width, height, filter).into_raw()
}
