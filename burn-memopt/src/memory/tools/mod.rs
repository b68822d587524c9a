//! The course of a run: samples, a picture, leaks, and what batches take.

mod history;
mod leak;
mod performance;
mod plot;
mod tracker;

pub use history::{MemoryMaxima, MemorySample};
pub use leak::Leak;
pub use performance::{BatchPerformance, PerformanceMonitor, PerformanceSummary};
pub use plot::register_plot_font;
pub use tracker::{MemoryTracker, TrackerError};
