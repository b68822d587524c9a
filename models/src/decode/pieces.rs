use std::ops::Range;

use burn::module::Module;
use burn::tensor::Tensor;
use burn_memopt::grad_checkpoint::{
    BlockCost, Chain, Plan, PlanError, Policy, Segment, Span, UnmeasuredError, plan, profile,
    run_chain,
};

use super::backbone::MUNet;
use super::layers::Keep;
use super::stage::Stage;

/// Where a localization network is cut for gradient checkpointing: between any two of its stages.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    spans: Vec<Span>,
    keep: Keep,
}

impl Cut {
    /// The cut of a policy; a budget, which needs measurements, starts with every stage.
    pub fn new(policy: Policy, depth_shared: usize, depth_union: usize) -> Self {
        let num_stages = 2 * depth_shared + 1 + 2 * depth_union + 1 + 1;
        let spans = policy.spans(num_stages);
        let spans = spans.or_else(|| Policy::EveryBlock.spans(num_stages));
        let keep = match policy {
            Policy::None => Keep::All,
            _ => Keep::Input,
        };
        Self {
            spans: spans.expect("invariant: only a budget needs costs"),
            keep,
        }
    }

    pub fn forward(&self, net: &MUNet, windows: Tensor<4>) -> Tensor<4> {
        let state = (windows, net.empty_slots());
        let segment = Segment::new().without_randomness();
        let (output, _) = run_chain(net, &segment, &self.spans, state);
        output
    }
}

/// Contiguous stages: what one segment of gradient checkpointing owns.
#[derive(Module, Debug)]
struct Piece {
    stages: Vec<Stage>,
    num_slots: usize,
    #[module(skip)]
    keep: Keep,
}

impl Piece {
    /// The slots whose skips come from outside, in the order in which they are taken.
    fn slots_in(&self) -> Vec<usize> {
        let saved = |slot: &usize| self.stages.iter().any(|stage| stage.saves() == Some(*slot));
        let taken = self.stages.iter().filter_map(Stage::takes);
        taken.filter(|slot| !saved(slot)).collect()
    }

    /// The slots whose skips go outside, in the order in which they are saved.
    fn slots_out(&self) -> Vec<usize> {
        let taken = |slot: &usize| self.stages.iter().any(|stage| stage.takes() == Some(*slot));
        let saved = self.stages.iter().filter_map(Stage::saves);
        saved.filter(|slot| !taken(slot)).collect()
    }

    /// Runs the stages on the skips of [`slots_in`](Self::slots_in) and returns those of
    /// [`slots_out`](Self::slots_out).
    fn forward(&self, x: Tensor<4>, skips: Vec<Tensor<4>>) -> (Tensor<4>, Vec<Tensor<4>>) {
        let mut slots = vec![None; self.num_slots];
        for (slot, skip) in self.slots_in().into_iter().zip(skips) {
            slots[slot] = Some(skip);
        }
        let x = self.stages.iter().fold(x, |x, stage| {
            stage.forward_in_place(self.keep, x, &mut slots)
        });
        let skips = self.slots_out().into_iter();
        (x, skips.filter_map(|slot| slots[slot].take()).collect())
    }
}

/// A localization network as a chain: the current tensor, and the skips that wait for their
/// decoder block.
impl Chain for MUNet {
    type State = (Tensor<4>, Vec<Option<Tensor<4>>>);

    fn num_blocks(&self) -> usize {
        2 * (self.unet_shared.depth() + self.unet_union.depth()) + 3
    }

    fn run_blocks(&self, blocks: Range<usize>, state: Self::State) -> Self::State {
        self.run_piece(blocks, state, |piece, x, skips| piece.forward(x, skips))
    }

    fn run_segment(
        &self,
        segment: &Segment,
        blocks: Range<usize>,
        state: Self::State,
    ) -> Self::State {
        self.run_piece(blocks, state, |piece, x, skips| {
            segment.run(&piece, (x, skips), |piece: &Piece, (x, skips)| {
                piece.forward(x, skips)
            })
        })
    }

    fn last_use(&self, block: usize) -> usize {
        let stages = self.stages();
        let slot = stages[block].saves();
        let taken = |stage: &Stage| slot.is_some() && stage.takes() == slot;
        stages.iter().position(taken).unwrap_or(block + 1)
    }
}

impl MUNet {
    /// Cuts the network by another policy.
    ///
    /// A budget is met once [`plan`](Self::plan) has measured the network; until then every block
    /// is recomputed.
    ///
    /// # Panics
    /// If the policy asks for zero segments.
    pub fn with_grad_checkpoint(mut self, policy: Policy) -> Self {
        let depths = (self.unet_shared.depth(), self.unet_union.depth());
        self.cut = Cut::new(policy, depths.0, depths.1);
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
        plan(
            policy,
            &self.recomputed_copy(),
            (sample, self.empty_slots()),
        )
    }

    /// Measures what each block costs on a sample, without planning.
    ///
    /// # Shapes
    /// - sample: `[batch_size, num_frames, height, width]`, on an autodiff device
    ///
    /// # Errors
    /// [`UnmeasuredError`] if the device's memory cannot be measured.
    pub fn profile(&self, sample: Tensor<4>) -> Result<Vec<BlockCost>, UnmeasuredError> {
        profile(&self.recomputed_copy(), (sample, self.empty_slots()))
    }

    /// A copy whose blocks keep what blocks of a cut network keep.
    fn recomputed_copy(&self) -> Self {
        let copy = self.valid().train();
        copy.with_grad_checkpoint(Policy::EveryBlock)
    }

    fn empty_slots(&self) -> Vec<Option<Tensor<4>>> {
        vec![None; self.unet_shared.depth() + self.unet_union.depth()]
    }

    /// Runs some stages, handing them the skips they take and keeping those they save.
    fn run_piece(
        &self,
        blocks: Range<usize>,
        (x, mut slots): <Self as Chain>::State,
        run: impl FnOnce(Piece, Tensor<4>, Vec<Tensor<4>>) -> (Tensor<4>, Vec<Tensor<4>>),
    ) -> <Self as Chain>::State {
        let mut stages = self.stages();
        let piece = Piece {
            stages: stages.drain(blocks).collect(),
            num_slots: slots.len(),
            keep: self.cut.keep,
        };
        let taken = piece.slots_in().into_iter();
        let skips = taken.filter_map(|slot| slots[slot].take()).collect();
        let saved = piece.slots_out();
        let (x, skips) = run(piece, x, skips);
        for (slot, skip) in saved.into_iter().zip(skips) {
            slots[slot] = Some(skip);
        }
        (x, slots)
    }
}
