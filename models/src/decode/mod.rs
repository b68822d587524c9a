//! DECODE: where the emitters of a movie are, with their uncertainties.
//!
//! Three neighbouring frames go in; for every pixel of the middle one come the probability of an
//! emitter, its photons and position, how sure these are, and the background.
//!
//! | piece | does |
//! |---|---|
//! | [`FrameBatcher`] | frames to inputs, without a copy of the stack |
//! | [`SigmaMUNet`], [`DoubleMUNet`] | the networks, with and without uncertainties |
//! | [`EmitterTargets`], [`MixtureLoss`](crate::loss::MixtureLoss), [`PixelLoss`](crate::loss::PixelLoss) | what they learn from |
//! | [`InputScale`], [`OutputScale`] | counts and photons to the networks' units and back |
//! | [`DetectionConfig`] | outputs to lists of emitters |
//! | [`Score`] | found emitters against true ones |
//!
//! Layers and names in a checkpoint are those of DECODE, so that its weights load through
//! [`StateDict`](crate::weights::StateDict). For gradient checkpointing each network is a chain of
//! blocks that can be cut anywhere: see [`GradCheckpoint`](crate::GradCheckpoint).
//!
//! # References
//! Speiser et al. 2021, Nature Methods 18, 1082-1090; layers and losses follow
//! `TuragaLab/DECODE`, whose code is not used here.

mod batch;
mod config;
mod detection;
mod layers;
mod munet;
mod networks;
mod unet2d;

pub use batch::{Emitter, EmitterTargets, FrameBatcher, InputScale, OutputScale};
pub use config::{
    Activation, Attribute, DoubleMUNetConfig, Interpolation, MUNetConfig, Pooling,
    SigmaMUNetConfig, UNet2dConfig,
};
pub use detection::{DetectionConfig, FoundEmitter, Score};
pub use layers::Head;
pub use munet::MUNet;
pub use networks::{DoubleMUNet, SigmaMUNet};
pub use unet2d::UNet2d;
