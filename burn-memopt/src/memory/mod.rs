//! Memory: amounts, measurement and tracking.
//!
//! | to learn | use | exact? |
//! |---|---|---|
//! | an amount, read from and shown to people | [`Bytes`] | yes |
//! | live and peak bytes of the process (host backends) | [`CountingAllocator`], [`live`], [`peak`] | yes |
//! | the peak of a piece of code on any device | [`PeakMeter`] | on the host; sampled on GPUs |
//! | the same in benchmarks with criterion | `PeakBytes` (`criterion`) | on the host; sampled on GPUs |
//! | what host, process and devices hold now | [`MemoryMonitor`] | as they report it |
//! | what is free, and whether an allocation fits | [`free_on`], [`check_available`] | as they report it |
//! | what batches of each size take, and the best size | `PerformanceMonitor` (`tools`) | time; memory as it is reported |
//! | the course of a run: CSV, PNG, maxima, leaks | `MemoryTracker` (`tools`) | at its samples |
//! | what a model takes at any batch and size | [`estimate`] | parameters; fitted activations |
//! | the settings that keep a budget | [`budget`](crate::budget) | verified by running |
//!
//! [`MemoryManager`] gives memory back when it becomes scarce.
//!
//! What a system or a device does not report is `None` and shown as "unknown", never as zero.

mod allocator;
mod available;
mod bytes;
pub mod estimate;
mod host;
mod manager;
mod meter;
mod monitor;
#[cfg(feature = "criterion")]
mod peak_bytes;
mod pressure;
#[cfg(feature = "tools")]
mod tools;

use burn::prelude::Device;
use burn::tensor::{Tensor, TensorData, TensorReadError, kind::Basic};

pub use allocator::{CountingAllocator, live, peak, reset_peak};
pub use available::{NotAvailable, check_available, free_on};
pub use bytes::{Bytes, ParseBytesError};
pub use manager::{Cleanup, CleanupTotals, MemoryManager, PressureReading};
pub use meter::{PeakMeter, PeakMethod, PeakReading, live_on};
pub use monitor::{DeviceMemory, MemoryMonitor, MemorySnapshot};
#[cfg(feature = "criterion")]
#[cfg_attr(docsrs, doc(cfg(feature = "criterion")))]
pub use peak_bytes::PeakBytes;
pub use pressure::PressureConfig;
#[cfg(feature = "tools")]
#[cfg_attr(docsrs, doc(cfg(feature = "tools")))]
pub use tools::*;

/// Whether the tensors of `device` come from this process's allocator, as those of flex do.
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

/// Copies a tensor to host memory, and frees it on the device.
///
/// Use this instead of `into_data` for what is kept. On wgpu and CUDA burn's `into_data`
/// copies at the first access only. Until the data is dropped it keeps the device's
/// memory, and what an operation writes there before the first access is what is read.
///
/// On a device that computes in host memory the data may share the tensor's memory, as
/// `into_data` does; nothing can be written to it.
///
/// # Errors
/// If the tensor cannot be read, for example because an allocation that it depends on failed.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::memory::to_host;
///
/// let data = to_host(Tensor::<1>::from_floats([1.0, 2.0], &Device::flex())).unwrap();
/// assert_eq!(data.iter::<f32>().sum::<f32>(), 3.0);
/// ```
pub fn to_host<const D: usize, K: Basic>(
    tensor: Tensor<D, K>,
) -> Result<TensorData, TensorReadError> {
    let shares_memory = on_host(&tensor.device());
    let data = tensor.try_into_data()?;
    if shares_memory {
        return Ok(data);
    }
    let (shape, dtype) = (data.shape().clone(), data.dtype());
    Ok(TensorData::from_bytes_vec(
        data.bytes().to_vec(),
        shape,
        dtype,
    ))
}
