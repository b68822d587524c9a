//! U-Net: an encoder, a decoder, and skip connections between them.
//!
//! The layers, their order and their names in a checkpoint are those of the widely used
//! PyTorch U-Net by milesial, so its weights load with [`StateDict::load_pytorch`](crate::weights::StateDict::load_pytorch).
//!
//! For gradient checkpointing the network is a chain of `4 * depth + 2` blocks that can be cut
//! between any two of them: see [`UNet::chain`] and [`UNet::plan`].
//!
//! # References
//! Ronneberger et al. 2015, arXiv:1505.04597, fig. 1; batch norm, padded convolutions and
//! bilinear upsampling follow the network of `milesial/Pytorch-UNet`, whose code is not used here.

mod block;
mod chain;
mod config;
mod model;
mod norm;
mod stage;
mod tile;
mod weights;

pub use block::{DoubleConv, Down, Up};
pub use config::{NormKind, UNetConfig, Upsample};
pub use model::UNet;
pub use norm::Norm;
pub use stage::Stage;
