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
mod inpaint_loss;

pub use adversarial::{AdversarialStep, Rivals};
pub use canny::{canny, crests, flow_edges};
pub use discriminator::{Discriminator, SpectralConv3d, View};
pub use flow_loss::{
    FlowCompletionLoss, FlowCompletionTarget, FlowCompletionTerms, census_loss, edge_loss,
    flow_loss, masked_l1, second_order_loss, smoothness_loss,
};
pub use inpaint_loss::{HingeLoss, InpaintLoss, InpaintTarget, InpaintTerms};
