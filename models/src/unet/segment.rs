use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::Tensor;

use super::block::{DoubleConv, Down, Up};
use super::chain::{Block, BlockChain};
use super::norm::Keep;

/// A contiguous range of a U-Net's blocks: see [`UNet::segment`](super::UNet::segment).
#[derive(Module, Debug)]
pub struct Segment {
    pub(super) blocks: Vec<SegmentBlock>,
    pub(super) start: usize,
    pub(super) depth: usize,
    #[module(skip)]
    pub(super) keep: Keep,
    /// Whether the backward pass begins as soon as the blocks have run: so it is in a recomputation.
    pub(super) ends_at_backward: bool,
}

/// The layers of one block.
#[derive(Module, Debug)]
// A segment holds a handful of blocks: their size in the list does not matter.
#[allow(clippy::large_enum_variant)]
pub enum SegmentBlock {
    /// Encoder level 0.
    Input(DoubleConv),
    /// Any other encoder level.
    Down(Down),
    /// A decoder level.
    Up(Up),
    /// The final convolution.
    Head(Conv2d),
}

impl Segment {
    /// Runs the blocks and returns their output and the skips that later blocks need.
    ///
    /// Arguments, result and panics are those of [`UNet::run_blocks`](super::UNet::run_blocks).
    pub fn forward(&self, x: Tensor<4>, skips: Vec<Tensor<4>>) -> (Tensor<4>, Vec<Tensor<4>>) {
        let chain = BlockChain::new(self.depth);
        let range = self.start..self.start + self.blocks.len();
        let wanted = chain.skips_in(range.clone());
        assert!(
            skips.len() == wanted.len(),
            "skips of blocks {range:?} must be {wanted:?}, got {} tensors",
            skips.len()
        );
        let mut slots = vec![None; self.depth];
        for (index, skip) in wanted.into_iter().zip(skips) {
            slots[index] = Some(skip);
        }
        let indices = range.clone();
        let x = indices.zip(&self.blocks).fold(x, |x, (index, layers)| {
            self.run(index, layers, x, &mut slots)
        });
        let handed_on = chain.skips_out(range).into_iter();
        (x, handed_on.map(|index| take(&mut slots, index)).collect())
    }

    fn run(
        &self,
        index: usize,
        layers: &SegmentBlock,
        x: Tensor<4>,
        slots: &mut [Option<Tensor<4>>],
    ) -> Tensor<4> {
        let block = BlockChain::new(self.depth).block(index);
        let keep = [self.keep, self.keep_last(index)];
        let output = match layers {
            SegmentBlock::Input(conv) => conv.forward_keeping(keep, self.check_size(x)),
            SegmentBlock::Down(down) => down.forward_keeping(keep, x),
            SegmentBlock::Up(up) => match block {
                Block::Decoder { level } => up.forward_keeping(keep, x, take(slots, level)),
                _ => unreachable!("a decoder's layers belong to a decoder block"),
            },
            SegmentBlock::Head(conv) => conv.forward(x),
        };
        if let Block::Encoder { level } = block
            && level < self.depth
        {
            slots[level] = Some(output.clone());
        }
        output
    }

    /// What the last normalization of a block keeps. Where the backward pass begins right behind
    /// it, keeping less would only compute the same twice.
    fn keep_last(&self, index: usize) -> Keep {
        match self.ends_at_backward && index + 1 == self.start + self.blocks.len() {
            true => Keep::All,
            false => self.keep,
        }
    }

    fn check_size(&self, images: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = images.dims();
        let least = 1 << self.depth;
        assert!(
            height >= least && width >= least,
            "image sides must be at least {least} pixels for depth {}, got {height}×{width}",
            self.depth
        );
        images
    }
}

/// Moves a skip out of its slot, so that nothing keeps it alive once it was consumed.
pub(super) fn take(slots: &mut [Option<Tensor<4>>], index: usize) -> Tensor<4> {
    slots[index]
        .take()
        .expect("invariant: a skip is produced once before it is consumed once")
}
