use burn::tensor::Tensor;
use burn_memopt::grad_checkpoint::{
    BlockCost, Chain, Cut, Forward, Plan, PlanError, Policy, Segment, UnmeasuredError,
};

use super::backbone::MUNet;
use super::layers::Keep;
use super::stage::{Regroup, Stage};
use super::unet2d::UNet2d;

/// Stages that run one after the other, with the skips between them.
pub(super) fn chain(
    stages: Vec<Stage>,
    skips: Vec<(usize, usize)>,
    keep: Keep,
) -> Chain<'static, Stage, Tensor<4>, impl Forward<Stage, Tensor<4>> + use<>> {
    let forward = move |stage: &Stage, x: Tensor<4>, skips: Vec<Tensor<4>>| {
        stage.forward(keep, x, skips.into_iter().next())
    };
    Chain::with_skips(stages, skips, forward).with_segment(Segment::new().without_randomness())
}

impl MUNet {
    /// Cuts the network by another policy, or as it was planned before.
    ///
    /// [`Policy::Least`] and [`Policy::Budget`] are planned at the first forward pass of each shape
    /// (see [`Chain::run`]).
    pub fn with_grad_checkpoint(mut self, cut: impl Into<Cut>) -> Self {
        self.cut = cut.into();
        self
    }

    /// Measures the blocks on a sample, of the size of a micro-batch, and plans where to cut.
    ///
    /// The predicted peak counts activations and gradients, not parameters, optimizer state or
    /// what the loss itself needs.
    ///
    /// # Shapes
    /// - sample: `[batch_size, num_frames, height, width]`, on an autodiff device
    ///
    /// # Errors
    /// [`PlanError`] if the device's memory cannot be measured, or no cut fits a budget (it says
    /// the least that would do).
    pub fn plan(&self, policy: Policy, sample: Tensor<4>) -> Result<Plan, PlanError> {
        self.chain_keeping(Keep::Input).plan(policy, sample)
    }

    /// Measures what each block costs on a sample, without planning.
    ///
    /// # Shapes
    /// - sample: `[batch_size, num_frames, height, width]`, on an autodiff device
    ///
    /// # Errors
    /// [`UnmeasuredError`] if the device's memory cannot be measured.
    pub fn profile(&self, sample: Tensor<4>) -> Result<Vec<BlockCost>, UnmeasuredError> {
        self.chain_keeping(Keep::Input).profile(sample)
    }

    pub(super) fn run_chain(&self, windows: Tensor<4>) -> Tensor<4> {
        let keep = if self.cut.recomputes() {
            Keep::Input
        } else {
            Keep::All
        };
        self.chain_keeping(keep).run(&self.cut, windows)
    }

    fn chain_keeping(
        &self,
        keep: Keep,
    ) -> Chain<'static, Stage, Tensor<4>, impl Forward<Stage, Tensor<4>> + use<>> {
        let mut stages = self.unet_shared.stages(Regroup::Split);
        let mut skips = self.unet_shared.skips(0);
        skips.extend(self.unet_union.skips(stages.len()));
        stages.extend(self.unet_union.stages(Regroup::Join(self.num_frames)));
        stages.push(Stage::Heads(self.mt_heads.clone()));
        chain(stages, skips, keep)
    }
}

impl UNet2d {
    /// Writer and reader of each skip, where the first stage has the index `first`.
    pub(super) fn skips(&self, first: usize) -> Vec<(usize, usize)> {
        let depth = self.depth();
        let skip = |level| (first + level, first + 2 * depth - level);
        (0..depth).map(skip).collect()
    }
}
