//! The golden numbers: what the networks, their losses and burn's optimizers must reproduce.

#[path = "golden/autocast.rs"]
mod autocast;
#[path = "golden/decode.rs"]
mod decode;
#[path = "golden/fill.rs"]
mod fill;
#[path = "golden/flow_completion.rs"]
mod flow_completion;
#[path = "golden/forward.rs"]
mod forward;
#[path = "golden/harness.rs"]
mod harness;
#[path = "golden/inventory.rs"]
mod inventory;
#[path = "golden/manifest.rs"]
mod manifest;
#[path = "golden/network.rs"]
mod network;
#[path = "golden/optimizer.rs"]
mod optimizer;
#[path = "golden/other_patches.rs"]
mod other_patches;
#[path = "golden/other_set.rs"]
mod other_set;
#[path = "golden/other_sets.rs"]
mod other_sets;
#[path = "golden/part.rs"]
mod part;
#[path = "golden/pipeline.rs"]
mod pipeline;
#[path = "golden/propainter.rs"]
mod propainter;
#[path = "golden/published.rs"]
mod published;
#[path = "golden/radiance.rs"]
mod radiance;
#[path = "golden/raft.rs"]
mod raft;
#[path = "golden/sliding_window.rs"]
mod sliding_window;
#[path = "golden/training.rs"]
mod training;
#[cfg(feature = "wgpu")]
#[path = "golden/video_on_gpu.rs"]
mod video_on_gpu;
#[path = "golden/video_operators.rs"]
mod video_operators;
#[path = "golden/video_training.rs"]
mod video_training;
