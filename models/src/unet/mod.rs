//! U-Net: an encoder, a decoder, and skip connections between them.
//!
//! The layers, their order and their names in a checkpoint are those of the widely used
//! PyTorch U-Net by milesial, so its weights load with [`StateDict::load_pytorch`].
//!
//! For gradient checkpointing the network is a chain of `4 * depth + 2` blocks, a convolution each;
//! the two convolutions of a level are divided by planned cuts only: see
//! [`GradCheckpoint`].
//!
//! # References
//! Ronneberger et al. 2015, arXiv:1505.04597, fig. 1; batch norm, padded convolutions and
//! bilinear upsampling follow the network of `milesial/Pytorch-UNet`, whose code is not used here.

mod block;
mod config;
mod places;

pub use block::{DoubleConv, Down, Norm, Up};
pub use config::{NormKind, UNetConfig, Upsample};

use std::sync::Arc;

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;
use burn_memopt::chunked::Windows;
use burn_memopt::grad_checkpoint::Cut;

use crate::chain::{BlockChain, GradCheckpoint, Keep, chain};
use crate::weights::{StateDict, parameter_name};
use block::{Before, Stage};
use places::{Places, crop_at, filled};

/// The U-Net built by [`UNetConfig`].
///
/// # Exactness
/// Any image of at least `2^depth` pixels a side is accepted: an odd row or column dropped by a
/// pooling is replaced by zeros in the decoder. With batch norm, a micro-batch sees its own
/// statistics; with group or channel norm or none, splitting a batch changes nothing.
#[derive(Module, Debug)]
pub struct UNet {
    /// Convolutions at full resolution.
    pub inc: DoubleConv,
    /// Encoder blocks, fine to coarse.
    pub downs: Vec<Down>,
    /// Decoder blocks, coarse to fine.
    pub ups: Vec<Up>,
    /// Final 1×1 convolution.
    pub outc: Conv2d,
    #[module(skip)]
    cut: Cut,
}

impl UNet {
    /// Computes the network's output: logits, or a density map, depending on the loss.
    ///
    /// # Shapes
    /// - images: `[batch_size, in_channels, height, width]`
    /// - output: `[batch_size, out_channels, height, width]`
    ///
    /// # Panics
    /// If height or width is below `2^depth`, or a budget for gradient checkpointing cannot be kept
    /// ([`plan`](GradCheckpoint::plan) returns that as an error).
    pub fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = images.dims();
        let (depth, least) = (self.downs.len(), 1 << self.downs.len());
        assert!(
            height >= least && width >= least,
            "image sides must be at least {least} pixels for depth {depth}, got {height}×{width}"
        );
        self.chain().run(&self.cut, images)
    }

    /// Computes the network's output for tiles of an image, as [`forward`](Self::forward) computes it
    /// for the whole: bilinear upsampling takes the places of the tiles in the image into account.
    ///
    /// # Shapes
    /// - tiles: `[num_tiles, in_channels, height, width]`
    /// - output: `[num_tiles, out_channels, height, width]`
    ///
    /// # Exactness
    /// Equal to rounding, further from the tile's border than the network reaches, for tiles that
    /// start at multiples of `2^depth`, with batch norm outside of training or frozen. Group norm, and batch norm in
    /// training, see the tiles only.
    ///
    /// # Panics
    /// If height or width is below `2^depth`, or a tile starts outside of the image.
    ///
    /// # Example
    /// ```
    /// use burn::module::Module;
    /// use burn::tensor::{Device, Distribution, Tensor};
    /// use burn_memopt::chunked::{ExactReport, ExactTiles, Reach};
    /// use burn_memopt_models::unet::UNetConfig;
    ///
    /// let device = Device::flex();
    /// # let _stream = burn_memopt::grad_checkpoint::hold_random_stream();
    /// # device.seed(1); // some random weights are dead
    /// let unet = UNetConfig::new(1, 1).with_base_channels(4).with_depth(1).init(&device).valid();
    /// let reach = Reach::measure([1, 32, 32], 2, &device, |x| unet.forward(x));
    /// let image = Tensor::<4>::random([1, 1, 60, 45], Distribution::Default, &device);
    /// let tiles = ExactTiles::new([16, 16], &reach);
    /// let report = ExactReport::measure(&tiles, &unet, image, |unet, tiles| unet.forward_tiles(tiles));
    /// assert!(report.is_exact(), "{report}");
    /// ```
    pub fn forward_tiles(&self, tiles: Windows) -> Tensor<4> {
        self.forward_tiles_within(tiles, 0)
    }

    /// As [`forward_tiles`](Self::forward_tiles) for tiles of which a `margin` is of no interest: pixels that are
    /// as near to a border of their tile within the image. What only they need is left out of the decoder, and
    /// zeros are in their place.
    ///
    /// Of tiles that keep 256×256 pixels and have a margin of 64, the decoder computes half.
    ///
    /// # Shapes
    /// As of [`forward_tiles`](Self::forward_tiles).
    ///
    /// # Panics
    /// As [`forward_tiles`](Self::forward_tiles), and if nothing is left of a tile.
    pub fn forward_tiles_within(&self, tiles: Windows, margin: usize) -> Tensor<4> {
        let chain = self.chain_of(Some((&tiles, margin)), Keep::when_cut(&self.cut));
        let crop = crop_at(&tiles, 0, margin);
        filled(chain.run(&self.cut, tiles.pixels), crop)
    }

    /// A convolution each, the encoder fine to coarse, the decoder coarse to fine, the head in the
    /// last one; of `tiles` for what is at their places, without their margin.
    fn stages(&self, tiles: Option<(&Windows, usize)>) -> Vec<Stage> {
        let mut stages: Vec<_> = Stage::pair(Before::Nothing, None, &self.inc).into();
        for down in &self.downs {
            stages.extend(Stage::pair(Before::Pool, None, &down.conv));
        }
        for (number, up) in self.ups.iter().enumerate() {
            let level = self.ups.len() - number;
            let places = tiles
                .map(|(tiles, margin)| Arc::new(Places::new(tiles, level, self.ups.len(), margin)));
            let before = Before::Join(places);
            stages.extend(Stage::pair(before, up.up.clone(), &up.conv));
        }
        let last = stages.pop().map(|last| last.with_head(&self.outc));
        stages.extend(last);
        stages
    }

    /// The chain for whole images, or for tiles of images with a margin.
    fn chain_of(&self, tiles: Option<(&Windows, usize)>, keep: Keep) -> BlockChain<Stage> {
        let depth = self.downs.len();
        // Encoder level i ends with block 2 i + 1; the decoder climbs back from level `depth`.
        let skip = |level: usize| (2 * level + 1, 2 * (2 * depth - level));
        let skips = (0..depth).map(skip).collect();
        chain(self.stages(tiles), skips, keep).with_groups_of(2)
    }
}

impl GradCheckpoint for UNet {
    type Block = Stage;

    fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        Self::forward(self, images)
    }

    fn cut(&self) -> &Cut {
        &self.cut
    }

    fn cut_mut(&mut self) -> &mut Cut {
        &mut self.cut
    }

    fn chain_keeping(&self, keep: Keep) -> BlockChain<Stage> {
        self.chain_of(None, keep)
    }
}

/// The names are those of milesial's PyTorch U-Net, such as
/// `down1.maxpool_conv.1.double_conv.1.weight`; the entry `mask_values` of published checkpoints
/// is ignored.
impl StateDict for UNet {
    fn state_dict_name(path: &str) -> String {
        let (block, layer) = match path.split('.').collect::<Vec<_>>()[..] {
            ["downs", index, "conv", ref layer @ ..] => {
                (numbered("down", index) + ".maxpool_conv.1", layer.to_vec())
            }
            ["ups", index, ref layer @ ..] => (numbered("up", index), layer.to_vec()),
            ["outc", ref layer @ ..] => ("outc.conv".into(), layer.to_vec()),
            [block, ref layer @ ..] => (block.to_string(), layer.to_vec()),
            [] => Default::default(),
        };
        layer.into_iter().fold(block, |name, part| {
            let part = match part {
                "conv1" => "double_conv.0",
                "norm1" => "double_conv.1",
                "conv2" => "double_conv.3",
                "norm2" => "double_conv.4",
                parameter => parameter_name(parameter),
            };
            format!("{name}.{part}")
        })
    }

    fn is_bookkeeping(name: &str) -> bool {
        name.ends_with(".num_batches_tracked") || name.split('.').next() == Some("mask_values")
    }
}

/// Lists count from 0 here and from 1 in the state dict.
fn numbered(stem: &str, index: &str) -> String {
    match index.parse::<usize>() {
        Ok(index) => format!("{stem}{}", index + 1),
        Err(_) => format!("{stem}.{index}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_numbered_as_in_the_published_network() {
        assert_eq!(
            UNet::state_dict_name("downs.0.conv.norm1.gamma"),
            "down1.maxpool_conv.1.double_conv.1.weight"
        );
    }
}
