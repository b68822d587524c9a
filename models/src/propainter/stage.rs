use burn::module::Module;
use burn::tensor::Tensor;
use burn_memopt::grad_checkpoint::{Segment, Tensors};

/// Runs a stage of a network; with `recompute`, the backward pass runs it again instead of keeping
/// what it computes.
pub(super) fn stage<M, I, O, F>(recompute: bool, module: &M, inputs: I, forward: F) -> O
where
    M: Module + 'static,
    I: Tensors,
    O: Tensors,
    F: Fn(&M, I) -> O + Send + 'static,
{
    match recompute {
        false => forward(module, inputs),
        true => Segment::new()
            .without_randomness()
            .run(module, inputs, forward),
    }
}

/// The same tensor, whose gradients are summed before they are added to those of its other uses.
///
/// Three gradients of one tensor are summed in another order when stages are recomputed than when
/// they are not. Two are the same in either order: where every tensor has at most two uses, or two
/// groups of them, both round alike.
pub(super) fn apart(x: Tensor<4>) -> Tensor<4> {
    x.unsqueeze::<5>().squeeze_dim(0)
}
