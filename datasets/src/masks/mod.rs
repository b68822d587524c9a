//! Masks of a video: which pixels are missing.
//!
//! [`MaskSource`] reads those that come with a video: one a frame, or one for all.
//! [`RandomMask`] draws them for training: objects and strokes that move or stand still.

mod error;
mod growth;
pub(crate) mod moving;
mod random;
mod reshape;
mod source;

pub use error::MaskError;
pub(crate) use growth::Growth;
pub use random::{RandomMask, RandomMaskConfig};
pub use source::{MaskRecord, MaskSource};

/// Which pixels of a frame are missing, and are to be filled.
///
/// # Shapes
/// - values: `[height, width]`, 1 where a pixel is missing and 0 where it is known
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoleMask {
    height: usize,
    width: usize,
    values: Vec<u8>,
}

impl HoleMask {
    /// A mask of values that are 0 or 1, row by row.
    ///
    /// # Panics
    /// If a side is zero, if there are not `height * width` values, or if one is neither.
    pub fn new(height: usize, width: usize, values: Vec<u8>) -> Self {
        assert!(
            height > 0 && width > 0,
            "mask must have pixels, got {height}×{width}"
        );
        let len = values.len();
        assert!(
            len == height * width,
            "mask must have {height}×{width} values, got {len}"
        );
        let other = values.iter().find(|&&value| value > 1);
        assert!(other.is_none(), "mask must hold 0 and 1, got {other:?}");
        Self {
            height,
            width,
            values,
        }
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// 1 where a pixel is missing and 0 where it is known, row by row.
    pub fn values(&self) -> &[u8] {
        &self.values
    }

    /// Pixels that are missing.
    pub fn num_holes(&self) -> usize {
        self.values.iter().map(|&hole| usize::from(hole)).sum()
    }

    /// The share of all pixels that is missing, from 0 to 1.
    pub fn hole_share(&self) -> f64 {
        self.num_holes() as f64 / self.values.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[should_panic(expected = "mask must have pixels, got 0×4")]
    #[case::without_pixels(0, vec![])]
    #[should_panic(expected = "mask must have 1×4 values, got 3")]
    #[case::too_short(1, vec![0; 3])]
    #[should_panic(expected = "mask must hold 0 and 1, got Some(255)")]
    #[case::gray(1, vec![0, 1, 255, 0])]
    fn values_are_counted_and_zero_or_one(#[case] height: usize, #[case] values: Vec<u8>) {
        HoleMask::new(height, 4, values);
    }

    #[test]
    fn holes_are_counted() {
        let mask = HoleMask::new(2, 2, vec![1, 0, 0, 0]);
        assert_eq!((mask.num_holes(), mask.hole_share()), (1, 0.25));
    }
}
