//! burn's layers in less time and memory on the CPU.
//!
//! Each function takes a layer of burn, or what burn's function of the same name takes, and computes
//! the same, its gradients too. Where there is nothing to win (other devices, half precision, some
//! shapes) it calls burn's. Models keep their fields, their parameter paths and their saved weights.
//!
//! | function | instead of | wins |
//! |---|---|---|
//! | [`conv2d`] | `layer.forward(x)` | time: all cores, no copy of the image into another layout |
//! | [`conv3d`] | the same | time, for kernels that are flat in space or in time |
//! | [`deform_conv2d`] | the same | time, for small batches without autodiff |
//! | [`group_norm`] | the same | memory: keeps its input alone; time |
//! | [`relu`], [`leaky_relu`], [`sigmoid`], [`tanh`] | burn's functions | memory: keep their output, which the next layer keeps too; time |
//! | [`gelu`] | burn's function | time |
//! | [`cross_entropy`] | `log_softmax` and `gather` | memory: keeps its logits alone; time |
//!
//! On GPU backends the convolutions also mend a fault of burn's fused kernels that [`canonical_strides`] describes.

mod activation;
#[cfg(feature = "flex")]
mod columns;
mod convolution;
mod cross_entropy;
mod deform_conv2d;
mod group_norm;
pub(crate) mod kinks;
#[cfg(feature = "flex")]
mod operation;
#[cfg(feature = "flex")]
mod patches;
#[cfg(feature = "flex")]
mod sums;
mod unit_sides;

pub use activation::{gelu, leaky_relu, relu, sigmoid, tanh};
pub use convolution::{conv2d, conv3d};
pub use cross_entropy::cross_entropy;
pub use deform_conv2d::deform_conv2d;
pub use group_norm::group_norm;
pub use unit_sides::canonical_strides;
