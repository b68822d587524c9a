use burn::tensor::Tensor;
use burn_memopt::grad_checkpoint::{
    BlockCost, Chain, Cut, Forward, Plan, PlanError, Policy, Segment, UnmeasuredError,
};

use super::model::UNet;
use super::norm::Keep;
use super::stage::{Before, Stage};

impl UNet {
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
    /// The network's running statistics stay as they are. The predicted peak counts activations
    /// and gradients, not parameters, optimizer state or what the loss itself needs.
    ///
    /// # Shapes
    /// - sample: `[batch_size, in_channels, height, width]`, on an autodiff device
    ///
    /// # Errors
    /// [`PlanError`] if the device's memory cannot be measured, or no cut fits a budget (it says
    /// the least that would do).
    pub fn plan(&self, policy: Policy, sample: Tensor<4>) -> Result<Plan, PlanError> {
        self.chain_keeping(Keep::Input).plan(policy, sample)
    }

    /// Measures what each block costs on a sample, without planning.
    ///
    /// The network's running statistics stay as they are.
    ///
    /// # Shapes
    /// - sample: `[batch_size, in_channels, height, width]`, on an autodiff device
    ///
    /// # Errors
    /// [`UnmeasuredError`] if the device's memory cannot be measured.
    pub fn profile(&self, sample: Tensor<4>) -> Result<Vec<BlockCost>, UnmeasuredError> {
        self.chain_keeping(Keep::Input).profile(sample)
    }

    /// The network as a chain of `4 * depth + 2` blocks: a convolution each, the encoder fine to
    /// coarse, the decoder coarse to fine, the head in the last one. The two convolutions of a level
    /// are a group: only a planned cut divides them.
    pub fn chain(
        &self,
    ) -> Chain<'static, Stage, Tensor<4>, impl Forward<Stage, Tensor<4>> + use<>> {
        let keep = if self.cut.recomputes() {
            Keep::Input
        } else {
            Keep::All
        };
        self.chain_keeping(keep)
    }

    fn chain_keeping(
        &self,
        keep: Keep,
    ) -> Chain<'static, Stage, Tensor<4>, impl Forward<Stage, Tensor<4>> + use<>> {
        let depth = self.downs.len();
        // Encoder level i ends with block 2 i + 1; the decoder climbs back from level `depth`.
        let skip = |level: usize| (2 * level + 1, 2 * (2 * depth - level));
        let forward = move |stage: &Stage, x: Tensor<4>, skips: Vec<Tensor<4>>| {
            stage.forward(keep, x, skips.into_iter().next())
        };
        Chain::with_skips(self.stages(), (0..depth).map(skip).collect(), forward)
            .with_segment(Segment::new().without_randomness())
            .with_groups_of(2)
    }

    fn stages(&self) -> Vec<Stage> {
        let mut stages: Vec<_> = Stage::pair(Before::Nothing, None, &self.inc).into();
        for down in &self.downs {
            stages.extend(Stage::pair(Before::Pool, None, &down.conv));
        }
        for up in &self.ups {
            stages.extend(Stage::pair(Before::Join, up.up.clone(), &up.conv));
        }
        let last = stages.pop().map(|last| last.with_head(&self.outc));
        stages.extend(last);
        stages
    }
}
