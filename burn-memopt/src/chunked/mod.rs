//! Chunked inference and training: a model runs on windows of an image, so that memory is that of a window
//! and not of the image.
//!
//! | piece | does |
//! |---|---|
//! | [`SlidingWindow`] | windows that overlap and are blended |
//! | [`ExactTiles`], [`Reach`] | tiles with a margin, which give the same as the whole image |
//! | [`Chunks`] | runs a model on both, in memory or from file to file, in batches that fit |
//! | [`TiledStep`], [`SumLoss`] | training on tiles, with the gradient of the whole image |
//! | [`TilePlanner`], [`TileCost`] | which tiles to train on within a budget, and what to recompute |
//! | [`ExactReport`] | how far tiles are from the whole image, and why |
//! | [`WindowCost`], [`measure_window`] | how large a window memory allows |
//! | [`ImageSource`], [`HostImage`] | where pixels come from |
//! | [`Accumulator`] | where rows are kept that windows still touch |
//! | [`RowSink`], [`TensorSink`] | where finished rows go |
//! | [`NpySource`], [`NpySink`] | both as files of NumPy |
//! | [`Blend`], [`Padding`] | how windows are put together; what surrounds a small image |
//!
//! # Rules
//! 1. Every pixel is covered, by no more windows than necessary.
//! 2. A row is written once, as soon as no window touches it any more.
//! 3. What is in memory does not grow with the height of the image, nor with its width but for single
//!    rows if [sums are in a file](Accumulator::File).
//!
//! # References
//! Windows, weights and padding follow MONAI's `sliding_window_inference`; nnU-Net (Isensee et al.
//! 2021, Nature Methods 18, 203-211) for Gaussian weights.

mod band;
mod blend;
mod buffer;
mod chunks;
mod error;
mod grid;
mod layouts;
mod measure;
mod npy;
mod rows;
mod run;
mod sink;
mod source;
mod training;
mod window_cost;

pub use blend::Blend;
pub use chunks::Chunks;
pub use error::{BoxError, ChunkedError};
pub use grid::{Tile, tiles};
pub use layouts::{ExactTiles, SlidingWindow};
pub use measure::{ExactReport, Reach, global_layers, measure_window};
pub use npy::{NpyError, NpySink, NpySource};
pub use rows::Accumulator;
pub use run::{Progress, WindowPlace, Windows};
pub use sink::{RowSink, TensorSink};
pub use source::{HostImage, ImageSource, Padding};
pub use training::{
    SumLoss, TileCost, TilePlan, TilePlanner, TilePolicy, TileSetting, TileShape, TiledError,
    TiledImages, TiledStep, global_training_layers, measure_training_reach,
};
pub use window_cost::WindowCost;
