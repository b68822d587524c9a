use std::rc::Rc;

use burn::module::Module;
use burn::tensor::{Device, DispatchTensor, Tensor};
use burn_backend::TensorMetadata;
use burn_dispatch::Dispatch;

use super::walk::{Forward, PendingSkips};
use super::{
    BlockCost, Chain, Span, Tensors,
    segment::untape,
    tape::{self, is_autodiff_float},
};
use crate::budget::BudgetError;
use crate::memory::{Bytes, PeakMeter, live_on};

/// Runs of a block that count; one before them warms up.
const NUM_RUNS: usize = 3;
/// Multiply-adds that take the time in which one kept byte is computed and read again
/// by element-wise operations: 32 for a number of four bytes.
const WORK_OF_A_BYTE: u64 = 8;

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
    pub(crate) fn new(device: &Device) -> Self {
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

impl<M, T, F> Chain<'_, M, T, F>
where
    M: Module + 'static,
    T: Tensors + Clone,
    F: Forward<M, T>,
{
    /// Measures what each block costs, by running it alone, forward and backward, on the
    /// sample that runs along the chain.
    ///
    /// Every block runs four times, the first time to warm up. Copies of the blocks run: their
    /// statistics stay as they are. Random numbers are drawn.
    ///
    /// # Errors
    /// [`UnmeasuredError`] if the device does not report its memory and the process
    /// does not count its own.
    ///
    /// # Panics
    /// If the sample has no float tensor on an autodiff device.
    pub fn profile(&self, sample: T) -> Result<Vec<BlockCost>, UnmeasuredError> {
        let sample = ChainValue::new(sample);
        let device = match sample.parts.iter().find(|part| is_autodiff_float(part)) {
            Some(part) => Device::new(part.device()),
            None => panic!("the sample of a chain must have a float tensor on an autodiff device"),
        };
        let mut costs: Vec<BlockCost> = Vec::new();
        let mut skips: Vec<(usize, ChainValue<T>)> = Vec::new();
        let mut x = sample;
        for (index, block) in self.blocks.iter().enumerate() {
            let block = block.valid().train();
            let wanted = self.walk.links.wanted(&(index..index + 1)).into_iter();
            let wanted = wanted.filter_map(|writer| skips.iter().find(|skip| skip.0 == writer));
            let wanted: Vec<_> = wanted.map(|skip| skip.1.clone()).collect();
            let run = || self.measure(index, &block, &x, &wanted, &device);
            run()?;
            let (mut cost, output) = run()?;
            for _ in 1..NUM_RUNS {
                cost = of_both(cost, run()?.0);
            }
            costs.push(cost);
            skips.push((index, output.clone()));
            skips.retain(|skip| self.walk.links.last_use(skip.0) > index);
            x = output;
            costs[index].work = work(&block, costs[index].kept, &x.parts);
        }
        Ok(costs)
    }

    /// Runs one block alone, as a segment and recorded, and the backward pass.
    fn measure(
        &self,
        index: usize,
        block: &M,
        x: &ChainValue<T>,
        skips: &[ChainValue<T>],
        device: &Device,
    ) -> Result<(BlockCost, ChainValue<T>), UnmeasuredError> {
        let range = index..index + 1;
        let run = |span: Span| {
            let skips = skips.iter().map(ChainValue::tracked);
            let mut waiting = PendingSkips::new(&self.walk.links, range.clone(), skips);
            let block = std::slice::from_ref(block);
            self.walk.run(block, &[span], x.tracked(), &mut waiting)
        };
        let base = live(device)?;
        let meter = PeakMeter::start(device);
        let outputs = run(Span::recomputed(range.clone()));
        let forward_peak = peak(meter, device)?;
        let segment = live(device)? - base;
        drop(outputs);

        let meter = PeakMeter::start(device);
        let mut outputs = Vec::new();
        let structure = run(Span::plain(range.clone())).flatten(&mut outputs);
        let recorded_peak = peak(meter, device)?;
        let kept = live(device)? - base;
        let next = ChainValue {
            parts: outputs.iter().cloned().map(untape).collect(),
            structure: Rc::new(structure),
        };
        let output = next.bytes();
        outputs.retain(Dispatch::is_tracked);
        let grads = outputs.iter().map(ones_like).collect();

        let meter = PeakMeter::start(device);
        let gradients = (!outputs.is_empty()).then(|| tape::backward(outputs, grads));
        let backward_peak = peak(meter, device)?;
        let param_grads = live(device)? - base - output;
        drop(gradients);
        let cost = BlockCost {
            output,
            last_use: self.walk.links.last_use(index),
            joins_previous: !index.is_multiple_of(self.group_len),
            kept,
            forward_peak,
            recorded_peak,
            backward_peak,
            param_grads,
            nodes: segment - output,
            work: 0,
        };
        Ok((cost, next))
    }
}

/// A value that runs along the chain, taken apart and without history.
struct ChainValue<T: Tensors> {
    parts: Vec<DispatchTensor>,
    structure: Rc<T::Structure>,
}

impl<T: Tensors> Clone for ChainValue<T> {
    fn clone(&self) -> Self {
        Self {
            parts: self.parts.clone(),
            structure: self.structure.clone(),
        }
    }
}

impl<T: Tensors> ChainValue<T> {
    fn new(value: T) -> Self {
        let mut parts = Vec::new();
        let structure = value.flatten(&mut parts);
        Self {
            parts: parts.into_iter().map(untape).collect(),
            structure: Rc::new(structure),
        }
    }

    /// Bytes of the elements.
    fn bytes(&self) -> Bytes {
        let bytes = |part: &DispatchTensor| part.shape().num_elements() * part.dtype().size();
        Bytes::new(self.parts.iter().map(bytes).sum::<usize>() as u64)
    }

    /// The value, tracked as the input of a block in training.
    fn tracked(&self) -> T {
        let restore = |part: &DispatchTensor| {
            if is_autodiff_float(part) {
                return tape::tap(part.clone()).0;
            }
            part.clone()
        };
        let parts: Vec<_> = self.parts.iter().map(restore).collect();
        T::unflatten(&self.structure, &mut parts.into_iter())
    }
}

/// What two runs of a block agree on. Other threads can only add to what stays live; a peak
/// that a busy machine or the samples missed in one run is met in another.
fn of_both(one: BlockCost, two: BlockCost) -> BlockCost {
    BlockCost {
        kept: one.kept.min(two.kept),
        forward_peak: one.forward_peak.max(two.forward_peak),
        recorded_peak: one.recorded_peak.max(two.recorded_peak),
        backward_peak: one.backward_peak.max(two.backward_peak),
        param_grads: one.param_grads.min(two.param_grads),
        nodes: one.nodes.min(two.nodes),
        ..one
    }
}

/// Counts the work of a forward pass: a multiply-add for each parameter and each position of
/// the output, and the element-wise operations of what is kept. A table of embeddings is
/// counted as if it were multiplied by.
fn work(block: &impl Module, kept: Bytes, outputs: &[DispatchTensor]) -> u64 {
    let positions = outputs.iter().map(|output| {
        let shape = output.shape();
        // Channels are axis 1 of images and volumes, else the last axis.
        let channels = match shape.num_dims() {
            0 => 1,
            rank if rank >= 4 => shape[1],
            rank => shape[rank - 1],
        };
        shape.num_elements() / channels.max(1)
    });
    let positions = positions.max().unwrap_or(0) as u64;
    block.num_params() as u64 * positions + WORK_OF_A_BYTE * kept.get()
}

fn ones_like(tensor: &DispatchTensor) -> DispatchTensor {
    let tensor = Tensor::<1>::from_dispatch(tensor.clone()).without_autodiff();
    tensor.ones_like().into_dispatch()
}

fn live(device: &Device) -> Result<Bytes, UnmeasuredError> {
    live_on(device).ok_or_else(|| UnmeasuredError::new(device))
}

fn peak(meter: PeakMeter, device: &Device) -> Result<Bytes, UnmeasuredError> {
    // What failed shows where a tensor that depends on it is read.
    let _ = device.sync();
    let peak = meter.finish().peak;
    peak.ok_or_else(|| UnmeasuredError::new(device))
}
