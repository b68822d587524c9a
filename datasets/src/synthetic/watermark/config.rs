//! What generated watermarks look like.

use burn::config::Config;

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
    pub(super) fn check(&self) {
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
