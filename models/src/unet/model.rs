use std::ops::Range;

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;

use super::block::{DoubleConv, Down, Up};
use super::chain::{Block, BlockChain};
use super::checkpointed::Cut;
use super::segment::{Segment, SegmentBlock, take};

/// The U-Net built by [`UNetConfig`](super::UNetConfig).
///
/// # Exactness
/// Any image of at least `2^depth` pixels a side is accepted: an odd row or column dropped by a
/// pooling is replaced by zeros in the decoder. With batch norm, a micro-batch sees its own
/// statistics; with group norm, splitting a batch changes nothing.
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
    /// Where the forward pass is cut for gradient checkpointing.
    #[module(skip)]
    pub(super) cut: Cut,
}

impl UNet {
    /// Computes the network's output: logits, or a density map, depending on the loss.
    ///
    /// # Shapes
    /// - images: `[batch_size, in_channels, height, width]`
    /// - output: `[batch_size, out_channels, height, width]`
    ///
    /// # Panics
    /// If height or width is below `2^depth`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<4> {
        self.cut.forward(self, images)
    }

    /// Returns the order of the blocks and the skips between them.
    pub fn chain(&self) -> BlockChain {
        BlockChain::new(self.downs.len())
    }

    /// Returns the number of blocks, `2 * depth + 2`.
    pub fn num_blocks(&self) -> usize {
        self.chain().num_blocks()
    }

    /// Runs the blocks `range` and returns their output and the skips that later blocks need.
    ///
    /// `skips` holds the skips of [`BlockChain::skips_in`] in that order; the returned ones are
    /// those of [`BlockChain::skips_out`]. Whatever else a range needs stays inside, so a range
    /// is one segment of gradient checkpointing with exactly these boundary tensors.
    ///
    /// # Exactness
    /// Running the network in any ranges computes the same operations as [`forward`](Self::forward).
    ///
    /// # Panics
    /// If the range leaves the chain, the number of skips is wrong, or the first block gets an
    /// image of less than `2^depth` pixels a side.
    pub fn run_blocks(
        &self,
        range: Range<usize>,
        x: Tensor<4>,
        skips: Vec<Tensor<4>>,
    ) -> (Tensor<4>, Vec<Tensor<4>>) {
        self.segment(range).forward(x, skips)
    }

    /// Returns the blocks `range` as a module of their own.
    ///
    /// It shares parameters and running statistics with this network, and holds no others: what a
    /// checkpointed segment needs, and no more.
    ///
    /// # Panics
    /// If the range leaves the chain.
    pub fn segment(&self, range: Range<usize>) -> Segment {
        let chain = self.chain();
        let depth = self.downs.len();
        let blocks = range
            .clone()
            .map(|index| match chain.block(index) {
                Block::Encoder { level: 0 } => SegmentBlock::Input(self.inc.clone()),
                Block::Encoder { level } => SegmentBlock::Down(self.downs[level - 1].clone()),
                Block::Decoder { level } => SegmentBlock::Up(self.ups[depth - 1 - level].clone()),
                Block::Head => SegmentBlock::Head(self.outc.clone()),
            })
            .collect();
        Segment {
            blocks,
            start: range.start,
            depth,
            keep: self.cut.keep(),
            ends_at_backward: false,
        }
    }

    /// Runs the whole network in `ranges` of blocks, each through `run`.
    ///
    /// `run` gets a range, its input and its skips, and returns what [`run_blocks`](Self::run_blocks)
    /// returns for them: it is the place to wrap a range, as a checkpointed segment for example.
    ///
    /// # Panics
    /// If the ranges do not follow each other from the first block to the last.
    ///
    /// # Example
    /// ```
    /// use burn::tensor::{Device, Tensor};
    /// use burn_memopt_models::unet::UNetConfig;
    ///
    /// let device = Device::flex();
    /// let unet = UNetConfig::new(1, 1).with_base_channels(4).with_depth(1).init(&device);
    /// let x = Tensor::<4>::ones([1, 1, 8, 8], &device);
    /// let halves = unet.forward_ranges(&[0..2, 2..4], x.clone(), |range, x, skips| {
    ///     unet.run_blocks(range, x, skips)
    /// });
    /// assert_eq!(halves.into_data(), unet.forward(x).into_data());
    /// ```
    pub fn forward_ranges(
        &self,
        ranges: &[Range<usize>],
        images: Tensor<4>,
        mut run: impl FnMut(Range<usize>, Tensor<4>, Vec<Tensor<4>>) -> (Tensor<4>, Vec<Tensor<4>>),
    ) -> Tensor<4> {
        let chain = self.chain();
        chain.assert_partition(ranges);
        let mut slots = vec![None; self.downs.len()];
        ranges.iter().fold(images, |x, range| {
            let wanted = chain.skips_in(range.clone());
            let skips = wanted.into_iter().map(|i| take(&mut slots, i)).collect();
            let (x, handed_on) = run(range.clone(), x, skips);
            for (index, skip) in chain.skips_out(range.clone()).into_iter().zip(handed_on) {
                slots[index] = Some(skip);
            }
            x
        })
    }
}
