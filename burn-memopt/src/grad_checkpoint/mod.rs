//! Gradient checkpointing: pieces of a model that are recomputed in the backward
//! pass instead of keeping what they computed.
//!
//! A training step keeps the intermediate results of every layer until the backward pass has used
//! them. A checkpointed *segment* keeps its inputs only, and runs a second time when its gradients
//! are needed: memory falls to the segments' inputs and the insides of one segment, time grows by
//! one forward pass of the segments.
//!
//! ```
//! use burn::nn::{Linear, LinearConfig};
//! use burn::tensor::{Device, Tensor};
//! use burn_memopt::grad_checkpoint::grad_checkpoint;
//!
//! let device = Device::flex().autodiff();
//! let layer = LinearConfig::new(8, 8).init(&device);
//! let x = Tensor::<2>::ones([2, 8], &device);
//!
//! let y = grad_checkpoint(&layer, x, |layer: &Linear, x: Tensor<2>| layer.forward(x));
//! let grads = y.sum().backward();
//! assert_eq!(layer.weight.val().grad(&grads).unwrap().dims(), [8, 8]);
//! ```
//!
//! For a list of blocks, [`Policy::run`] is one line: every block is a segment, or N are, or as
//! few as a memory budget needs, or as many as the least memory takes. [`Chain`] does the same
//! with skips between blocks and with the options of a [`Segment`]. For a long axis, [`in_chunks`] is a segment
//! for each slice of it, and [`chunked_cross_entropy`] a language model's loss whose logits are never whole.
//!
//! # What a plan is
//! A [`Plan`] is a tree of [`Span`]s. A span of blocks is kept or recomputed; one that is
//! recomputed can be cut again while it is, so that parts of it run a third time, and so on.
//! One level of segments takes memory that grows with the square root of a chain's length;
//! each further level takes less, for at most one more forward pass.
//!
//! # Rules
//! 1. *Replay randomness.* The second run draws what the first drew, at any depth of
//!    nesting and in any thread ([`SegmentSeed`]). Where a thread that does not hold
//!    the stream ([`hold_random_stream`]) drew in between, the backward pass ends with
//!    an error.
//! 2. *Replay precision.* The second run computes with parameters and inputs of
//!    the same dtypes, as they were in the first.
//! 3. *Update once.* Statistics of normalisation layers change in the first run
//!    only; the second has statistics of its own that are thrown away.
//! 4. *Lose no gradient.* Inputs and parameters that are tracked get their
//!    gradient, whether or not they are leaves; frozen ones get none; a tracked tensor
//!    that the closure captured instead of taking it as an input is refused.
//! 5. *Free early.* The backward pass frees the insides of a segment before the
//!    next is recomputed.
//!
//! # Exactness
//! Loss and gradients are bit-equal to the plain path on the CPU. A GPU that tunes its kernels may
//! choose another one for the second run: equal to rounding.
//!
//! # When a segment does not pay
//! A segment saves what its layers keep. It costs its inputs, one more forward pass, and records of
//! burn's graph in host memory: about 1 KiB for each input and parameter, and 1.7 KiB for each
//! operation of the first run, freed once there are 512 of them, which only small networks
//! notice. The peak of a step on the CPU, gradients included, relative to the plain one:
//!
//! | model | cut into | peak |
//! |---|---|--:|
//! | a GPT of 12 blocks of width 128 on 4×128 tokens, with dropout | one segment a block | 0.19 |
//! | 2 LSTMs of width 64 on 64×32 tokens | one segment a layer | 0.55 |
//! | 8 linear layers of width 64 on 512 rows | one segment a layer | 0.64 |
//! | the same of width 256 on 32 rows: gradients outweigh activations | one segment a layer | 1.00 |
//! | the same of width 16 on 8 rows: records outweigh tensors | one segment a layer | 2.2 |
//! | 4 transformer blocks of width 64 on 2×128 tokens | one segment | 1.04 |
//! | 2 LSTMs of width 32 on 4×16 tokens: records outweigh tensors | one segment | 1.2 |
//!
//! One segment around a whole model never pays: its second run keeps all that the plain run keeps.
//! Neither does one around the last layers, whose backward pass comes at once. Dropout's masks are
//! drawn again: the 12 blocks take 1.24 of the plain time without dropout and 1.33 with it, where
//! drawing the masks of a forward pass alone takes 0.19.
//!
//! # References
//! Chen et al. 2016, *Training deep nets with sublinear memory cost*, arXiv:1604.06174, section 3.
//! Beaumont et al. 2019, *Optimal checkpointing for heterogeneous chains*, arXiv:1911.13214.

mod chain;
mod cross_entropy;
mod in_chunks;
mod plan;
mod plan_cache;
mod policy;
mod profile;
mod randomness;
mod recompute;
mod repeat;
mod schedule;
mod segment;
mod tape;
mod walk;

pub use chain::{Chain, checkpoint_sequential};
pub use cross_entropy::chunked_cross_entropy;
pub use in_chunks::{in_chunks, sum_in_chunks};
pub use plan::{BlockCost, Plan};
pub use policy::{Cut, ParsePolicyError, Policy, Span};
pub use profile::{PlanError, UnmeasuredError};
pub use randomness::{RandomStreamGuard, SegmentSeed, hold_random_stream, share_seed};
pub(crate) use randomness::{Run, draw_next, holds_random_stream};
pub(crate) use recompute::with_fresh_leaves;
pub use segment::{Boundary, Segment};
pub(crate) use tape::{num_operations, sweep};
pub use walk::{Forward, WithSkips, WithoutSkips};

use burn::module::Module;
use burn::tensor::Tensor;

use crate::memory::on_host;
use crate::tensors::Tensors;

/// Runs `forward` on a module without keeping its intermediate results; the
/// backward pass runs it again.
///
/// Inputs and outputs are [`Tensors`]: tensors of any rank and kind, tuples,
/// vectors, arrays, options and structs of them. The closure runs again in the
/// backward pass, so it owns what it uses (`'static`): clone a mask or a setting
/// into it and write `move`, or pass it as an input; both are shown in
/// [`tensors`](crate::tensors). Segments nest, and several segments may share a module.
/// An input that does not need a gradient is fine: the parameters still get
/// theirs. Where nothing is tracked (inference), `forward` simply runs.
///
/// # Exactness
/// See the [module](self). An input that is tracked but that `forward` ignores
/// gets a gradient of zeros where it is not a leaf.
///
/// # Panics
/// If `forward` captured a tracked tensor (pass it as an input). In the backward pass, if `forward`
/// gives outputs of other shapes, or drew other random numbers, than the first time.
///
/// # Example
/// Several inputs and outputs:
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::grad_checkpoint::grad_checkpoint;
///
/// let device = Device::flex().autodiff();
/// let layer = LinearConfig::new(4, 4).init(&device);
/// let x = Tensor::<2>::ones([2, 4], &device);
/// let state = Tensor::<2>::zeros([2, 4], &device).require_grad();
///
/// let (y, state_after) =
///     grad_checkpoint(&layer, (x, state.clone()), |layer: &Linear, (x, state): (Tensor<2>, Tensor<2>)| {
///         let state = layer.forward(x) + state;
///         (state.clone().tanh(), state)
///     });
/// let grads = (y + state_after).sum().backward();
/// assert!(state.grad(&grads).is_some());
/// ```
pub fn grad_checkpoint<M, I, O, F>(module: &M, inputs: I, forward: F) -> O
where
    M: Module + 'static,
    I: Tensors,
    O: Tensors,
    F: Fn(&M, I) -> O + Send + 'static,
{
    Segment::new().run(module, inputs, forward)
}

/// Returns a tensor unchanged; in the backward pass, copies its gradient into memory of its own,
/// when the gradient of `other` is computed.
///
/// The gradient of a part of a concatenation may be a view that keeps the whole alive. Where such
/// a part is used much later, as the skip of a U-Net is, the copy frees the rest. `other` is the
/// other part. On devices whose slices are copies nothing is done.
///
/// # Exactness
/// Exact: the gradient is copied.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::grad_checkpoint::own_gradient;
///
/// let device = Device::flex().autodiff();
/// let skip = Tensor::<2>::ones([2, 3], &device).require_grad();
/// let x = Tensor::<2>::ones([2, 3], &device).require_grad();
/// let y = Tensor::cat(vec![own_gradient(skip.clone(), &x), x], 1);
/// let grads = y.sum().backward();
/// assert_eq!(skip.grad(&grads).unwrap().dims(), [2, 3]);
/// ```
pub fn own_gradient<const D: usize>(tensor: Tensor<D>, other: &Tensor<D>) -> Tensor<D> {
    let both_tracked = tensor.is_tracked() && other.is_tracked();
    if !both_tracked || !on_host(&tensor.device()) {
        return tensor;
    }
    let other = other.clone().into_dispatch();
    Tensor::from_dispatch(tape::own_gradient(tensor.into_dispatch(), other))
}
