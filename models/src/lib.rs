//! Reference models that use `burn-memopt`, and the losses they train with.
//!
//! | module | holds |
//! |---|---|
//! | [`unet`] | the U-Net for images of any size; loads the well-known PyTorch weights |
//! | [`decode`] | DECODE's localization networks, their targets, post-processing and evaluation |
//! | [`loss`] | BCE + Dice, cross-entropy + Dice, the count loss of density maps, and DECODE's losses |
//! | [`propainter`] | ProPainter's networks, and completing videos of any length with them |
//! | [`weights`] | files of weights by their names in PyTorch |
//!
//! Models take tensors, not data set items: where images come from is no business of this crate.

pub mod decode;
pub mod loss;
pub mod propainter;
pub mod unet;
mod upsample;
pub mod weights;
