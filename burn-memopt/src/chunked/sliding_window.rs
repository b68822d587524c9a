use super::chunks::{Chunks, Layout};
use super::grid::Axis;
use super::{Blend, Padding};

/// Runs a model on an image of any size, window by window, and puts the results together.
///
/// [`Chunks`] says what is where in memory, and has the methods that run.
///
/// # Exactness
/// Where windows overlap, results are weighted means: close to those on the whole image, not equal.
/// An image that fits into one window gives what the model gives, to rounding of the weights.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::chunked::{Blend, SlidingWindow};
///
/// let image = Tensor::<4>::ones([1, 3, 100, 70], &Device::flex());
/// let windows = SlidingWindow::new([32, 32]).with_blend(Blend::GAUSSIAN);
/// let doubled = windows.infer(image, |window| window * 2.0);
/// assert_eq!(doubled.dims(), [1, 3, 100, 70]);
/// assert!((doubled.max().into_scalar::<f32>() - 2.0).abs() < 1e-6);
/// ```
///
/// # References
/// Defaults and the places of windows are those of `sliding_window_inference` in MONAI.
pub type SlidingWindow = Chunks<Overlapping>;

/// Windows that overlap.
#[derive(Debug, Clone, PartialEq)]
pub struct Overlapping {
    window: [usize; 2],
    overlap: [f64; 2],
    blend: Blend,
    padding: Padding,
}

impl SlidingWindow {
    /// Windows of this height and width in pixels; 0 is the side of the image.
    ///
    /// The defaults are an overlap of 0.25, [`Blend::Constant`] and [`Padding::Zero`].
    pub fn new(window: [usize; 2]) -> Self {
        Self::from_layout(Overlapping {
            window,
            overlap: [0.25; 2],
            blend: Blend::Constant,
            padding: Padding::Zero,
        })
    }

    /// Chooses the share of a window, in each axis, that the next one covers too: from 0 to below
    /// 1.
    pub fn with_overlap(mut self, overlap: [f64; 2]) -> Self {
        self.layout.overlap = overlap;
        self
    }

    /// Chooses how overlapping windows are put together.
    pub fn with_blend(mut self, blend: Blend) -> Self {
        self.layout.blend = blend;
        self
    }

    /// Chooses what surrounds an image that is smaller than the window.
    pub fn with_padding(mut self, padding: Padding) -> Self {
        self.layout.padding = padding;
        self
    }
}

impl Layout for Overlapping {
    fn axes(&self, size: [usize; 2]) -> [Axis; 2] {
        [0, 1].map(|side| Axis::overlapping(size[side], self.window[side], self.overlap[side]))
    }

    fn blend(&self) -> Option<&Blend> {
        Some(&self.blend)
    }

    fn padding(&self) -> Padding {
        self.padding
    }
}
