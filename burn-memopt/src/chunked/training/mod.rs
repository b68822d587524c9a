//! Training on images of any size, tile by tile, with the gradient of the whole image.

mod batches;
mod cost;
mod error;
mod images;
mod loss;
mod plan;
mod reach;
mod seeds;
mod sums;

pub use cost::{TileCost, TileShape};
pub use error::TiledError;
pub use images::TiledImages;
pub use loss::SumLoss;
pub use plan::{TilePlan, TilePlanner, TilePolicy, TileSetting};
pub use reach::{global_training_layers, measure_training_reach};

use super::{ImageSource, Reach};

/// Trains on images of any size, a few tiles at a time.
///
/// A tile keeps the pixels that it owns, reads a margin around them that is as wide as the model reaches, and
/// learns from its own pixels alone. So the gradient of a loss that is a sum over pixels is the sum of the
/// tiles' gradients; see [`SumLoss`] for others. In memory are one batch of tiles, what the model keeps for
/// it, and one set of gradients: the same for every size of image.
///
/// [`TilePlanner`] chooses its tiles for a budget. [`over`](Self::over) takes images and targets from any [`ImageSource`].
///
/// # Exactness
/// Equal to the gradient on the whole image, to f32 rounding, for a model that is the same everywhere in the image:
/// convolution, pooling, upsampling, activations, norms over the channels of each pixel, and batch norm with
/// [frozen](burn::module::Module::freeze) statistics. Group and instance norm, attention, and batch norm that takes the statistics of its
/// batch see all of it, and are errors; [`approximate`](Self::approximate) allows them, and each tile has statistics of
/// its own. Dropout draws other masks than on the whole image. A model that resizes by the image's size needs the places of its
/// tiles, which [`Windows`](super::Windows) has.
///
/// # Example
/// ```
/// use std::ops::ControlFlow;
///
/// use burn::nn::PaddingConfig2d;
/// use burn::nn::conv::{Conv2d, Conv2dConfig};
/// use burn::optim::SgdConfig;
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_memopt::chunked::{Reach, TiledStep, Windows, measure_training_reach};
/// use burn_memopt::train::{MicroBatchTrainerConfig, MicroLoss};
///
/// let device = Device::flex().autodiff();
/// let padding = PaddingConfig2d::Explicit(1, 1, 1, 1);
/// let model = Conv2dConfig::new([1, 1], [3, 3]).with_padding(padding).init(&device);
/// let forward = |model: &Conv2d, tiles: Windows| model.forward(tiles.pixels);
/// let reach = measure_training_reach(&model, [1, 16, 16], 1, forward);
///
/// let image = Tensor::<4>::random([1, 1, 90, 70], Distribution::Default, &device);
/// let target = image.clone() * 2.0;
/// let step = TiledStep::new([32, 32], &reach)?.with_batch_size(2);
/// let mut train = MicroBatchTrainerConfig::new().init(SgdConfig::new().init());
/// step.over(&image, &target)?.accumulate(
///     &mut train,
///     &model,
///     forward,
///     |output, target| {
///         let num_pixels = output.shape().num_elements() as f64;
///         MicroLoss::sum((output - target).square().sum(), num_pixels)
///     },
///     |_| ControlFlow::Continue(()),
/// )?;
/// let (model, outcome) = train.flush(model, 0.1);
/// # let _ = (model, outcome?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// Pinckaers et al. 2019, *Streaming convolutional neural networks for end-to-end learning with multi-megapixel images*,
/// arXiv:1911.04432, for convolution and max pooling.
#[derive(Debug, Clone, PartialEq)]
pub struct TiledStep {
    core: [usize; 2],
    halo: usize,
    stride: usize,
    batch_size: usize,
    is_exact: bool,
    draws: bool,
}

impl TiledStep {
    /// Tiles that keep `core` pixels, height and width, for a model whose reach in training was
    /// [measured](measure_training_reach).
    ///
    /// # Errors
    /// If the model sees the whole image, or a tile keeps less than twice its margin: the reach, rounded up to the
    /// model's stride.
    ///
    /// # Panics
    /// If a side is below the model's stride.
    pub fn new(core: [usize; 2], reach: &Reach) -> Result<Self, TiledError> {
        let Some(halo) = reach.halo() else {
            return Err(TiledError::WholeImage {
                share: reach.farthest_change(),
                layers: Vec::new(),
            });
        };
        let step = Self::checked(core, halo, reach.stride(), true);
        let margin = step.margin();
        match core[0].min(core[1]) < 2 * margin {
            true => Err(TiledError::SmallTile { core, margin }),
            false => Ok(step),
        }
    }

    /// Tiles with a margin of `halo` pixels for a model that starts at multiples of `stride`, whatever it is: the
    /// gradient is *not* that of the whole image if a pixel reaches further.
    ///
    /// # Panics
    /// If a side is below `stride`, or `stride` is zero.
    pub fn approximate(core: [usize; 2], halo: usize, stride: usize) -> Self {
        Self::checked(core, halo, stride, false)
    }

    fn checked(core: [usize; 2], halo: usize, stride: usize, is_exact: bool) -> Self {
        let least = core[0].min(core[1]);
        assert!(
            stride > 0 && least >= stride,
            "tiles must keep at least the model's stride of {stride} pixels, got {least}"
        );
        Self {
            core,
            halo,
            stride,
            batch_size: 1,
            is_exact,
            draws: true,
        }
    }

    /// Chooses how many tiles run at once, at most: those of one size. The default is 1.
    ///
    /// # Panics
    /// If it is zero.
    #[must_use]
    pub fn with_batch_size(mut self, batch_size: usize) -> Self {
        assert!(batch_size > 0, "the batch size must be at least 1, got 0");
        self.batch_size = batch_size;
        self
    }

    /// Promises that the model draws no random numbers (no active dropout). By default each batch of tiles has a seed of its
    /// own, the same in both passes of a loss of sums and on any number of devices, which costs one small read from the device
    /// a step. In a loss of sums, blocks that a budget cuts are all recomputed then.
    #[must_use]
    pub fn without_randomness(mut self) -> Self {
        self.draws = false;
        self
    }

    /// Height and width that a tile keeps.
    pub fn core(&self) -> [usize; 2] {
        self.core
    }

    /// Pixels that a tile reads around what it keeps: the reach, rounded up to a multiple of the stride.
    pub fn margin(&self) -> usize {
        self.halo.next_multiple_of(self.stride)
    }

    /// Lays tiles over images and their targets.
    ///
    /// A target has any number of channels: a mask, a class for each pixel as a float, a density. A loss that needs none gets
    /// any source of the right size, as the images themselves.
    ///
    /// # Errors
    /// If there are not as many targets of the same height and width.
    pub fn over<'a>(
        &'a self,
        image: &'a dyn ImageSource,
        target: &'a dyn ImageSource,
    ) -> Result<TiledImages<'a>, TiledError> {
        let dims = [image.dims(), target.dims()];
        let [size, target_size] = dims.map(|[num, _, height, width]| [num, height, width]);
        if size != target_size {
            let [image, target] = dims;
            return Err(TiledError::OtherSize { image, target });
        }
        Ok(TiledImages::new(self, [image, target]))
    }
}
