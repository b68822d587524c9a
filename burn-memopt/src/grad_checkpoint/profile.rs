use std::time::Instant;

use burn::tensor::{Device, DispatchTensor, Tensor};
use burn_backend::TensorMetadata;
use burn_dispatch::Dispatch;

use super::{
    BlockCost, BudgetError, Chain, Plan, Policy, Segment, Tensors,
    segment::untape,
    tape::{self, is_autodiff_float},
};
use crate::memory::{Bytes, PeakMeter, live_on};

/// The memory of a device cannot be measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the memory of {device} cannot be measured: on the CPU, install \
     burn_memopt::memory::CountingAllocator as the program's global allocator; or choose a \
     policy that needs no measurement (block, segments=N)"
)]
pub struct UnmeasuredError {
    device: String,
}

impl UnmeasuredError {
    pub(crate) fn of(device: &Device) -> Self {
        Self {
            device: format!("{device:?}"),
        }
    }
}

/// A chain could not be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The device's memory cannot be measured.
    #[error(transparent)]
    Unmeasured(#[from] UnmeasuredError),
    /// No cut fits the budget.
    #[error(transparent)]
    Budget(#[from] BudgetError),
}

/// Measures a chain on a sample and cuts it by a policy: [`profile`], then
/// [`Policy::plan`].
///
/// Of a budget one percent is left free, for what belongs to no block: the loss
/// and the bookkeeping of the tape.
///
/// # Errors
/// [`PlanError`] if the memory cannot be measured or no cut fits a budget.
pub fn plan<C: Chain>(policy: Policy, chain: &C, sample: C::State) -> Result<Plan, PlanError> {
    let costs = profile(chain, sample)?;
    let Policy::Budget(budget) = policy else {
        return Ok(policy.plan(&costs)?);
    };
    let usable = Bytes::new(budget.get() - budget.get() / 100);
    let plan = Plan::within(usable, &costs).map_err(|error| BudgetError {
        budget,
        minimum: advised(error.minimum),
    })?;
    Ok(plan)
}

/// The least amount that can be shown with few digits and surely does: two
/// percent more, for what is left free and for the next profile, rounded up.
fn advised(minimum: Bytes) -> Bytes {
    (minimum + Bytes::new(minimum.get() / 50)).to_advise()
}

/// Measures what each block of a chain costs, by running it alone, forward and
/// backward, on the sample that runs along the chain.
///
/// Every block runs twice, the first time to warm up. Statistics of
/// normalisation layers see the sample and random numbers are drawn: profile a
/// copy of the model (`module.valid().train()`) or before training starts.
///
/// # Errors
/// [`UnmeasuredError`] if the device does not report its memory and the process
/// does not count its own.
pub fn profile<C: Chain>(chain: &C, sample: C::State) -> Result<Vec<BlockCost>, UnmeasuredError> {
    let mut parts = Vec::new();
    let structure = sample.flatten(&mut parts);
    let device = match parts.iter().find(|part| is_autodiff_float(part)) {
        Some(part) => Device::new(part.device()),
        None => panic!("the sample of a chain must have a float tensor on an autodiff device"),
    };
    let mut state = State::<C> { parts, structure };
    let mut costs = Vec::new();
    for index in 0..chain.num_blocks() {
        measure_block(chain, index, &state, &device)?;
        let (cost, next) = measure_block(chain, index, &state, &device)?;
        costs.push(cost);
        state = next;
    }
    Ok(costs)
}

/// A state of the chain, taken apart and without history.
struct State<C: Chain> {
    parts: Vec<DispatchTensor>,
    structure: <C::State as Tensors>::Structure,
}

impl<C: Chain> State<C> {
    /// Puts the state together, tracked as the input of a block in training.
    fn assemble(&self) -> C::State {
        let restore = |part: &DispatchTensor| match is_autodiff_float(part) {
            true => tape::tap(part.clone()).0,
            false => part.clone(),
        };
        let parts: Vec<_> = self.parts.iter().map(restore).collect();
        C::State::unflatten(&self.structure, &mut parts.into_iter())
    }
}

/// Runs one block alone, as a segment and recorded, and the backward pass.
fn measure_block<C: Chain>(
    chain: &C,
    index: usize,
    before: &State<C>,
    device: &Device,
) -> Result<(BlockCost, State<C>), UnmeasuredError> {
    let blocks = index..index + 1;
    let base = live(device)?;

    let state = before.assemble();
    let meter = PeakMeter::start(device);
    let start = Instant::now();
    let outputs = chain.run_segment(&Segment::new(), blocks.clone(), state);
    wait_for(device);
    let forward = start.elapsed();
    let forward_peak = peak(meter, device)?;
    let output = live(device)? - base;
    drop(outputs);

    let mut outputs = Vec::new();
    let structure = chain
        .run_blocks(blocks, before.assemble())
        .flatten(&mut outputs);
    let kept = live(device)? - base;
    let next = State {
        parts: outputs.iter().cloned().map(untape).collect(),
        structure,
    };
    outputs.retain(Dispatch::is_tracked);
    let grads = outputs.iter().map(ones_like).collect();

    let meter = PeakMeter::start(device);
    let gradients = (!outputs.is_empty()).then(|| tape::backward(outputs, grads));
    let backward_peak = peak(meter, device)?;
    let param_grads = live(device)? - base - output;
    drop(gradients);
    let cost = BlockCost {
        output,
        last_use: chain.last_use(index),
        kept,
        forward_peak,
        backward_peak,
        param_grads,
        forward,
    };
    Ok((cost, next))
}

fn ones_like(tensor: &DispatchTensor) -> DispatchTensor {
    let tensor = Tensor::<1>::from_dispatch(tensor.clone()).without_autodiff();
    tensor.ones_like().into_dispatch()
}

fn wait_for(device: &Device) {
    // What failed shows where a tensor that depends on it is read.
    let _ = device.sync();
}

fn live(device: &Device) -> Result<Bytes, UnmeasuredError> {
    live_on(device).ok_or_else(|| UnmeasuredError::of(device))
}

fn peak(meter: PeakMeter, device: &Device) -> Result<Bytes, UnmeasuredError> {
    wait_for(device);
    let reading = meter.finish().peak;
    reading.ok_or_else(|| UnmeasuredError::of(device))
}
