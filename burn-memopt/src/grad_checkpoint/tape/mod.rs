//! The nodes that a segment leaves in the autodiff graph.
//!
//! burn's custom operations have a number of parents fixed at compile time and
//! one output. A segment has any number of both, so it is drawn with three
//! kinds of node, tied together by a one-element *token*:
//!
//! ```text
//! input 0 ──┐
//!   end ── join ──┐                         ┌── output 0
//!       input 1 ─ join ── … ── core (token) ┤
//!                  parameter k ─┘           └── output 1
//! ```
//!
//! A backward pass visits nodes by falling depth: every output first (each puts
//! its gradient into a cell), then the core once (it recomputes the segment and
//! fills the cell with the gradients of inputs and parameters), then the joins
//! (each hands one of them to its tensor, whose own step comes later still), and last
//! the *end*, whose depth is one: all segments were recomputed by then.

mod nodes;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use burn::tensor::{Device, DispatchTensor, Gradients, Tensor};
use burn_autodiff::{
    Autodiff, NodeId,
    checkpoint::strategy::{BalancedCheckpointing, CheckpointStrategy, NoCheckpointing},
    ops::{Backward, OpsKind},
};
use burn_backend::{
    Backend, FloatDType, Shape, TensorMetadata, ops::FloatTensorOps, tensor::FloatTensor,
};
use burn_dispatch::{DispatchKindConversion, DispatchTensorKind};

use nodes::{Cell, Core, CoreNode, EndNode, Join, JoinNode, OwnGradientNode, TapNode};
pub(super) use nodes::{GradCell, take};

use crate::tensors::{from_primitive, into_primitive, is_balanced};

/// Calls a function generic over backend and strategy with those of a tensor.
macro_rules! with_backend {
    ($tensor:expr, $function:ident($($argument:expr),*)) => {{
        let DispatchTensorKind::Autodiff(kind) = &$tensor.kind else {
            unreachable!("invariant: tracked tensors have an autodiff primitive")
        };
        match (&**kind, is_balanced(&$tensor)) {
            #[cfg(feature = "flex")]
            (DispatchTensorKind::Flex(_), false) => {
                $function::<burn_dispatch::backends::Flex, NoCheckpointing>($($argument),*)
            }
            #[cfg(feature = "flex")]
            (DispatchTensorKind::Flex(_), true) => {
                $function::<burn_dispatch::backends::Flex, BalancedCheckpointing>($($argument),*)
            }
            #[cfg(any(feature = "wgpu", feature = "vulkan", feature = "cuda"))]
            (DispatchTensorKind::Cube(_), false) => {
                $function::<burn_dispatch::backends::Cube, NoCheckpointing>($($argument),*)
            }
            #[cfg(any(feature = "wgpu", feature = "vulkan", feature = "cuda"))]
            (DispatchTensorKind::Cube(_), true) => {
                $function::<burn_dispatch::backends::Cube, BalancedCheckpointing>($($argument),*)
            }
            #[allow(unreachable_patterns)]
            _ => panic!(
                "gradient checkpointing must know the backend of its tensors: \
                 enable the feature of burn-memopt with the backend's name"
            ),
        }
    }};
}
/// Runs a segment again and returns the gradient of each tied tensor, given the gradient of each
/// output; all of them without autodiff, `None` where nothing reached the tensor.
pub(super) trait Recompute: Send {
    fn recompute(
        self: Box<Self>,
        output_grads: Vec<Option<DispatchTensor>>,
    ) -> Vec<Option<DispatchTensor>>;
}

/// Records a segment: `outputs`, computed without a tape, become descendants of
/// the `tied` tensors (inputs and parameters, all tracked).
pub(super) fn record(
    tied: Vec<DispatchTensor>,
    outputs: Vec<DispatchTensor>,
    recompute: Box<dyn Recompute>,
) -> Vec<DispatchTensor> {
    with_backend!(tied[0], record_on(tied, outputs, recompute))
}

/// Runs the backward pass of a recomputed segment from the given gradients of
/// its outputs, without building the product of the two.
pub(super) fn backward(outputs: Vec<DispatchTensor>, grads: Vec<DispatchTensor>) -> Gradients {
    let root = with_backend!(outputs[0], seed_on(outputs, grads));
    let grads = Tensor::<1>::from_dispatch(root).backward();
    UNTRACKED.store(0, Relaxed);
    grads
}

/// Untracked operations whose graphs are kept until they are swept: about 0.9 MiB.
const MOST_UNTRACKED: u64 = 512;
/// Untracked operations since the last sweep.
static UNTRACKED: AtomicU64 = AtomicU64::new(0);

/// Number of operations that all threads have recorded so far, tracked or not.
pub(crate) fn num_operations() -> u64 {
    NodeId::new().value
}

/// Frees what burn keeps of the operations of first runs, which nothing tracks. Each leaves a graph
/// of its own of about 1.7 KiB, and only the end of a backward pass, whatever it is of, looks for such
/// graphs: without one here they would stay until the segments are recomputed, which doubles the
/// peak of a recurrent network of small tensors. It looks at every node there is, so not after every
/// segment.
pub(crate) fn sweep(num_untracked: u64, device: &Device) {
    if UNTRACKED.fetch_add(num_untracked, Relaxed) + num_untracked >= MOST_UNTRACKED {
        Tensor::<1>::zeros([1], device).require_grad().backward();
        UNTRACKED.store(0, Relaxed);
    }
}

/// Makes a tensor without history tracked, with its gradient left in a cell. In
/// contrast to a leaf, nothing has to hold the tensor to get its gradient, so its
/// memory is free as soon as the segment itself has no more use for it.
pub(super) fn tap(tensor: DispatchTensor) -> (DispatchTensor, GradCell) {
    with_backend!(tensor, tap_on(tensor))
}

/// Passes a tensor on; its gradient is copied as soon as that of `other` is due.
pub(super) fn own_gradient(tensor: DispatchTensor, other: DispatchTensor) -> DispatchTensor {
    with_backend!(tensor, own_gradient_on(tensor, other))
}

fn record_on<B: Backend, C: CheckpointStrategy>(
    tied: Vec<DispatchTensor>,
    outputs: Vec<DispatchTensor>,
    recompute: Box<dyn Recompute>,
) -> Vec<DispatchTensor>
where
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B, C>>,
{
    let input_grads: Vec<Cell<_>> = tied.iter().map(|_| Cell::default()).collect();
    let output_grads: Vec<Cell<_>> = outputs.iter().map(|_| Cell::default()).collect();

    let leaf = |tensor: &DispatchTensor| {
        let tensor = primitive::<B, C>(tensor.clone());
        Autodiff::<B, C>::float_is_require_grad(&tensor).then(|| tensor.node().id())
    };
    let leaves = tied.iter().map(leaf).collect();
    let mut token = end::<B, C>(&tied[0]);
    for (tensor, grad) in tied.into_iter().zip(&input_grads) {
        token = join::<B, C>(token, tensor, grad.clone());
    }
    let (value, guard) = token.into_parts();
    let core = Core {
        recompute: Arc::new(Mutex::new(Some(recompute))),
        input_grads,
        leaves,
        output_grads: output_grads.clone(),
    };
    let core = match CoreNode.prepare::<C>([guard]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(core, value),
        OpsKind::UnTracked(_) => unreachable!("invariant: the token descends from tracked tensors"),
    };

    // An output given twice is one node with one gradient, like the skip of a
    // UNet that the next block also reads.
    let mut nodes: Vec<(NodeId, DispatchTensor)> = Vec::new();
    let outputs = outputs.into_iter().zip(output_grads);
    outputs
        .map(|(output, grad)| {
            if !is_autodiff_float(&output) {
                return output;
            }
            let id = primitive::<B, C>(output.clone()).id();
            if let Some((_, node)) = nodes.iter().find(|(known, _)| *known == id) {
                return node.clone();
            }
            let node = descend::<B, C>(&core, output, grad);
            nodes.push((id, node.clone()));
            node
        })
        .collect()
}

fn tap_on<B: Backend, C: CheckpointStrategy>(tensor: DispatchTensor) -> (DispatchTensor, GradCell)
where
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B, C>>,
{
    let source = new_token::<B, C>(&tensor).require_grad();
    let grad = GradCell::default();
    (descend::<B, C>(&source, tensor, grad.clone()), grad)
}

/// Makes `tensor` a descendant of `parent` whose gradient arrives in `grad`.
fn descend<B: Backend, C: CheckpointStrategy>(
    parent: &FloatTensor<Autodiff<B, C>>,
    tensor: DispatchTensor,
    grad: GradCell,
) -> DispatchTensor
where
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B, C>>,
{
    let value = primitive::<B, C>(tensor).into_primitive();
    let node = TapNode.prepare::<C>([parent.node()]).compute_bound();
    match node.stateful() {
        OpsKind::Tracked(prep) => from_primitive::<Autodiff<B, C>>(prep.finish(grad, value)),
        OpsKind::UnTracked(_) => unreachable!("invariant: the parent is tracked"),
    }
}

fn seed_on<B: Backend, C: CheckpointStrategy>(
    outputs: Vec<DispatchTensor>,
    grads: Vec<DispatchTensor>,
) -> DispatchTensor
where
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B, C>>,
{
    let mut token = new_token::<B, C>(&outputs[0]);
    for (output, grad) in outputs.into_iter().zip(grads) {
        token = join::<B, C>(token, output, Arc::new(Mutex::new(Some(grad))));
    }
    from_primitive::<Autodiff<B, C>>(token)
}

/// Whether a tensor can carry a gradient: int and bool tensors and constants of
/// a plain device pass through a segment as they are.
pub(super) fn is_autodiff_float(tensor: &DispatchTensor) -> bool {
    matches!(tensor.kind, DispatchTensorKind::Autodiff(_))
}

fn new_token<B: Backend, C: CheckpointStrategy>(
    like: &DispatchTensor,
) -> FloatTensor<Autodiff<B, C>>
where
    DispatchTensor: DispatchKindConversion<Autodiff<B, C>>,
{
    let device = primitive::<B, C>(like.clone()).device();
    Autodiff::<B, C>::float_zeros(Shape::new([1]), &device, FloatDType::F32)
}

/// A token whose step comes when every segment of the backward pass was recomputed: its
/// depth is one, and that of any core at least three.
fn end<B: Backend, C: CheckpointStrategy>(like: &DispatchTensor) -> FloatTensor<Autodiff<B, C>>
where
    DispatchTensor: DispatchKindConversion<Autodiff<B, C>>,
{
    let source = new_token::<B, C>(like).require_grad();
    let value = source.clone().into_primitive();
    let node = EndNode.prepare::<C>([source.node()]).compute_bound();
    match node.stateful() {
        OpsKind::Tracked(prep) => prep.finish((), value),
        OpsKind::UnTracked(_) => unreachable!("invariant: the parent is tracked"),
    }
}

/// Ties `tensor` below `token`; a backward pass gives it the gradient in `grad`.
fn join<B: Backend, C: CheckpointStrategy>(
    token: FloatTensor<Autodiff<B, C>>,
    tensor: DispatchTensor,
    grad: GradCell,
) -> FloatTensor<Autodiff<B, C>>
where
    DispatchTensor: DispatchKindConversion<B> + DispatchKindConversion<Autodiff<B, C>>,
{
    let tensor = primitive::<B, C>(tensor);
    let state = Join {
        grad,
        shape: tensor.shape(),
        dtype: tensor.dtype().into(),
        device: tensor.device(),
    };
    let (value, guard) = token.into_parts();
    let node = JoinNode.prepare::<C>([guard, tensor.node()]);
    match node.compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(state, value),
        OpsKind::UnTracked(prep) => prep.finish(value),
    }
}

fn primitive<B: Backend, C: CheckpointStrategy>(
    tensor: DispatchTensor,
) -> FloatTensor<Autodiff<B, C>>
where
    DispatchTensor: DispatchKindConversion<Autodiff<B, C>>,
{
    into_primitive::<Autodiff<B, C>>(tensor)
        .expect("all tensors of a segment must live on one device with one strategy")
}

fn own_gradient_on<B: Backend, C: CheckpointStrategy>(
    tensor: DispatchTensor,
    other: DispatchTensor,
) -> DispatchTensor
where
    DispatchTensor: DispatchKindConversion<Autodiff<B, C>>,
{
    let (value, guard) = primitive::<B, C>(tensor).into_parts();
    let other = primitive::<B, C>(other).node();
    let node = OwnGradientNode.prepare::<C>([guard, other]);
    from_primitive::<Autodiff<B, C>>(node.compute_bound().stateless(value))
}
