//! Operations on the CPU with kernels of our own, as nodes of burn's graph.

use std::fmt::Debug;
use std::marker::PhantomData;

use burn::tensor::{DType, DispatchTensor};
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::{
    BalancedCheckpointing, CheckpointStrategy, NoCheckpointing,
};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_autodiff::{Autodiff, NodeId};
use burn_backend::tensor::FloatTensor;
use burn_backend::{Backend, Shape, TensorData, TensorMetadata};
use burn_dispatch::backends::Flex;
use burn_dispatch::{DispatchKindConversion, DispatchTensorKind};

use crate::tensors::{from_primitive, into_primitive, is_balanced};

/// A tensor of the CPU backend.
pub(super) type Primitive = FloatTensor<Flex>;

/// A function of `N` tensors on the CPU with its gradient.
pub(super) trait Operation<const N: usize>: Clone + Debug + Send + 'static {
    /// Whether it is cheap enough that burn's own strategy to keep little computes it twice.
    const IS_CHEAP: bool = false;

    /// Whether it computes in this type.
    fn suits(&self, dtype: DType) -> bool {
        dtype == DType::F32
    }

    /// Whether the gradient needs the output in place of the inputs, so that these need not be kept.
    fn keeps_output(&self) -> bool {
        false
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

/// Runs an operation. Returns the inputs if one is not on `flex` or in a type that does not suit,
/// if some are on an autodiff device and others are not, or if burn's strategy would compute it
/// twice: all that is burn's to do.
pub(super) fn run<O: Operation<N>, const N: usize>(
    operation: O,
    inputs: [DispatchTensor; N],
) -> Result<DispatchTensor, [DispatchTensor; N]> {
    let is_plain = inputs.iter().all(is_plain);
    let is_balanced = is_balanced(&inputs[0]);
    let alike = inputs
        .iter()
        .all(|input| operation.suits(input.dtype()) && input.autodiff == inputs[0].autodiff);
    if !alike || !(is_plain || inputs.iter().all(is_tracked)) || (O::IS_CHEAP && is_balanced) {
        return Err(inputs);
    }
    Ok(if is_plain {
        from_primitive::<Flex>(operation.forward(inputs.map(known::<Flex>)))
    } else if is_balanced {
        record::<O, BalancedCheckpointing, N>(operation, inputs)
    } else {
        record::<O, NoCheckpointing, N>(operation, inputs)
    })
}

/// Runs a function without a gradient. `None` if an input is not on `flex` without autodiff, or not in
/// f32.
pub(super) fn run_plain(
    inputs: Vec<DispatchTensor>,
    forward: impl FnOnce(Vec<Primitive>) -> Primitive,
) -> Option<DispatchTensor> {
    let suits = |input: &DispatchTensor| input.dtype() == DType::F32 && is_plain(input);
    inputs.iter().all(suits).then(|| {
        let inputs = inputs.into_iter().map(known::<Flex>).collect();
        from_primitive::<Flex>(forward(inputs))
    })
}

/// A tensor of these values.
pub(super) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Primitive {
    Primitive::from_data(TensorData::new(values, shape))
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

fn known<B: Backend>(tensor: DispatchTensor) -> FloatTensor<B>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    into_primitive::<B>(tensor).expect("invariant: the kind was checked")
}

fn record<O: Operation<N>, C: CheckpointStrategy, const N: usize>(
    operation: O,
    inputs: [DispatchTensor; N],
) -> DispatchTensor
where
    DispatchTensor: DispatchKindConversion<Autodiff<Flex, C>>,
{
    let inputs = inputs.map(known::<Autodiff<Flex, C>>);
    let node = Node(PhantomData::<O>).prepare::<C>(inputs.each_ref().map(|input| input.node()));
    let output = match node.compute_bound().stateful() {
        OpsKind::Tracked(mut prep) => {
            let keeps_output = operation.keeps_output();
            let kept = if keeps_output {
                Vec::new()
            } else {
                inputs.iter().map(|input| prep.checkpoint(input)).collect()
            };
            let output = operation.forward(inputs.map(|input| input.into_primitive()));
            let of_output = keeps_output.then(|| output.clone());
            prep.finish((operation, kept, of_output), output)
        }
        OpsKind::UnTracked(prep) => {
            prep.finish(operation.forward(inputs.map(|input| input.into_primitive())))
        }
    };
    from_primitive::<Autodiff<Flex, C>>(output)
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
