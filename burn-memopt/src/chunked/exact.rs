use super::Reach;
use super::chunks::{Chunks, Layout};
use super::grid::Axis;

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
