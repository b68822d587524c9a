use core::cell::RefCell;
use std::collections::HashSet;

use burn::{
    module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId},
    tensor::{Device, DispatchTensor, FloatDType, Slice, Tensor},
};
use burn_backend::{TensorMetadata, ops::FloatTensorOps};
use burn_dispatch::Dispatch;

use super::{
    Tensors,
    randomness::{Replay, Run, inside_segment},
    recompute::{Recomputation, store},
    repeat::{OutputCheck, Trace},
    tape::{self, is_autodiff_float},
};
use crate::memory::on_host;
use crate::nn::kinks;

/// In what form a segment keeps its input tensors until the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Boundary {
    /// As they are. Exact.
    #[default]
    Device,
    /// Rounded to a half-precision type: half the memory, and the recomputation
    /// starts from rounded values (relative error 2⁻¹¹ for f16, 2⁻⁸ for bf16).
    Half(FloatDType),
    /// In host memory: no device memory, two transfers. Exact. On a device that
    /// computes in host memory this saves nothing.
    Host,
}

impl Boundary {
    /// How far the two runs of a segment may differ, as a share of the largest value.
    fn tolerance(self) -> f32 {
        match self {
            Self::Half(_) => 0.1,
            Self::Device | Self::Host => 0.0,
        }
    }
}

/// A piece of a model that is recomputed in the backward pass: the options of
/// [`grad_checkpoint`](super::grad_checkpoint()).
///
/// # Example
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::grad_checkpoint::{Boundary, Segment};
///
/// let device = Device::flex().autodiff();
/// let layer = LinearConfig::new(4, 4).init(&device);
/// let x = Tensor::<2>::ones([2, 4], &device);
/// let segment = Segment::new().with_boundary(Boundary::Host).without_randomness();
/// let y = segment.run(&layer, x, |layer: &Linear, x: Tensor<2>| layer.forward(x));
/// let grads = y.sum().backward();
/// assert!(layer.weight.val().grad(&grads).is_some());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Segment {
    boundary: Boundary,
    deterministic: bool,
    compares_outputs: bool,
}

impl Segment {
    /// A segment that keeps its inputs as they are and replays random numbers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the form in which floating-point inputs are kept. The default is
    /// [`Boundary::Device`].
    pub fn with_boundary(mut self, boundary: Boundary) -> Self {
        self.boundary = boundary;
        self
    }

    /// Promises that the closure draws no random numbers (no active dropout), so
    /// that none need to be replayed and compared. The default is to replay them. That
    /// costs one small read from the device a segment, or one for all segments of
    /// [`share_seed`](super::share_seed), and one at the end of a backward pass.
    ///
    /// Segments inside this one may draw: they replay by themselves.
    pub fn without_randomness(mut self) -> Self {
        self.deterministic = true;
        self
    }

    /// Compares what the two runs computed, and ends a backward pass whose segment
    /// computed something else the second time with an error that names the output.
    ///
    /// Both runs sum every floating-point output in 64 parts, on the device; the sums
    /// are read at the end of the backward pass. This costs two reductions of the
    /// outputs, and for half precision an f32 copy of one output for a moment. The
    /// default is to compare only where random numbers are replayed, and only samples.
    ///
    /// # Exactness
    /// On the CPU any difference of a sum is an error. On a GPU, which may choose another
    /// kernel the second time, only one above 0.1 % of the largest sum (1 % in f16, 5 % in
    /// bf16); with [`Boundary::Half`] above 10 %.
    pub fn with_output_check(mut self) -> Self {
        self.compares_outputs = true;
        self
    }

    /// Whether nothing random is replayed.
    pub(super) fn is_deterministic(&self) -> bool {
        self.deterministic
    }

    /// Runs `forward` and records that it is to be run again in the backward
    /// pass; see [`grad_checkpoint`](super::grad_checkpoint()).
    ///
    /// # Panics
    /// If `forward` captured a tracked tensor, or runs differently the second time.
    pub fn run<M, I, O, F>(&self, module: &M, inputs: I, forward: F) -> O
    where
        M: Module + 'static,
        I: Tensors,
        O: Tensors,
        F: Fn(&M, I) -> O + Send + 'static,
    {
        if kinks::are_kept() {
            return forward(module, inputs);
        }
        let mut parts = Vec::new();
        let structure = inputs.flatten(&mut parts);
        let params = Params::new(module);
        let tracked: Vec<bool> = parts.iter().map(Dispatch::is_tracked).collect();
        let mut tied: Vec<_> = select(&parts, &tracked).cloned().collect();
        tied.extend(params.tracked);
        if tied.is_empty() {
            let floats = parts.iter().filter(|part| is_autodiff_float(part));
            let device = floats.chain(&params.any).next().map(device_of);
            let inputs = I::unflatten(&structure, &mut parts.into_iter());
            return self.run_untracked(device, || forward(module, inputs));
        }

        let device = device_of(&tied[0]);
        if !self.deterministic && !on_host(&device) {
            settle(module, &parts);
        }
        let replay = Replay::new(self.deterministic, device.clone());
        let compared = self.compared(&replay);
        let frozen = module.valid();
        let untaped = parts.iter().cloned().map(untape);
        let inputs = I::unflatten(&structure, &mut untaped.collect::<Vec<_>>().into_iter());
        let untaped_module = module.clone().map(&mut Untape);
        let operations_before = tape::num_operations();
        let (outputs, stream) = replay.run(Run::First, || forward(&untaped_module, inputs));

        let mut output_parts = Vec::new();
        let output_structure = outputs.flatten(&mut output_parts);
        assert!(
            !output_parts.iter().any(Dispatch::is_tracked),
            "a checkpointed closure must take every tracked tensor as an input, but it captured \
             one: its gradient would be lost. Pass the tensor (or the module that owns the \
             parameter) through `inputs` or `module`"
        );
        let recomputation = Recomputation::<M, I, O, F> {
            module: frozen,
            forward,
            inputs: store(parts, tracked, self.boundary),
            structure,
            param_is_tracked: params.is_tracked,
            output_shapes: output_parts.iter().map(TensorMetadata::shape).collect(),
            context: tied[0].autodiff,
            replay,
            trace: Trace::new(stream, &output_parts, compared),
            compared,
            tolerance: self.boundary.tolerance(),
            output: core::marker::PhantomData,
        };
        let outputs = tape::record(tied, output_parts, Box::new(recomputation));
        tape::sweep(tape::num_operations() - operations_before, &device);
        O::unflatten(&output_structure, &mut outputs.into_iter())
    }

    /// Runs `forward` where nothing is to be recorded. Inside another segment this is the
    /// run before its recomputation, in which the same random numbers have to be drawn.
    fn run_untracked<O>(&self, device: Option<Device>, forward: impl FnOnce() -> O) -> O {
        match device {
            Some(device) if inside_segment() => {
                let replay = Replay::new(self.deterministic, device);
                replay.run(Run::First, forward).0
            }
            _ => forward(),
        }
    }

    fn compared(&self, replay: &Replay) -> OutputCheck {
        if self.compares_outputs {
            OutputCheck::Everything
        } else if replay.is_seeded() {
            OutputCheck::Sample
        } else {
            OutputCheck::Nothing
        }
    }
}

/// Has the device compute what other threads queued for the parameters and inputs, such as
/// random initial values: it must not draw them while the segment runs on its seed.
///
/// An operation of this thread on a tensor of another one waits for that one's queue.
/// Parameters are looked at once by each thread.
fn settle(module: &impl Module, inputs: &[DispatchTensor]) {
    struct Settle<'a>(&'a mut HashSet<ParamId>);
    impl ModuleVisitor for Settle<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if self.0.insert(param.id) {
                look_at(param.val().into_dispatch());
            }
        }
    }
    thread_local! {
        static SETTLED: RefCell<HashSet<ParamId>> = RefCell::default();
    }
    SETTLED.with_borrow_mut(|settled| module.visit(&mut Settle(settled)));
    let floats = inputs.iter().filter(|input| is_autodiff_float(input));
    floats.cloned().for_each(look_at);
}

/// Queues an operation on the first value of a tensor.
fn look_at(tensor: DispatchTensor) {
    let inner = Tensor::<1>::from_dispatch(tensor)
        .without_autodiff()
        .into_dispatch();
    let shape = inner.shape();
    let firsts = shape
        .iter()
        .map(|&len| Slice::new(0, Some(len.min(1) as isize), 1));
    Dispatch::float_slice(inner, &firsts.collect::<Vec<_>>());
}

fn device_of(tensor: &DispatchTensor) -> Device {
    Device::new(tensor.device())
}

fn select<'a, T>(items: &'a [T], chosen: &'a [bool]) -> impl Iterator<Item = &'a T> {
    items
        .iter()
        .zip(chosen)
        .filter_map(|(item, &chosen)| chosen.then_some(item))
}

/// A tensor that keeps its autodiff device but leaves no trace on the tape.
pub(super) fn untape(tensor: DispatchTensor) -> DispatchTensor {
    if is_autodiff_float(&tensor) {
        Dispatch::float_set_require_grad(tensor, false)
    } else {
        tensor
    }
}

/// Floating-point parameters and buffers, in visiting order.
#[derive(Default)]
struct Params {
    tracked: Vec<DispatchTensor>,
    is_tracked: Vec<bool>,
    /// One of them, tracked or not.
    any: Option<DispatchTensor>,
}

impl Params {
    fn new(module: &impl Module) -> Self {
        let mut params = Self::default();
        module.visit(&mut params);
        params
    }
}

impl ModuleVisitor for Params {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        self.is_tracked.push(tensor.is_tracked());
        if tensor.is_tracked() {
            self.tracked.push(tensor.into_dispatch());
        } else if self.any.is_none() {
            self.any = Some(tensor.into_dispatch());
        }
    }
}

/// Gives every parameter up to the tape. Buffers have no tape: `RunningState`,
/// which the module shares with its clones, is written back unchanged.
struct Untape;

impl ModuleMapper for Untape {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.set_require_grad(false))
    }
}
