//! The second run of a segment: what is kept for it, and its backward pass.

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{DType, Device, DispatchTensor, FloatDType, Shape, Tensor, TensorData},
};
use burn_backend::{TensorMetadata, ops::FloatTensorOps};
use burn_dispatch::{Dispatch, DispatchAutodiffContext};

use super::{
    Boundary, Tensors,
    randomness::{Replay, Run},
    repeat::{OutputCheck, Trace},
    tape::{self, GradCell, Recompute, is_autodiff_float},
};
use crate::memory::to_host;

/// An input of the segment, kept until the backward pass.
pub(super) struct StoredInput {
    value: StoredValue,
    /// Autodiff association of a floating-point input; `None` for all others.
    context: Option<DispatchAutodiffContext>,
    is_tracked: bool,
}

enum StoredValue {
    Device(DispatchTensor),
    Rounded(DispatchTensor, DType),
    Host(TensorData, Device),
}

pub(super) fn store(
    parts: Vec<DispatchTensor>,
    tracked: Vec<bool>,
    boundary: Boundary,
) -> Vec<StoredInput> {
    let keep = |(part, is_tracked): (DispatchTensor, bool)| {
        if !is_autodiff_float(&part) {
            let value = StoredValue::Device(part);
            return StoredInput {
                value,
                context: None,
                is_tracked,
            };
        }
        let context = Some(part.autodiff);
        let dtype = part.dtype();
        let inner = Tensor::<1>::from_dispatch(part).without_autodiff();
        let value = match boundary {
            Boundary::Half(half) if dtype == DType::F32 => {
                StoredValue::Rounded(inner.cast(half).into_dispatch(), dtype)
            }
            Boundary::Host => {
                let device = inner.device();
                let data = to_host(inner).unwrap_or_else(|error| {
                    panic!("the input of a segment could not be moved to the host: {error}")
                });
                StoredValue::Host(data, device)
            }
            _ => StoredValue::Device(inner.into_dispatch()),
        };
        StoredInput {
            value,
            context,
            is_tracked,
        }
    };
    parts.into_iter().zip(tracked).map(keep).collect()
}

impl StoredInput {
    /// The tensor at the start of a new graph, and the cell of its gradient.
    fn restore(self) -> (DispatchTensor, Option<GradCell>) {
        let inner = match self.value {
            StoredValue::Device(inner) => inner,
            StoredValue::Rounded(inner, dtype) => Tensor::<1>::from_dispatch(inner)
                .cast(FloatDType::from(dtype))
                .into_dispatch(),
            StoredValue::Host(data, device) => upload(data, &device),
        };
        let Some(context) = self.context else {
            return (inner, None);
        };
        let constant = fresh_constant(inner, context);
        if !self.is_tracked {
            return (constant, None);
        }
        let (tensor, grad) = tape::tap(constant);
        (tensor, Some(grad))
    }
}

/// Moves data of any rank to the device.
fn upload(data: TensorData, device: &Device) -> DispatchTensor {
    Dispatch::float_from_data(data, device.as_dispatch())
}

/// A tensor of a new graph, with the strategy that burn's own gradient
/// checkpointing has in the old one.
fn fresh_constant(inner: DispatchTensor, context: DispatchAutodiffContext) -> DispatchTensor {
    let mut constant = Tensor::<1>::from_dispatch(inner).autodiff().into_dispatch();
    constant.autodiff = context;
    constant
}

/// Makes every parameter a fresh leaf and remembers the tracked ones.
struct FreshLeaves<'a> {
    is_tracked: core::slice::Iter<'a, bool>,
    context: DispatchAutodiffContext,
    leaves: Vec<DispatchTensor>,
}

impl ModuleMapper for FreshLeaves<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let is_tracked = *self
            .is_tracked
            .next()
            .expect("invariant: the module's own parameters");
        let leaf = param.map(|tensor| {
            let inner = tensor.without_autodiff().into_dispatch();
            Tensor::from_dispatch(fresh_constant(inner, self.context))
        });
        let leaf = leaf.set_require_grad(is_tracked);
        if is_tracked {
            self.leaves.push(leaf.val().into_dispatch());
        }
        leaf
    }
}

/// A module without autodiff, made to train in a graph of its own, and its tracked parameters.
pub(crate) fn with_fresh_leaves<M: Module>(
    module: M,
    is_tracked: &[bool],
    context: DispatchAutodiffContext,
) -> (M, Vec<DispatchTensor>) {
    let mut fresh = FreshLeaves {
        is_tracked: is_tracked.iter(),
        context,
        leaves: Vec::new(),
    };
    // Without gradients: `train` would make leaves of its own, which burn keeps to the end.
    let module = module.no_grad().train().map(&mut fresh);
    (module, fresh.leaves)
}

/// What a segment keeps for the backward pass.
pub(super) struct Recomputation<M, I: Tensors, O, F> {
    /// Parameters without autodiff, and statistics of its own.
    pub(super) module: M,
    pub(super) forward: F,
    pub(super) inputs: Vec<StoredInput>,
    pub(super) structure: I::Structure,
    pub(super) param_is_tracked: Vec<bool>,
    pub(super) output_shapes: Vec<Shape>,
    pub(super) context: DispatchAutodiffContext,
    pub(super) replay: Replay,
    pub(super) trace: Trace,
    pub(super) compared: OutputCheck,
    pub(super) tolerance: f32,
    pub(super) output: core::marker::PhantomData<fn() -> O>,
}

impl<M, I, O, F> Recompute for Recomputation<M, I, O, F>
where
    M: Module,
    I: Tensors,
    O: Tensors,
    F: Fn(&M, I) -> O + Send,
{
    fn recompute(
        self: Box<Self>,
        mut output_grads: Vec<Option<DispatchTensor>>,
    ) -> Vec<Option<DispatchTensor>> {
        let (module, leaves) = with_fresh_leaves(self.module, &self.param_is_tracked, self.context);
        let (parts, input_grads): (Vec<_>, Vec<_>) =
            self.inputs.into_iter().map(StoredInput::restore).unzip();

        let inputs = I::unflatten(&self.structure, &mut parts.into_iter());
        let (outputs, stream) = self
            .replay
            .run(Run::Recomputation, || (self.forward)(&module, inputs));
        let mut parts = Vec::new();
        outputs.flatten(&mut parts);
        let shapes: Vec<_> = parts.iter().map(TensorMetadata::shape).collect();
        assert_eq!(
            shapes, self.output_shapes,
            "a checkpointed closure must compute the same both times, got other output shapes"
        );
        let again = Trace::new(stream, &parts, self.compared);
        self.trace
            .compare(again, core::any::type_name::<M>(), self.tolerance);

        // Only outputs that the loss reached and that depend on a leaf take part.
        let (reached, grads): (Vec<_>, Vec<_>) = parts
            .into_iter()
            .zip(&mut output_grads)
            .filter(|(output, _)| Dispatch::is_tracked(output))
            .filter_map(|(output, grad)| Some((output, grad.take()?)))
            .unzip();
        drop(module);
        let mut param_grads: Vec<_> = leaves.iter().map(|_| None).collect();
        if !reached.is_empty() {
            let mut grads = tape::backward(reached, grads);
            for (leaf, grad) in leaves.into_iter().zip(&mut param_grads) {
                let leaf = Tensor::<1>::from_dispatch(leaf);
                *grad = leaf.grad_remove(&mut grads).map(Tensor::into_dispatch);
            }
        }
        let input_grads = input_grads.into_iter().flatten();
        input_grads
            .map(|cell| tape::take(&cell))
            .chain(param_grads)
            .collect()
    }
}
