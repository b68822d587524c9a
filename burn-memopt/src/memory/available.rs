use burn::prelude::Device;
use serde::Serialize;

use super::{Bytes, MemoryMonitor, MemorySnapshot};

/// What is free for an allocation that fits, or is not known not to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Available {
    /// So much is free, which is enough.
    Enough(Bytes),
    /// The device does not report what is free: nothing was checked.
    Unknown,
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

/// Compares `needed` with what is free where the tensors of `device` live.
///
/// Ask before a large allocation: a host does not refuse it but ends the process later, and a GPU
/// fails only when a result is read.
///
/// # Exactness
/// As exact as what host and card report at this moment; other processes may take it the next.
/// Pages that this process keeps on the device for reuse count as free, although a single large
/// allocation may not fit into them. Where nothing is reported the answer is
/// [`Available::Unknown`], not an error.
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
pub fn check_available(needed: Bytes, device: &Device) -> Result<Available, NotAvailable> {
    MemoryMonitor::new([device.clone()])
        .snapshot()
        .check_available(needed)
}

impl MemorySnapshot {
    /// Compares `needed` with what was free on the monitored devices, each of them, or on the host
    /// if none has memory of its own; as [`check_available`] does.
    ///
    /// # Errors
    /// If less was free than needed.
    pub fn check_available(&self, needed: Bytes) -> Result<Available, NotAvailable> {
        let mut places = self.devices.iter().map(|device| {
            let kept = device.bytes_reserved.zip(device.bytes_in_use);
            let kept = kept.map_or(Bytes::ZERO, |(reserved, in_use)| reserved - in_use);
            (device.name.as_str(), device.free.map(|free| free + kept))
        });
        let Some(first) = places.next() else {
            return compare("the host", self.host_available, needed);
        };
        places.try_fold(compare(first.0, first.1, needed)?, |known, (name, free)| {
            Ok(match (known, compare(name, free, needed)?) {
                (Available::Enough(one), Available::Enough(other)) => {
                    Available::Enough(one.min(other))
                }
                _ => Available::Unknown,
            })
        })
    }
}

fn compare(place: &str, free: Option<Bytes>, needed: Bytes) -> Result<Available, NotAvailable> {
    match free {
        None => Ok(Available::Unknown),
        Some(free) if needed <= free => Ok(Available::Enough(free)),
        Some(free) => Err(NotAvailable {
            place: place.into(),
            needed,
            free,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::DeviceMemory;

    fn snapshot(host_available: Option<Bytes>, devices: Vec<DeviceMemory>) -> MemorySnapshot {
        MemorySnapshot {
            host_total: None,
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
        let host = snapshot(Some(Bytes::new(1000)), vec![]);
        assert_eq!(
            host.check_available(Bytes::new(1000)),
            Ok(Available::Enough(Bytes::new(1000)))
        );
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
        let enough = Available::Enough(Bytes::mib(12)); // pages kept for reuse are free
        assert_eq!(both.check_available(Bytes::mib(12)), Ok(enough));
        let error = both.check_available(Bytes::mib(13)).unwrap_err();
        assert_eq!(error.place, "a card");
    }

    #[test]
    fn unknown_passes_and_says_so_unless_another_device_is_known_to_be_full() {
        let unknown = Ok(Available::Unknown);
        assert_eq!(snapshot(None, vec![]).check_available(Bytes::MAX), unknown);
        let silent = snapshot(Some(Bytes::kib(1)), vec![card(None)]);
        assert_eq!(silent.check_available(Bytes::gib(1)), unknown);
        let mixed = snapshot(None, vec![card(Some(Bytes::mib(1))), card(None)]);
        assert_eq!(mixed.check_available(Bytes::mib(1)), unknown);
        assert!(mixed.check_available(Bytes::gib(1)).is_err());
    }
}
