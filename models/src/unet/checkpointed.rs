use std::ops::Range;

use burn::module::Module;
use burn::tensor::Tensor;
use burn_memopt::grad_checkpoint::{
    BlockCost, Chain, Plan, PlanError, Policy, Segment as Checkpoint, Span, UnmeasuredError, plan,
    profile, run_chain,
};

use super::model::UNet;
use super::norm::Keep;
use super::segment::{Segment, take};

/// Where a U-Net is cut for gradient checkpointing.
///
/// The blocks of the cut are those of [`BlockChain`](super::BlockChain), but for the head, which
/// belongs to the last decoder block.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    spans: Vec<Span>,
    keep: Keep,
}

impl Cut {
    /// The cut of a policy; a budget, which needs measurements, starts with every block.
    pub(super) fn new(policy: Policy, depth: usize) -> Self {
        let num_blocks = 2 * depth + 1;
        let spans = policy.spans(num_blocks);
        let spans = spans.or_else(|| Policy::EveryBlock.spans(num_blocks));
        let keep = match policy {
            Policy::None => Keep::All,
            _ => Keep::Input,
        };
        Self {
            spans: spans.expect("invariant: only a budget needs costs"),
            keep,
        }
    }

    /// What normalizations keep: where blocks may be recomputed, their input only.
    pub(super) fn keep(&self) -> Keep {
        self.keep
    }

    pub(super) fn forward(&self, unet: &UNet, images: Tensor<4>) -> Tensor<4> {
        let state = (images, vec![None; unet.downs.len()]);
        let checkpoint = Checkpoint::new().without_randomness();
        let (output, _) = run_chain(unet, &checkpoint, &self.spans, state);
        output
    }
}

/// A U-Net as a chain: the current tensor, and the skips that wait for their decoder block.
impl Chain for UNet {
    type State = (Tensor<4>, Vec<Option<Tensor<4>>>);

    fn num_blocks(&self) -> usize {
        2 * self.downs.len() + 1
    }

    fn run_blocks(&self, blocks: Range<usize>, state: Self::State) -> Self::State {
        self.run_cut(blocks, state, |segment, x, skips| segment.forward(x, skips))
    }

    fn run_segment(
        &self,
        checkpoint: &Checkpoint,
        blocks: Range<usize>,
        state: Self::State,
    ) -> Self::State {
        self.run_cut(blocks, state, |mut segment, x, skips| {
            segment.ends_at_backward = true;
            checkpoint.run(&segment, (x, skips), |segment: &Segment, (x, skips)| {
                segment.forward(x, skips)
            })
        })
    }

    fn last_use(&self, block: usize) -> usize {
        let depth = self.downs.len();
        if block < depth {
            2 * depth - block
        } else {
            block + 1
        }
    }
}

impl UNet {
    /// Cuts the network by another policy.
    ///
    /// A budget is met once [`plan`](Self::plan) has measured the network; until then every block
    /// is recomputed.
    ///
    /// # Panics
    /// If the policy asks for zero segments.
    pub fn with_grad_checkpoint(mut self, policy: Policy) -> Self {
        self.cut = Cut::new(policy, self.downs.len());
        self
    }

    /// Cuts the network as a plan says.
    pub fn with_plan(mut self, plan: &Plan) -> Self {
        self.cut = Cut {
            spans: plan.spans.clone(),
            keep: Keep::Input,
        };
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
        let slots = vec![None; self.downs.len()];
        plan(policy, &self.recomputed_copy(), (sample, slots))
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
        let slots = vec![None; self.downs.len()];
        profile(&self.recomputed_copy(), (sample, slots))
    }

    /// A copy with statistics of its own, whose blocks keep what blocks of a cut network keep.
    fn recomputed_copy(&self) -> Self {
        let copy = self.valid().train();
        copy.with_grad_checkpoint(Policy::EveryBlock)
    }

    /// Runs blocks of the cut, handing them the skips they read and taking those they produce.
    fn run_cut(
        &self,
        blocks: Range<usize>,
        (x, mut slots): <Self as Chain>::State,
        run: impl FnOnce(Segment, Tensor<4>, Vec<Tensor<4>>) -> (Tensor<4>, Vec<Tensor<4>>),
    ) -> <Self as Chain>::State {
        let chain = self.chain();
        let end = match blocks.end == Chain::num_blocks(self) {
            true => chain.num_blocks(),
            false => blocks.end,
        };
        let range = blocks.start..end;
        let wanted = chain.skips_in(range.clone());
        let skips = wanted
            .into_iter()
            .map(|index| take(&mut slots, index))
            .collect();
        let (x, handed_on) = run(self.segment(range.clone()), x, skips);
        for (index, skip) in chain.skips_out(range).into_iter().zip(handed_on) {
            slots[index] = Some(skip);
        }
        (x, slots)
    }
}
