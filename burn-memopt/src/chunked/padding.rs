//! What stands where an image ends before its window does; pure.

/// How an image that is smaller than the window is filled up.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Padding {
    /// With one value, here zero; see [`Value`](Self::Value) for another.
    #[default]
    Zero,
    /// With this value.
    Value(f32),
    /// With the image mirrored at its border pixels, which are not repeated.
    Reflect,
    /// With the border pixel.
    Replicate,
    /// With the image once more.
    Circular,
}

impl Padding {
    /// The pixel of a side of `len` pixels that stands at `at`, which counts from the first
    /// pixel and may lie outside; `None` where it is a value.
    ///
    /// # Panics
    /// If `len` is zero.
    ///
    /// # Example
    /// ```
    /// use burn_memopt::chunked::Padding;
    ///
    /// let row = |padding: Padding| (-2..5).map(|at| padding.source(at, 3)).collect::<Vec<_>>();
    /// let indices = |at: [usize; 7]| at.map(Some).to_vec();
    /// assert_eq!(row(Padding::Reflect), indices([2, 1, 0, 1, 2, 1, 0]));
    /// assert_eq!(row(Padding::Replicate), indices([0, 0, 0, 1, 2, 2, 2]));
    /// assert_eq!(row(Padding::Circular), indices([1, 2, 0, 1, 2, 0, 1]));
    /// assert_eq!(row(Padding::Zero)[..3], [None, None, Some(0)]);
    /// ```
    pub fn source(self, at: isize, len: usize) -> Option<usize> {
        assert!(len > 0, "a side must have pixels, got none");
        let last = len as isize - 1;
        let inside = match self {
            Self::Zero | Self::Value(_) => {
                return usize::try_from(at).ok().filter(|at| *at < len);
            }
            Self::Replicate => at.clamp(0, last),
            Self::Circular => at.rem_euclid(len as isize),
            // Back and forth, with a period of twice the way between the border pixels.
            Self::Reflect => {
                let place = at.rem_euclid((2 * last).max(1));
                place.min(2 * last - place)
            }
        };
        Some(inside as usize)
    }

    /// The value that is filled with, where it is not a pixel of the image.
    pub fn value(self) -> f32 {
        match self {
            Self::Value(value) => value,
            _ => 0.0,
        }
    }
}
