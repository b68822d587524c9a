//! What ProPainter's networks learn from.
//!
//! | piece | trains |
//! |---|---|
//! | [`FlowCompletionLoss`] | [`FlowCompletion`](super::FlowCompletion) |
//! | [`InpaintLoss`] | [`InpaintGenerator`](super::InpaintGenerator) |
//! | [`HingeLoss`] | generator and [`Discriminator`](super::Discriminator) against each other |
//! | [`canny`], [`crests`], [`flow_edges`] | the edges that completed flows must have |
//!
//! All losses are computed in f32.

mod canny;
mod census;
mod edge;
mod flow;
mod flow_completion;
mod hinge;
mod inpaint;
mod masked_l1;
mod shift;

pub use canny::{canny, crests, flow_edges};
pub use census::census_loss;
pub use edge::edge_loss;
pub use flow::{flow_loss, second_order_loss, smoothness_loss};
pub use flow_completion::{FlowCompletionLoss, FlowCompletionTarget, FlowCompletionTerms};
pub use hinge::HingeLoss;
pub use inpaint::{InpaintLoss, InpaintTarget, InpaintTerms};
pub use masked_l1::masked_l1;
