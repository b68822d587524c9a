use std::fmt;

use serde::{Deserialize, Serialize};

/// What a step runs on: how many images, and their size in pixels.
///
/// For other inputs take what grows with them: the frames of a video as the batch, the tokens of a
/// text as the width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Workload {
    /// Images in one pass.
    pub batch_size: usize,
    /// Height and width of an image.
    pub size: [usize; 2],
}

/// The shares of a side that are calibrated on, in fourths.
const FOURTHS: [usize; 2] = [1, 2];
/// Images of the largest batch that is calibrated on.
const CALIBRATION_BATCH: usize = 8;

impl Workload {
    /// `batch_size` images of `size`, height and width.
    pub const fn new(batch_size: usize, size: [usize; 2]) -> Self {
        Self { batch_size, size }
    }

    /// Pixels of all images together.
    pub fn pixels(&self) -> u64 {
        let [height, width] = self.size.map(|side| side as u64);
        self.batch_size as u64 * height * width
    }

    /// Two smaller workloads to calibrate on: images with a fourth and half of the sides, at most
    /// eight of them; one and two whole images where sides would fall below `least`.
    ///
    /// Sides are multiples of `multiple`. The batch stays while it is small: how many buffers the
    /// threads of a CPU have depends on it.
    ///
    /// # Panics
    /// If `multiple` is zero.
    pub fn calibration(&self, least: usize, multiple: usize) -> [Self; 2] {
        assert!(multiple > 0, "multiple must be at least 1, got 0");
        let batch_size = self.batch_size.clamp(1, CALIBRATION_BATCH);
        let part = |fourths: usize| {
            let side = |side: usize| (side * fourths / 4).next_multiple_of(multiple);
            Self::new(batch_size, self.size.map(side))
        };
        let [small, large] = FOURTHS.map(part);
        if small.size.iter().any(|&side| side < least) || small == large {
            return [1, 2].map(|batch_size| Self::new(batch_size, self.size));
        }
        [small, large]
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [height, width] = self.size;
        write!(f, "{}×{height}×{width}", self.batch_size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calibration_is_smaller_where_images_are_large_enough() {
        let large = Workload::new(8, [256, 192]);
        assert_eq!(
            large.calibration(32, 16),
            [Workload::new(8, [64, 48]), Workload::new(8, [128, 96])]
        );
        let small = Workload::new(1, [32, 32]);
        assert_eq!(
            small.calibration(16, 8),
            [Workload::new(1, [32, 32]), Workload::new(2, [32, 32])]
        );
    }
}
