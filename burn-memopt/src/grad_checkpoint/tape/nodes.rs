//! The steps of the nodes: what each does in a backward pass.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::DispatchTensor;
use burn_autodiff::{
    NodeId,
    checkpoint::base::Checkpointer,
    grads::Gradients,
    ops::{Backward, Ops, unary},
};
use burn_backend::{Backend, FloatDType, Scalar, Shape, tensor::FloatTensor};
use burn_dispatch::DispatchKindConversion;

use super::Recompute;
use crate::grad_checkpoint::repeat;
use crate::tensors::{from_primitive, into_primitive};

/// Where one node leaves something for another.
pub(super) type Cell<T> = Arc<Mutex<T>>;

/// A gradient on its way.
pub(in super::super) type GradCell = Cell<Option<DispatchTensor>>;

/// Empties a cell. A panic elsewhere cannot leave it half written.
pub(in super::super) fn take<T: Default>(cell: &Mutex<T>) -> T {
    std::mem::take(&mut *cell.lock().unwrap_or_else(PoisonError::into_inner))
}

fn put<T>(cell: &Mutex<T>, value: T) {
    *cell.lock().unwrap_or_else(PoisonError::into_inner) = value;
}

#[derive(Debug)]
pub(super) struct JoinNode;

#[derive(Debug, Clone)]
pub(super) struct Join<D> {
    pub(super) grad: GradCell,
    pub(super) shape: Shape,
    pub(super) dtype: FloatDType,
    pub(super) device: D,
}

impl<B: Backend> Backward<B, 2> for JoinNode
where
    DispatchTensor: DispatchKindConversion<B>,
{
    type State = Join<B::Device>;

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [_, tensor] = ops.parents;
        let Some(node) = tensor else { return };
        let state = ops.state;
        match take(&state.grad) {
            Some(grad) => {
                grads.register::<B>(node.id, known::<B>(grad));
            }
            // A leaf without a gradient is one that the loss does not depend
            // on; any other node must have one when its step runs.
            None if node.order == 0 => {}
            None => {
                let zeros = B::float_zeros(state.shape, &state.device, state.dtype);
                grads.register::<B>(node.id, zeros);
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct CoreNode;

#[derive(Clone)]
pub(super) struct Core {
    pub(super) recompute: Cell<Option<Box<dyn Recompute>>>,
    pub(super) input_grads: Vec<GradCell>,
    /// Which of the tied tensors are leaves, such as parameters.
    pub(super) leaves: Vec<Option<NodeId>>,
    pub(super) output_grads: Vec<GradCell>,
}

impl core::fmt::Debug for Core {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Core")
    }
}

impl<B: Backend> Backward<B, 1> for CoreNode
where
    DispatchTensor: DispatchKindConversion<B>,
{
    type State = Core;

    fn backward(self, ops: Ops<Core, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let core = ops.state;
        let recompute = take(&core.recompute).expect("invariant: a graph is consumed once");
        let output_grads = core.output_grads.iter().map(|cell| take(cell)).collect();
        let input_grads = repeat::nested(|| recompute.recompute(output_grads));
        let cells = core.input_grads.iter().zip(core.leaves);
        for ((cell, leaf), grad) in cells.zip(input_grads) {
            match (leaf, grad) {
                // Added at once: of many segments that share a parameter, none keeps a gradient of its own until
                // the joins come.
                (Some(leaf), Some(grad)) => grads.register::<B>(leaf, known::<B>(grad)),
                (_, grad) => put(cell, grad),
            }
        }
    }
}

fn known<B: Backend>(grad: DispatchTensor) -> FloatTensor<B>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    into_primitive::<B>(grad).expect("invariant: gradients live on the device of their tensor")
}

/// The step that comes after all cores: its node is the parent of every other node of
/// the segment. It compares what the two runs of all segments left, at once.
#[derive(Debug)]
pub(super) struct EndNode;

impl<B: Backend> Backward<B, 1> for EndNode {
    type State = ();

    fn backward(self, _: Ops<(), 1>, _: &mut Gradients, _: &mut Checkpointer) {
        repeat::compare_pending();
    }
}

#[derive(Debug)]
pub(super) struct TapNode;

impl<B: Backend> Backward<B, 1> for TapNode
where
    DispatchTensor: DispatchKindConversion<B>,
{
    type State = GradCell;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        put(&ops.state, Some(from_primitive::<B>(grad)));
    }
}

/// Copies a gradient that may be a view of something larger. The second parent
/// only sets the time: its depth is the one at which the gradient is computed.
#[derive(Debug)]
pub(super) struct OwnGradientNode;

impl<B: Backend> Backward<B, 2> for OwnGradientNode {
    type State = ();

    fn backward(self, ops: Ops<(), 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [tensor, _] = ops.parents;
        // A view shares its memory, so the product cannot be computed in place.
        unary::<B, _>([tensor], ops.node, grads, |grad| {
            B::float_mul_scalar(grad, Scalar::Float(1.0))
        });
    }
}
