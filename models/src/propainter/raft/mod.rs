//! RAFT, the large variant: the optical flow between two frames by repeated small corrections.
//!
//! Features of all pixels of both frames, at an eighth of the resolution, are compared with each
//! other; a recurrent cell looks at the comparisons around where a pixel is thought to be now, and
//! moves it. The comparisons are kept as one volume, which grows with the *square* of the number
//! of pixels, or computed when they are looked at, which does not: see [`Correlation`].
//!
//! # References
//! Teed and Deng 2020, arXiv:2003.12039, §3 and figure 3.

mod correlation;
mod encoder;
mod model;
mod update;

pub(crate) use correlation::volume;
pub use correlation::{Correlation, CorrelationField};
pub use model::{Raft, RaftConfig, RaftContext, RaftFlow, RaftSteps};
pub use update::{MotionEncoder, SepConvGru, upsample_flow};
