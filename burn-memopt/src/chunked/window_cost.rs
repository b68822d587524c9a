//! Pure. How large a window memory allows.

use crate::budget::Ladder;
use crate::memory::Bytes;

/// What a model needs in memory for a window: a fixed amount, and so much for each pixel.
///
/// [`measure_window`](super::measure_window) finds both out.
///
/// # Example
/// ```
/// use burn_memopt::chunked::WindowCost;
/// use burn_memopt::memory::Bytes;
///
/// // 64×64 and 128×128 pixels were run.
/// let cost = WindowCost::through((4096, Bytes::mib(5)), (16384, Bytes::mib(17)));
/// assert_eq!(cost.bytes([256, 256]), Bytes::mib(65));
/// let window = cost.largest(Bytes::mib(100), 0.8, [3000, 2000], 16);
/// assert_eq!(window, Some([272, 272]));
/// assert_eq!(cost.largest(Bytes::mib(1), 0.8, [3000, 2000], 16), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct WindowCost {
    fixed: f64,
    per_pixel: f64,
    per_row: f64,
}

impl WindowCost {
    /// The line through two windows, of so many pixels each, that were run.
    ///
    /// Less than nothing, which noise in the counts may seem to say, counts as nothing.
    ///
    /// # Panics
    /// If the second has no more pixels than the first.
    pub fn through(small: (usize, Bytes), large: (usize, Bytes)) -> Self {
        assert!(
            large.0 > small.0,
            "the second window must have more pixels than the first, {}, got {}",
            small.0,
            large.0
        );
        let [low, high] = [small.1, large.1].map(|bytes| bytes.get() as f64);
        let per_pixel = ((high - low) / (large.0 - small.0) as f64).max(0.0);
        // At least what the larger took, whatever the smaller did.
        let fixed = (high - per_pixel * large.0 as f64).max(0.0);
        Self {
            fixed,
            per_pixel,
            per_row: 0.0,
        }
    }

    /// Adds what every row of a window costs: the sums of a row of windows in host memory take
    /// four bytes for each column of the image, channel of the result and image.
    pub fn with_row(self, bytes: Bytes) -> Self {
        Self {
            per_row: bytes.get() as f64,
            ..self
        }
    }

    /// What a window of this height and width needs.
    pub fn bytes(&self, [height, width]: [usize; 2]) -> Bytes {
        let pixels = (height * width) as f64;
        let bytes = self.fixed + self.per_pixel * pixels + self.per_row * height as f64;
        Bytes::new(bytes.ceil() as u64)
    }

    /// The largest window that fits into a share of `available`, as square as the image allows; `None` if
    /// none does.
    ///
    /// Its sides are multiples of `stride`, which is how often the model halves its input, and not
    /// above the image's; one that is shorter than `stride` gets a window of `stride`, to be padded.
    /// The `share` is usually [`SHARE_OF_FREE`](crate::budget::SHARE_OF_FREE).
    ///
    /// # Panics
    /// If `stride` or a side is zero, or `share` is not above 0 and at most 1.
    pub fn largest(
        &self,
        available: Bytes,
        share: f64,
        image: [usize; 2],
        stride: usize,
    ) -> Option<[usize; 2]> {
        assert!(stride > 0, "the stride must be at least 1, got 0");
        assert!(
            image[0] > 0 && image[1] > 0,
            "an image must have pixels, got a side of 0"
        );
        assert!(
            share > 0.0 && share <= 1.0,
            "the share of memory must be above 0 and at most 1, got {share}"
        );
        let most = image.map(|side| (side / stride).max(1));
        let window = |number: usize| most.map(|most| stride * number.min(most));
        let largest_first = (1..=most[0].max(most[1])).rev().map(window);
        let windows = Ladder::new(largest_first, |window| self.bytes(*window));
        windows
            .within(available.scale(share))
            .ok()
            .map(|(window, _)| *window)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_largest_window_fits_and_the_next_does_not(
            fixed in 0_u64..1000, per_pixel in 0_u64..50, per_row in 0_u64..100,
            available in 0_u64..1_000_000, share in 0.1..1.0_f64,
            image in prop::array::uniform2(1_usize..500), stride in 1_usize..33,
        ) {
            let at = |pixels: usize| (pixels, Bytes::new(fixed + per_pixel * pixels as u64));
            let cost = WindowCost::through(at(10), at(1000)).with_row(Bytes::new(per_row));
            let budget = (available as f64 * share) as u64;
            let needs = |[height, width]: [usize; 2]| {
                let [height, pixels] = [height as u64, (height * width) as u64];
                fixed + per_pixel * pixels + per_row * height
            };
            let whole = image.map(|side| (side / stride).max(1) * stride);
            let next = |side: usize, whole: usize| (side + stride).min(whole);
            match cost.largest(Bytes::new(available), share, image, stride) {
                Some(window) => {
                    prop_assert!(window[0] % stride == 0 && window[1] % stride == 0);
                    prop_assert!(window[0] <= whole[0] && window[1] <= whole[1]);
                    prop_assert!(needs(window) <= budget + 1);
                    let larger = [next(window[0], whole[0]), next(window[1], whole[1])];
                    prop_assert!(window == whole || needs(larger) + 1 >= budget);
                }
                None => prop_assert!(needs([stride.min(whole[0]), stride.min(whole[1])]) + 1 >= budget),
            }
        }
    }

    #[test]
    fn an_image_that_fits_is_one_window() {
        let cost = WindowCost::through((100, Bytes::new(400)), (200, Bytes::new(800)));
        let window = cost.largest(Bytes::mib(1), 1.0, [64, 320], 16);
        assert_eq!(window, Some([64, 320]));
        let window = cost.largest(Bytes::new(4 * 64 * 100), 1.0, [64, 320], 16);
        assert_eq!(window, Some([64, 96]));
    }

    #[test]
    fn noise_never_makes_windows_free() {
        let cost = WindowCost::through((100, Bytes::new(900)), (200, Bytes::new(800)));
        assert_eq!(cost.bytes([100, 100]), Bytes::new(800));
    }
}
