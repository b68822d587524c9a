//! What DECODE's networks have in common: two U-Nets and the heads.

use burn::module::Module;
use burn::tensor::Tensor;
use burn_memopt::grad_checkpoint::Cut;

use super::layers::Head;
use super::unet2d::{Regroup, Stage, UNet2d};
use crate::chain::{Block, BlockChain, GradCheckpoint, Keep, chain};

/// What [`SigmaMUNet`](super::SigmaMUNet) and [`DoubleMUNet`](super::DoubleMUNet) have in common.
///
/// One U-Net sees every frame alone, with the same parameters; another sees the features of all
/// frames together; a head computes each group of outputs.
///
/// # Exactness
/// The frames of a window are a longer batch to the shared U-Net: nothing is copied, and the
/// result is that of one pass a frame.
#[derive(Module, Debug)]
pub struct MUNet {
    /// The U-Net that sees each frame.
    pub unet_shared: UNet2d,
    /// The U-Net that sees all frames.
    pub unet_union: UNet2d,
    /// The outputs.
    pub mt_heads: Vec<Head>,
    pub(super) num_frames: usize,
    #[module(skip)]
    pub(super) cut: Cut,
}

impl MUNet {
    /// Computes the outputs of all heads, before their final activations.
    ///
    /// # Shapes
    /// - windows: `[batch_size, num_frames, height, width]`, neighbouring frames in their order
    /// - output: `[batch_size, channels, height, width]`
    ///
    /// # Panics
    /// If the number of frames is another, or a side is no multiple of
    /// [`size_multiple`](Self::size_multiple).
    pub fn forward(&self, windows: Tensor<4>) -> Tensor<4> {
        let [_, frames, height, width] = windows.dims();
        assert!(
            frames == self.num_frames,
            "windows must have {} frames, got {frames}",
            self.num_frames
        );
        self.check_size(height, width);
        self.chain().run(&self.cut, windows)
    }

    /// Computes the outputs for every window of consecutive frames, running the shared U-Net once
    /// a frame instead of once a window and frame.
    ///
    /// For inference: it is not cut for gradient checkpointing.
    ///
    /// # Shapes
    /// - frames: `[num_windows + num_frames - 1, 1, height, width]`
    /// - output: `[num_windows, channels, height, width]`
    ///
    /// # Exactness
    /// The operations are those of [`forward`](Self::forward) on the stacked windows, a third of
    /// them in the shared U-Net for windows of three.
    ///
    /// # Panics
    /// If there are fewer frames than in a window, or a side is no multiple of
    /// [`size_multiple`](Self::size_multiple).
    pub fn forward_sequence(&self, frames: Tensor<4>) -> Tensor<4> {
        let [count, _, height, width] = frames.dims();
        assert!(
            count >= self.num_frames,
            "frames must be at least the {} of a window, got {count}",
            self.num_frames
        );
        self.check_size(height, width);
        let features = self.unet_shared.forward(frames);
        let num_windows = count + 1 - self.num_frames;
        // Frame `i` of every window: a shifted view of the same features.
        let shifted = |i: usize| features.clone().narrow(0, i, num_windows);
        let windows = Tensor::cat((0..self.num_frames).map(shifted).collect(), 1);
        let core = self.unet_union.forward(windows);
        Stage::Heads(self.mt_heads.clone()).run(Keep::All, core, None)
    }

    /// Neighbouring frames in a window.
    pub fn num_frames(&self) -> usize {
        self.num_frames
    }

    /// What the sides of a frame must be multiples of, in pixels.
    pub fn size_multiple(&self) -> usize {
        1 << self.unet_shared.depth().max(self.unet_union.depth())
    }

    /// Refuses tiles of a frame for a network that doubles them otherwise than the frame.
    pub(super) fn check_interpolation(&self) {
        let unets = [&self.unet_shared, &self.unet_union];
        assert!(
            !unets.iter().any(|unet| unet.samples_by_size()),
            "tiles need a network with Interpolation::Nearest: Interpolation::Bilinear samples by the size of the \
             whole frame"
        );
    }

    fn check_size(&self, height: usize, width: usize) {
        let multiple = self.size_multiple();
        assert!(
            height > 0
                && width > 0
                && height.is_multiple_of(multiple)
                && width.is_multiple_of(multiple),
            "frame sides must be multiples of {multiple} pixels, got {height}×{width}"
        );
    }
}

impl GradCheckpoint for MUNet {
    type Block = Stage;

    fn forward(&self, windows: Tensor<4>) -> Tensor<4> {
        Self::forward(self, windows)
    }

    fn cut(&self) -> &Cut {
        &self.cut
    }

    fn cut_mut(&mut self) -> &mut Cut {
        &mut self.cut
    }

    fn chain_keeping(&self, keep: Keep) -> BlockChain<Stage> {
        let mut stages = self.unet_shared.stages(Regroup::Split);
        let mut skips = self.unet_shared.skips(0);
        skips.extend(self.unet_union.skips(stages.len()));
        stages.extend(self.unet_union.stages(Regroup::Join(self.num_frames)));
        stages.push(Stage::Heads(self.mt_heads.clone()));
        chain(stages, skips, keep)
    }
}
