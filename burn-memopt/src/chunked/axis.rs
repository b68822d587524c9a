//! Where windows lie along one side of an image; pure.

/// Where the windows of one axis begin.
///
/// Windows follow each other at `floor(window * (1 - overlap))` pixels, at least one, until one
/// reaches the end; the last is moved back so that it ends there. If the image is shorter than
/// the window, it is padded, half in front, rounded down, and the rest behind, and there is one
/// window.
///
/// # Example
/// ```
/// use burn_memopt::chunked::Axis;
///
/// assert_eq!(Axis::new(10, 4, 0.25).starts(), [0, 3, 6]);
/// assert_eq!(Axis::new(10, 4, 0.0).starts(), [0, 4, 6]);
/// let padded = Axis::new(3, 8, 0.25);
/// assert_eq!((padded.starts(), padded.before(), padded.after()), (&[0][..], 2, 3));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    len: usize,
    window: usize,
    starts: Vec<usize>,
}

impl Axis {
    /// Lays windows of `window` pixels over `len` pixels. A `window` of 0 is as long as the image.
    ///
    /// # Panics
    /// If `len` is zero, or `overlap` is not from 0 to below 1.
    pub fn new(len: usize, window: usize, overlap: f64) -> Self {
        assert!(len > 0, "an image must have pixels, got a side of 0");
        assert!(
            (0.0..1.0).contains(&overlap),
            "the overlap must be from 0 to below 1, got {overlap}"
        );
        let window = if window == 0 { len } else { window };
        let padded = len.max(window);
        let step = match window == padded {
            true => window,
            false => ((window as f64 * (1.0 - overlap)) as usize).max(1),
        };
        Self::with_step(len, window, step)
    }

    /// Lays windows of `window` pixels, `step` apart.
    fn with_step(len: usize, window: usize, step: usize) -> Self {
        let last = len.max(window) - window;
        let starts = (0..last).step_by(step).chain([last]).collect();
        Self {
            len,
            window,
            starts,
        }
    }

    /// Pixels of the image.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the image has no pixel, which [`new`](Self::new) refuses.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Pixels of a window.
    pub fn window(&self) -> usize {
        self.window
    }

    /// First pixel of each window in the padded image, rising.
    pub fn starts(&self) -> &[usize] {
        &self.starts
    }

    /// Pixels of the padded image.
    pub fn padded(&self) -> usize {
        self.len.max(self.window)
    }

    /// Pixels that are padded in front of the image.
    pub fn before(&self) -> usize {
        (self.padded() - self.len) / 2
    }

    /// Pixels that are padded behind the image.
    pub fn after(&self) -> usize {
        self.padded() - self.len - self.before()
    }

    /// Pixels of the padded image that no window from number `next` on touches: those before it.
    pub fn is_final_before(&self, next: usize) -> usize {
        self.starts.get(next).copied().unwrap_or(self.padded())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn windows_cover_every_pixel_and_are_no_more_than_necessary(
            len in 1_usize..200, window in 0_usize..80, overlap in 0.0..0.99_f64,
        ) {
            let axis = Axis::new(len, window, overlap);
            let (window, padded) = (axis.window(), axis.padded());
            let starts = axis.starts();
            prop_assert_eq!(starts[0], 0);
            prop_assert_eq!(starts.last().unwrap() + window, padded);
            let step = ((window as f64 * (1.0 - overlap)) as usize).max(1);
            for pair in starts.windows(2) {
                prop_assert!(pair[0] < pair[1] && pair[1] - pair[0] <= step);
            }
            // One fewer at this step would not reach the end.
            prop_assert!(starts.len() == 1 || (starts.len() - 2) * step + window < padded);
            prop_assert_eq!(axis.before() + len + axis.after(), padded);
            prop_assert!(axis.after() - axis.before() <= 1);
        }
    }

    #[test]
    #[should_panic(expected = "the overlap must be from 0 to below 1, got 1")]
    fn windows_that_never_move_on_are_refused() {
        Axis::new(10, 4, 1.0);
    }
}
