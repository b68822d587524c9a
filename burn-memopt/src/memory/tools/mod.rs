//! The course of a run: samples, a picture, leaks, and what batches take.

mod history;
mod performance;
mod plot;
mod tracker;

pub use history::{Leak, MemoryMaxima, MemorySample};
pub use performance::{BatchPerformance, PerformanceMonitor, PerformanceSummary};
pub use plot::register_plot_font;
pub use tracker::{MemoryTracker, TrackerError};
