//! The two ways to cut an image: tiles with a margin, and windows that overlap.

use super::chunks::{Chunks, Layout};
use super::grid::Axis;
use super::{Blend, Padding, Reach};

/// Runs a model on tiles that have a margin of real pixels, and keeps the middles: the result is
/// that on the whole image.
///
/// The margin must be at least how far a pixel reaches through the model, and tiles must start at
/// multiples of the model's stride: [`Reach::measure`] finds out both.
///
/// [`Chunks`] says what is where in memory, and has the methods that run.
///
/// # Exactness
/// Equal to the model on the whole image, to rounding where a kernel computes a size in another
/// order, if the model is the same everywhere in the image. It is not if it normalizes by the
/// image's own statistics or attends to all of it. Where it resizes by the image's size, as bilinear
/// upsampling with aligned corners does, it needs the places of its tiles, which
/// [`Windows`](super::Windows) has. [`ExactReport`](super::ExactReport) measures how far tiles are off.
///
/// # Example
/// ```
/// use burn::nn::PaddingConfig2d;
/// use burn::nn::conv::Conv2dConfig;
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_memopt::chunked::{ExactTiles, Reach};
///
/// let device = Device::flex();
/// let padding = PaddingConfig2d::Explicit(2, 2, 2, 2);
/// let conv = Conv2dConfig::new([1, 1], [5, 5]).with_padding(padding).init(&device);
/// let reach = Reach::measure([1, 64, 64], 1, &device, |x| conv.forward(x));
/// assert_eq!(reach.halo(), Some(2));
///
/// let image = Tensor::<4>::random([1, 1, 90, 70], Distribution::Default, &device);
/// let tiled = ExactTiles::new([32, 32], &reach).infer(image.clone(), |x| conv.forward(x));
/// assert_eq!(tiled.into_data(), conv.forward(image).into_data());
/// ```
pub type ExactTiles = Chunks<Exact>;

/// Tiles that have a margin.
#[derive(Debug, Clone, PartialEq)]
pub struct Exact {
    core: [usize; 2],
    halo: usize,
    stride: usize,
}

impl ExactTiles {
    /// Tiles that keep `core` pixels, height and width, for a model of a known reach.
    ///
    /// # Panics
    /// If every pixel reaches the whole image, or a side is below the model's stride.
    pub fn new(core: [usize; 2], reach: &Reach) -> Self {
        let Some(halo) = reach.halo() else {
            panic!(
                "the model must have a limited reach for exact tiles, got one that sees the whole \
                 image"
            );
        };
        Self::with_halo(core, halo, reach.stride())
    }

    /// Tiles that keep `core` pixels and read `halo` more on each side, and start at multiples of
    /// `stride`.
    ///
    /// # Panics
    /// If a side is below `stride`, or `stride` is zero.
    pub fn with_halo(core: [usize; 2], halo: usize, stride: usize) -> Self {
        let least = core[0].min(core[1]);
        assert!(
            stride > 0 && least >= stride,
            "tiles must keep at least the model's stride of {stride} pixels, got {least}"
        );
        Self::from_layout(Exact { core, halo, stride })
    }

    /// Height and width that a tile keeps.
    pub fn core(&self) -> [usize; 2] {
        self.layout.core
    }

    /// Pixels that a tile reads around what it keeps.
    pub fn halo(&self) -> usize {
        self.layout.halo
    }
}

impl Layout for Exact {
    fn axes(&self, size: [usize; 2]) -> [Axis; 2] {
        [0, 1].map(|side| Axis::exact(size[side], self.core[side], self.halo, self.stride))
    }
}

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
