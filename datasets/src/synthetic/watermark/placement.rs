//! Where a word lies on an image.

use rand::{RngExt, rngs::StdRng};

use super::{WatermarkConfig, between};

/// Share of the watermarks that are horizontal.
const HORIZONTAL: f64 = 0.3;

/// Where a word lies on an image, once or like bricks in a wall.
pub struct Placement {
    /// Row and column of its middle, in pixels.
    center: [f32; 2],
    /// Sine and cosine of its direction.
    direction: (f32, f32),
    /// Gaps between repetitions, row and column, in pixels; `None` if there are none.
    gaps: Option<[f32; 2]>,
}

impl Placement {
    /// A random place, with the middle of the word in the middle half of the image.
    pub fn random(config: &WatermarkConfig, rng: &mut StdRng) -> Self {
        let mut middle = |side: usize| (side as f64 * between(0.25, 0.75, rng)) as f32;
        let center = [middle(config.height), middle(config.width)];
        let angle = match rng.random_bool(HORIZONTAL) {
            true => 0.0,
            false => between(-config.max_angle, config.max_angle, rng).to_radians() as f32,
        };
        let gaps = rng.random_bool(config.tiled).then(|| {
            let gap = |most| between(0.0, most, &mut *rng) as f32;
            [config.min_text_height, config.max_text_height].map(gap)
        });
        Self {
            center,
            direction: libm::sincosf(angle),
            gaps,
        }
    }

    /// The place of the image at (`row`, `column`) within a word of `size`, its height and
    /// width: across its lines and along them, from its middle.
    pub fn within(&self, row: f32, column: f32, [height, width]: [f32; 2]) -> [f32; 2] {
        let (row, column) = (row - self.center[0], column - self.center[1]);
        let (sin, cos) = self.direction;
        let mut across = cos * row - sin * column;
        let mut along = cos * column + sin * row;
        if let Some(gaps) = self.gaps {
            let (line, period) = (height + gaps[0], width + gaps[1]);
            let number = (across / line).round();
            across -= number * line;
            along += 0.5 * period * number.rem_euclid(2.0);
            along -= (along / period).round() * period;
        }
        [across, along]
    }
}
