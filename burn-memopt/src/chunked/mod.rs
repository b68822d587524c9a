//! Chunked inference: a model runs on windows of an image, so that memory is that of a window and
//! not of the image.
//!
//! | piece | does |
//! |---|---|
//! | [`SlidingWindow`] | cuts, runs and blends, in memory or from file to file |
//! | [`ExactTiles`], [`Reach`] | the same as on the whole image, by tiles with a margin |
//! | [`ExactReport`] | how far tiles are from the whole image, and why |
//! | [`WindowCost`], [`measure_window`] | how large a window memory allows |
//! | [`ImageSource`], [`HostImage`] | where pixels come from |
//! | [`Accumulator`] | where rows are kept that windows still touch |
//! | [`RowSink`], [`TensorSink`] | where finished rows go |
//! | [`NpySource`], [`NpySink`] | both as files of NumPy |
//! | [`Axis`], [`Grid`] | where windows lie |
//! | [`Blend`], [`Padding`] | how they are put together; what stands around a small image |
//!
//! # Rules
//! 1. Every pixel is covered, by no more windows than necessary.
//! 2. A row is handed on once, as soon as no window touches it any more.
//! 3. What is in memory does not grow with the height of the image, nor with its width but for single
//!    rows if [sums are in a file](Accumulator::File).
//!
//! # References
//! Windows, weights and padding follow MONAI's `sliding_window_inference`; nnU-Net (Isensee et al.
//! 2021, Nature Methods 18, 203-211) for Gaussian weights.

mod accumulator;
mod axis;
mod band;
mod blend;
mod coverage;
mod device_band;
mod error;
mod exact;
mod exact_report;
mod float_file;
mod grid;
mod host_image;
mod measure;
mod npy;
mod output;
mod padding;
mod pending;
mod reach;
mod sink;
mod sliding_window;
mod source;
mod tile;
mod window_cost;
mod zeros;

pub use accumulator::Accumulator;
pub use axis::Axis;
pub use blend::Blend;
pub use error::{BoxError, ChunkedError};
pub use exact::{ExactTiles, PlacedTile};
pub use exact_report::ExactReport;
pub use grid::Grid;
pub use host_image::HostImage;
pub use measure::measure_window;
pub use npy::{NpyError, NpySink, NpySource};
pub use padding::Padding;
pub use reach::{Reach, global_layers};
pub use sink::{RowSink, TensorSink};
pub use sliding_window::{Progress, SlidingWindow, WindowPlace, Windows};
pub use source::ImageSource;
pub use tile::{Tile, tiles};
pub use window_cost::WindowCost;
