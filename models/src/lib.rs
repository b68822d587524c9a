//! Reference models that use `burn-memopt`, and the losses they train with.
//!
//! | module | contains |
//! |---|---|
//! | [`unet`] | the U-Net for images of any size; loads the well-known PyTorch weights |
//! | [`decode`] | DECODE's localization networks, their targets, post-processing and evaluation |
//! | [`gan`] | a conditional GAN on radiance fields: GRAF, and super-resolution that keeps it consistent |
//! | [`loss`] | BCE + Dice, cross-entropy + Dice, the count loss of density maps, and DECODE's losses |
//! | [`metric`] | distances between sets of images by their features: Fréchet (FID) and kernel (KID) |
//! | [`propainter`] | ProPainter's networks, and completing videos of any length with them |
//! | [`weights`] | files of weights by their names in PyTorch |
//!
//! The U-Net and DECODE's networks are chains of blocks: [`GradCheckpoint`] recomputes them in the
//! backward pass. Models take tensors, not data set items: where images come from is not their
//! business.

mod chain;
pub mod decode;
pub mod gan;
mod layers;
pub mod loss;
pub mod metric;
mod projection;
pub mod propainter;
mod spectral;
pub mod unet;
pub mod weights;

pub use chain::GradCheckpoint;
