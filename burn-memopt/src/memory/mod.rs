//! Memory: amounts, measurement and tracking.
//!
//! | to learn | use | exact? |
//! |---|---|---|
//! | an amount, read from and shown to people | [`Bytes`] | yes |
//! | live and peak bytes of the process (host backends) | [`CountingAllocator`], [`live`], [`peak`] | yes |
//! | the peak of a piece of code on any device | [`PeakMeter`] | on the host; sampled on GPUs |
//! | what host, process and devices hold now | [`MemoryMonitor`] | as they report it |
//! | whether an allocation fits | [`check_available`] | as they report it |
//! | what batches take, and the best size | [`PerformanceMonitor`] | time; memory as it is reported |
//! | the course of a run: CSV, PNG, maxima, leaks | [`MemoryTracker`] | at its samples |
//! | what data takes before it is loaded | [`estimate`] | for plain data; samples of the rest |
//! | what a model takes at any batch and size | [`estimate`] | parameters; fitted activations |
//! | the settings that keep a budget | [`plan`] | verified by running |
//! | how to load data in the memory there is | [`advise`] | borders to the byte |
//!
//! [`MemoryManager`] gives memory back when it becomes scarce.
//!
//! What a system or a device does not report is `None` and shown as "unknown", never as zero.

pub mod advise;
mod allocator;
mod available;
mod bytes;
pub mod estimate;
mod history;
mod host_copy;
mod leak;
mod manager;
mod meter;
mod monitor;
mod performance;
pub mod plan;
mod plot;
mod pool_sampler;
mod pressure;
mod tracker;
mod whole_file;

use burn::prelude::Device;

pub use allocator::{CountingAllocator, live, peak, reset_peak};
pub use available::{Available, NotAvailable, check_available};
pub use bytes::{Bytes, ParseBytesError};
pub use history::{MemoryMaxima, MemorySample};
pub use host_copy::to_host;
pub use leak::Leak;
pub use manager::{Cleanup, CleanupTotals, MemoryManager, PressureReading};
pub use meter::{PeakMeter, PeakMethod, PeakReading, live_on};
pub use monitor::{DeviceMemory, MemoryMonitor, MemorySnapshot};
pub use performance::{BatchSample, BatchSizePerformance, PerformanceMonitor, PerformanceSummary};
pub use plot::register_plot_font;
pub use pressure::PressureConfig;
pub use tracker::{MemoryTracker, TrackerError};

/// Whether the tensors of `device` come from this process's allocator, as those of
/// flex do.
pub fn on_host(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    {
        let device = device.clone().without_autodiff();
        matches!(device.as_dispatch(), burn_dispatch::DispatchDevice::Flex(_))
    }
    #[cfg(not(feature = "flex"))]
    {
        let _ = device;
        false
    }
}
