//! What ProPainter's networks learn from.
//!
//! | piece | trains |
//! |---|---|
//! | [`FlowCompletionLoss`] | [`FlowCompletion`](super::FlowCompletion) |
//! | [`InpaintLoss`] | [`InpaintGenerator`](super::InpaintGenerator) |
//! | [`HingeLoss`] | generator and [`Discriminator`] against each other |
//! | [`AdversarialStep`] | both, in one optimizer step |
//! | [`canny`], [`crests`], [`flow_edges`] | the edges that completed flows must have |
//!
//! All losses are computed in f32.

mod adversarial;
mod canny;
mod discriminator;
mod flow_loss;

pub use adversarial::{
    AdversarialStep, HingeLoss, InpaintLoss, InpaintTarget, InpaintTerms, Rivals,
};
pub use canny::{canny, crests, flow_edges};
pub use discriminator::{Discriminator, SpectralConv3d, View};
pub use flow_loss::{
    FlowCompletionLoss, FlowCompletionTarget, FlowCompletionTerms, second_order_loss,
    smoothness_loss,
};
