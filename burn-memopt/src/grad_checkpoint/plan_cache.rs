//! Plans that are made when a chain first runs, and kept in the process.

use std::any::TypeId;
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{DType, Device, DispatchTensor, Shape, Tensor};
use burn_backend::TensorMetadata;
use burn_dispatch::Dispatch;

use super::randomness::{hold_random_stream, inside_segment};
use super::walk::Forward;
use super::{BlockCost, Chain, Plan, PlanError, Policy, Segment, SegmentSeed, Span, Tensors};
use crate::budget::{BudgetError, budget_for, usable};
use crate::memory::Bytes;

/// Plans that are kept. A model needs one for each shape of its input.
const MOST_PLANS: usize = 256;

/// Costs are rounded up to multiples of about this part of the largest.
const PARTS: u64 = 256;

/// Plans by what they were made for, the oldest first.
static PLANS: Mutex<Vec<(Key, Vec<Span>)>> = Mutex::new(Vec::new());

/// What decides where a chain is cut.
#[derive(Debug, Clone, PartialEq)]
struct Key {
    policy: Policy,
    forward: TypeId,
    segment: Segment,
    device: Device,
    inputs: Vec<(Shape, DType)>,
    params: Vec<(ParamId, DType, bool)>,
}

impl<M, T, F> Chain<'_, M, T, F>
where
    M: Module + 'static,
    T: Tensors + Clone,
    F: Forward<M, T>,
{
    /// Measures the chain on a sample and cuts it by a policy: [`profile`](Self::profile), then
    /// [`Policy::plan`].
    ///
    /// Of a budget one percent is left free, for what belongs to no block: the loss
    /// and the bookkeeping of the tape. The same chain, shapes and policy give the same cut.
    ///
    /// # Errors
    /// [`PlanError`] if the memory cannot be measured or no cut fits a budget.
    pub fn plan(&self, policy: Policy, sample: T) -> Result<Plan, PlanError> {
        let costs = rounded(self.profile(sample)?);
        let Policy::Budget(budget) = policy else {
            return Ok(policy.plan(&costs)?);
        };
        let plan = Plan::within(usable(budget), &costs).map_err(|error| BudgetError {
            budget,
            least: advised(error.least),
            ..error
        })?;
        Ok(plan)
    }

    /// The spans of a policy that needs measurements, from an earlier run with the same input
    /// or planned now.
    pub(super) fn planned_spans(&self, policy: Policy, x: &T) -> Result<Vec<Span>, PlanError> {
        // Both runs of the segment around it have to be cut alike, to draw the same. In the
        // first nothing is tracked, so nothing could be measured.
        if inside_segment() && !self.walk.segment.is_deterministic() {
            let every_block = Policy::EveryBlock.spans(self.num_blocks());
            return Ok(every_block.expect("invariant: only planned policies need costs"));
        }
        let Some(key) = self.key(policy, x) else {
            return Ok(vec![Span::plain(0..self.num_blocks())]);
        };
        let known = plans().iter().find(|plan| plan.0 == key).cloned();
        if let Some((_, spans)) = known {
            return Ok(spans);
        }
        // Not under the lock: a block may plan a chain of its own.
        let spans = self.plan_aside(policy, x.clone(), &key.device)?.spans;
        let mut plans = plans();
        if plans.len() == MOST_PLANS {
            plans.remove(0);
        }
        plans.push((key, spans.clone()));
        Ok(spans)
    }

    /// Plans so that the random stream moves on by one draw, however much the measurements draw.
    fn plan_aside(&self, policy: Policy, x: T, device: &Device) -> Result<Plan, PlanError> {
        if self.walk.segment.is_deterministic() {
            return self.plan(policy, x);
        }
        // Measured blocks draw outside of any seeded run: segments of other threads wait.
        let _stream = hold_random_stream();
        let seed = SegmentSeed::draw(device);
        let plan = self.plan(policy, x);
        seed.apply(device);
        plan
    }

    /// What the plan depends on; `None` if nothing is tracked.
    fn key(&self, policy: Policy, x: &T) -> Option<Key> {
        let mut parts: Vec<DispatchTensor> = Vec::new();
        let _ = x.clone().flatten(&mut parts);
        let mut params = Params::default();
        self.blocks
            .iter()
            .for_each(|block| block.visit(&mut params));
        let tracked = parts.iter().find(|part| Dispatch::is_tracked(part));
        let device = tracked.map(|part| Device::new(part.device()));
        Some(Key {
            policy,
            forward: TypeId::of::<(M, F)>(),
            segment: self.walk.segment,
            device: device.or(params.device)?,
            inputs: parts
                .iter()
                .map(|part| (part.shape(), part.dtype()))
                .collect(),
            params: params.params,
        })
    }
}

fn plans() -> MutexGuard<'static, Vec<(Key, Vec<Span>)>> {
    PLANS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What differs a little between two profiles must not change the cut.
fn rounded(costs: Vec<BlockCost>) -> Vec<BlockCost> {
    let step = |cost: fn(&BlockCost) -> u64| {
        let largest = costs.iter().map(cost).max().unwrap_or(0);
        1u64 << (largest / PARTS).max(1).ilog2()
    };
    let (bytes_step, work_step) = (step(|cost| cost.kept.get()), step(|cost| cost.work));
    let round = |bytes: Bytes| Bytes::new(bytes.get().next_multiple_of(bytes_step));
    let round_all = |cost: &BlockCost| BlockCost {
        output: round(cost.output),
        last_use: cost.last_use,
        joins_previous: cost.joins_previous,
        kept: round(cost.kept),
        forward_peak: round(cost.forward_peak),
        recorded_peak: round(cost.recorded_peak),
        backward_peak: round(cost.backward_peak),
        param_grads: round(cost.param_grads),
        nodes: round(cost.nodes),
        work: cost.work.next_multiple_of(work_step),
    };
    costs.iter().map(round_all).collect()
}

/// The least amount that can be shown with few digits and surely does: one percent
/// more for what is left free, and one for the next profile.
fn advised(least: Bytes) -> Bytes {
    budget_for(budget_for(least)).to_advise()
}

/// Floating-point parameters: which they are, and which of them are tracked.
#[derive(Default)]
struct Params {
    params: Vec<(ParamId, DType, bool)>,
    /// The device of a tracked one.
    device: Option<Device>,
}

impl ModuleVisitor for Params {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        if tensor.is_tracked() {
            self.device.get_or_insert_with(|| tensor.device());
        }
        self.params
            .push((param.id, tensor.dtype(), tensor.is_tracked()));
    }
}
