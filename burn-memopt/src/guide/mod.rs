//! A guide in seven pages. Each page takes one task and shows the code for it; every example is compiled
//! and run with the tests.
//!
//! | you want to | page |
//! |---|---|
//! | train a model that does not fit into memory | [`fit_a_training_run`] |
//! | compute in f16 or bf16 | [`half_precision`] |
//! | run a model on images of any size | [`large_images`] |
//! | work on videos of any length | [`long_videos`] |
//! | read data that does not fit into memory | [`data_larger_than_memory`] |
//! | know what a run takes, choose settings for a budget, keep peaks in a benchmark | [`plan_and_measure`] |
//! | train two networks with an optimizer each | [`several_networks`] |
//!
//! All examples use the CPU backend, flex. On a GPU only the device changes.

#[doc = include_str!("training.md")]
pub mod fit_a_training_run {}

#[doc = include_str!("precision.md")]
pub mod half_precision {}

#[doc = include_str!("images.md")]
pub mod large_images {}

#[doc = include_str!("videos.md")]
pub mod long_videos {}

#[doc = include_str!("data.md")]
pub mod data_larger_than_memory {}

#[doc = include_str!("measure.md")]
#[cfg_attr(feature = "tools", doc = include_str!("tracker.md"))]
#[cfg_attr(feature = "criterion", doc = include_str!("criterion.md"))]
pub mod plan_and_measure {}

#[doc = include_str!("networks.md")]
pub mod several_networks {}
