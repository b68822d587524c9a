//! Operations on the CPU with kernels of our own, as nodes of burn's graph.

use std::fmt::Debug;
use std::marker::PhantomData;

use burn::tensor::{DType, DispatchTensor, GradientCheckpointingStrategy, Tensor};
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::{
    BalancedCheckpointing, CheckpointStrategy, NoCheckpointing,
};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_autodiff::{Autodiff, NodeId};
use burn_backend::tensor::FloatTensor;
use burn_backend::{Shape, TensorData, TensorMetadata};
use burn_dispatch::backends::Flex;
use burn_dispatch::{
    BackendTensor, DispatchAutodiffContext, DispatchKindConversion, DispatchTensorKind,
};

/// A tensor of the CPU backend.
pub(super) type Primitive = FloatTensor<Flex>;

/// A function of `N` f32 tensors on the CPU with its gradient.
pub(super) trait Operation<const N: usize>: Clone + Debug + Send + 'static {
    /// Whether the gradient needs the output in place of the inputs, so that these need not be kept.
    const KEEPS_OUTPUT: bool = false;

    /// Whether it computes in this type.
    fn suits(dtype: DType) -> bool {
        dtype == DType::F32
    }

    fn forward(&self, inputs: [Primitive; N]) -> Primitive;

    /// The gradients of those inputs that are `wanted`, given that of the output. `kept` are the
    /// inputs, or the output alone.
    fn backward(
        &self,
        kept: Vec<Primitive>,
        grad: Primitive,
        wanted: [bool; N],
    ) -> [Option<Primitive>; N];
}

/// Runs an operation. `None` if an input is not on `flex`, or in a type that does not suit it, or
/// some are on an autodiff device and others are not: what happens then is burn's to say.
pub(super) fn run<O: Operation<N>, const N: usize>(
    operation: O,
    inputs: [DispatchTensor; N],
) -> Option<DispatchTensor> {
    if !inputs.iter().all(|input| O::suits(input.dtype())) {
        return None;
    }
    let autodiff = inputs[0].autodiff;
    if inputs.iter().any(|input| input.autodiff != autodiff) {
        return None;
    }
    if inputs.iter().all(is_tracked) {
        if is_balanced(&inputs[0]) {
            Some(record::<O, BalancedCheckpointing, N>(operation, inputs))
        } else {
            Some(record::<O, NoCheckpointing, N>(operation, inputs))
        }
    } else if inputs.iter().all(is_plain) {
        let output = operation.forward(inputs.map(unwrap::<Flex>));
        Some(wrap::<Flex>(output))
    } else {
        None
    }
}

/// Runs a function without a gradient. `None` if an input is not on `flex` without autodiff, or not in
/// f32.
pub(super) fn run_plain<const N: usize>(
    inputs: [DispatchTensor; N],
    forward: impl FnOnce([Primitive; N]) -> Primitive,
) -> Option<DispatchTensor> {
    let suits = inputs
        .iter()
        .all(|input| input.dtype() == DType::F32 && is_plain(input));
    suits.then(|| wrap::<Flex>(forward(inputs.map(unwrap::<Flex>))))
}

/// A tensor of these values.
pub(super) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Primitive {
    Primitive::from_data(TensorData::new(values, shape))
}

/// Whether an operation of one input runs here. burn's strategy to keep little recomputes cheap ones
/// instead.
pub(super) fn suits<O: Operation<1>, const D: usize>(x: &Tensor<D>) -> bool {
    let x = x.clone().into_dispatch();
    O::suits(x.dtype()) && (is_plain(&x) || is_tracked(&x) && !is_balanced(&x))
}

fn is_balanced(tensor: &DispatchTensor) -> bool {
    let balanced = GradientCheckpointingStrategy::Balanced;
    tensor.autodiff == DispatchAutodiffContext::Enabled(balanced)
}

fn is_plain(tensor: &DispatchTensor) -> bool {
    matches!(tensor.kind, DispatchTensorKind::Flex(_))
}

fn is_tracked(tensor: &DispatchTensor) -> bool {
    match &tensor.kind {
        DispatchTensorKind::Autodiff(kind) => matches!(**kind, DispatchTensorKind::Flex(_)),
        _ => false,
    }
}

fn unwrap<B: burn_backend::Backend>(tensor: DispatchTensor) -> FloatTensor<B>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    <DispatchTensor as DispatchKindConversion<B>>::try_into_backend(tensor)
        .expect("invariant: the kind was checked")
        .float()
}

fn wrap<B: burn_backend::Backend>(tensor: FloatTensor<B>) -> DispatchTensor
where
    DispatchTensor: DispatchKindConversion<B>,
{
    <DispatchTensor as DispatchKindConversion<B>>::from_backend(BackendTensor::Float(tensor))
}

fn record<O: Operation<N>, C: CheckpointStrategy, const N: usize>(
    operation: O,
    inputs: [DispatchTensor; N],
) -> DispatchTensor
where
    DispatchTensor: DispatchKindConversion<Autodiff<Flex, C>>,
{
    let inputs = inputs.map(unwrap::<Autodiff<Flex, C>>);
    let node = Node(PhantomData::<O>).prepare::<C>(inputs.each_ref().map(|input| input.node()));
    let output = match node.compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let kept = if O::KEEPS_OUTPUT {
                Vec::new()
            } else {
                inputs.iter().map(|input| prep.checkpoint(input)).collect()
            };
            let output = operation.forward(inputs.map(|input| input.into_primitive()));
            let of_output = O::KEEPS_OUTPUT.then(|| output.clone());
            prep.finish((operation, kept, of_output), output)
        }
        OpsKind::UnTracked(prep) => {
            prep.finish(operation.forward(inputs.map(|input| input.into_primitive())))
        }
    };
    wrap::<Autodiff<Flex, C>>(output)
}

#[derive(Debug)]
struct Node<O>(PhantomData<O>);

impl<O: Operation<N>, const N: usize> Backward<Flex, N> for Node<O> {
    type State = (O, Vec<NodeId>, Option<Primitive>);

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<Flex>(&ops.node);
        let (operation, inputs, output) = ops.state;
        let inputs = inputs.into_iter();
        let inputs = inputs.map(|id| checkpointer.retrieve_node_output::<Primitive>(id));
        let kept = inputs.chain(output).collect();
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let input_grads = operation.backward(kept, grad, wanted);
        for (parent, grad) in ops.parents.into_iter().zip(input_grads) {
            if let (Some(parent), Some(grad)) = (parent, grad) {
                grads.register::<Flex>(parent.id, grad);
            }
        }
    }
}
