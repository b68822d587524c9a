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
    Ok(match shares_memory {
        true => data,
        false => copied_to_host(data),
    })
}

/// The data with memory of its own. burn copies what is on a GPU only now, when it is first read.
pub(crate) fn copied_to_host(data: TensorData) -> TensorData {
    let (shape, dtype) = (data.shape().clone(), data.dtype());
    TensorData::from_bytes_vec(data.bytes().to_vec(), shape, dtype)
}

/// An allocation is larger than what is free.
#[derive(thiserror::Error, Debug, Clone, PartialEq, Eq)]
#[error(
    "{needed} are needed on {place}, but only {free} are free there, {missing} too few: use a \
     smaller batch or window, half precision or gradient checkpointing, or free memory",
    missing = *needed - *free
)]
pub struct NotAvailable {
    /// Whose memory it is: the host, or a device by its name.
    pub place: String,
    /// What is needed.
    pub needed: Bytes,
    /// What is free.
    pub free: Bytes,
}

/// What is free for the tensors of `device`; `None` if it is not reported.
///
/// # Exactness
/// As exact as what host and card report at this moment; other processes may take it the next.
/// Pages that this process keeps on the device for reuse count as free, although a single large
/// allocation may not fit into them.
pub fn free_on(device: &Device) -> Option<Bytes> {
    MemoryMonitor::new([device.clone()]).snapshot().free()
}

/// Compares `needed` with what is [free](free_on) for the tensors of `device`, and returns that; `None`
/// if it is not reported, so that nothing was checked.
///
/// Ask before a large allocation: a host does not refuse it but ends the process later, and a GPU
/// fails only when a result is read.
///
/// # Errors
/// If less is free than needed, with both amounts.
///
/// # Example
/// ```
/// use burn::prelude::Device;
/// use burn_memopt::memory::{Bytes, check_available};
///
/// assert!(check_available(Bytes::kib(1), &Device::flex()).is_ok());
/// let error = check_available(Bytes::MAX, &Device::flex()).unwrap_err();
/// assert_eq!(error.place, "the host");
/// ```
pub fn check_available(needed: Bytes, device: &Device) -> Result<Option<Bytes>, NotAvailable> {
    MemoryMonitor::new([device.clone()])
        .snapshot()
        .check_available(needed)
}

impl MemorySnapshot {
    /// What is free on the first monitored device that has memory of its own, on the host if there is
    /// none; `None` is unknown.
    pub(crate) fn free(&self) -> Option<Bytes> {
        match self.devices.first() {
            Some(device) => device.free.map(|free| free + device.kept_for_reuse()),
            None => self.host_available,
        }
    }

    fn check_available(&self, needed: Bytes) -> Result<Option<Bytes>, NotAvailable> {
        match self.free() {
            Some(free) if free < needed => Err(NotAvailable {
                place: match self.devices.first() {
                    Some(device) => device.name.clone(),
                    None => "the host".into(),
                },
                needed,
                free,
            }),
            free => Ok(free),
        }
    }
}

impl DeviceMemory {
    fn kept_for_reuse(&self) -> Bytes {
        match (self.bytes_reserved, self.bytes_in_use) {
            (Some(reserved), Some(in_use)) => reserved - in_use,
            _ => Bytes::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(host_available: Option<Bytes>, devices: Vec<DeviceMemory>) -> MemorySnapshot {
        MemorySnapshot {
            host_total: None,
            host_limit: None,
            host_available,
            process_rss: None,
            process_peak_rss: None,
            live: None,
            live_peak: None,
            devices,
        }
    }

    fn card(free: Option<Bytes>) -> DeviceMemory {
        DeviceMemory {
            name: "a card".into(),
            bytes_in_use: Some(Bytes::mib(1)),
            bytes_reserved: Some(Bytes::mib(3)),
            total: None,
            free,
        }
    }

    #[test]
    fn the_last_byte_fits_and_one_more_does_not() {
        let free = Bytes::new(1000);
        let host = snapshot(Some(free), vec![]);
        assert_eq!(host.check_available(free), Ok(Some(free)));
        let error = host.check_available(Bytes::new(1001)).unwrap_err();
        assert_eq!((error.needed.get(), error.free.get()), (1001, 1000));
        let text = error.to_string();
        assert!(
            text.contains("the host") && text.contains("1 B too few"),
            "{text}"
        );
    }

    #[test]
    fn a_device_with_memory_of_its_own_is_what_counts() {
        let both = snapshot(Some(Bytes::gib(64)), vec![card(Some(Bytes::mib(10)))]);
        let free = Bytes::mib(12); // pages kept for reuse are free
        assert_eq!(both.free(), Some(free));
        assert_eq!(both.check_available(free), Ok(Some(free)));
        let error = both.check_available(Bytes::mib(13)).unwrap_err();
        assert_eq!(error.place, "a card");
    }

    #[test]
    fn unknown_passes_and_says_so() {
        assert_eq!(snapshot(None, vec![]).check_available(Bytes::MAX), Ok(None));
        let silent = snapshot(Some(Bytes::kib(1)), vec![card(None)]);
        assert_eq!(silent.check_available(Bytes::gib(1)), Ok(None));
    }
}
