//! Masks for training, drawn at random.

use burn::config::Config;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    HoleMask,
    shape::{Growth, Moving},
};

/// How random masks look.
#[derive(Config, Debug)]
pub struct RandomMaskConfig {
    /// Probability that a mask is free-form strokes; otherwise it is an object, a smooth
    /// blob. The default is `0.5`.
    #[config(default = 0.5)]
    pub stroke_prob: f64,
    /// Probability that a mask moves from frame to frame; otherwise it stands still. The
    /// default is `0.5`.
    #[config(default = 0.5)]
    pub moving_prob: f64,
    /// The least share of a frame that is missing. The default is `0.05`.
    #[config(default = 0.05)]
    pub min_hole_share: f64,
    /// The largest share of a frame that is missing. The default is `0.25`.
    #[config(default = 0.25)]
    pub max_hole_share: f64,
    /// The fastest movement in pixels a frame, along each axis. The default is `8.0`.
    #[config(default = 8.0)]
    pub max_speed: f64,
}

/// The random mask of a clip: one shape, which keeps its size, moves smoothly or not at all,
/// and never leaves the frame.
///
/// Any frame's mask is drawn when it is asked for, without those before it.
///
/// # Exactness
/// Every frame has the same number of missing pixels, and it is within the configured
/// bounds. The same seed gives the same masks.
///
/// # Example
/// ```
/// use burn_memopt_datasets::masks::{RandomMask, RandomMaskConfig};
///
/// let config = RandomMaskConfig::new().with_moving_prob(1.0);
/// let mask = RandomMask::new(&config, 48, 64, 7);
/// let (first, later) = (mask.hole_mask(0), mask.hole_mask(20));
/// assert_ne!(first, later);
/// assert_eq!(first.num_holes(), later.num_holes());
/// assert!((0.05..=0.25).contains(&first.hole_share()));
/// ```
#[derive(Debug, Clone)]
pub struct RandomMask {
    height: usize,
    width: usize,
    shape: Moving,
}

impl RandomMask {
    /// Draws a mask for frames of `height * width` pixels.
    ///
    /// # Panics
    /// If a side is zero, a probability or share is not within 0 to 1, no number of
    /// pixels above zero lies between the shares, or the speed is negative or not finite.
    pub fn new(config: &RandomMaskConfig, height: usize, width: usize, seed: u64) -> Self {
        let num_holes = check(config, height, width);
        let mut rng = StdRng::seed_from_u64(seed);
        let num_holes = rng.random_range(num_holes);
        let growth = match rng.random_bool(config.stroke_prob) {
            true => Growth::strokes(height, width, &mut rng),
            false => Growth::blob(height, width, &mut rng),
        };
        let speed = match rng.random_bool(config.moving_prob) {
            true => config.max_speed,
            false => 0.0,
        };
        let stamp = growth.shape(num_holes);
        Self {
            height,
            width,
            shape: Moving::new(stamp, height, width, speed, &mut rng),
        }
    }

    /// The mask of a frame, 1 where pixels are missing.
    pub fn hole_mask(&self, frame: usize) -> HoleMask {
        let mut values = vec![0; self.height * self.width];
        for (row, column) in self.shape.pixels(frame) {
            values[row * self.width + column] = 1;
        }
        HoleMask::new(self.height, self.width, values)
    }
}

/// The numbers of missing pixels that the configuration allows.
fn check(
    config: &RandomMaskConfig,
    height: usize,
    width: usize,
) -> std::ops::RangeInclusive<usize> {
    assert!(
        height > 0 && width > 0,
        "mask must have pixels, got {height}×{width}"
    );
    let shares = [
        ("stroke_prob", config.stroke_prob),
        ("moving_prob", config.moving_prob),
        ("min_hole_share", config.min_hole_share),
        ("max_hole_share", config.max_hole_share),
    ];
    for (name, value) in shares {
        assert!(
            (0.0..=1.0).contains(&value),
            "{name} must lie between 0 and 1, got {value}"
        );
    }
    let speed = config.max_speed;
    assert!(
        speed.is_finite() && speed >= 0.0,
        "max_speed must be finite and at least 0, got {speed}"
    );
    let num_pixels = (height * width) as f64;
    let least = (config.min_hole_share * num_pixels).ceil().max(1.0) as usize;
    let most = (config.max_hole_share * num_pixels).floor() as usize;
    assert!(
        least <= most,
        "shares of missing pixels must allow a whole number above 0, got {} to {} of {height}×{width}",
        config.min_hole_share,
        config.max_hole_share
    );
    least..=most
}

#[cfg(test)]
mod tests;
