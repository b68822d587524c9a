use burn::tensor::Device;

use crate::memory::{Bytes, DeviceMemory, MemoryMonitor, MemorySnapshot};

/// Whether so much memory is in use that batches should not grow.
///
/// The memory of the host is looked at, and that of each device whose total is known. What is
/// unknown counts as free.
#[derive(Debug)]
pub struct Pressure {
    monitor: MemoryMonitor,
    threshold: f64,
}

impl Pressure {
    /// Pressure is high where more than the share `threshold` of the memory is in use.
    ///
    /// # Panics
    /// Unless `threshold` is above 0 and at most 1.
    pub fn new(threshold: f64, devices: impl IntoIterator<Item = Device>) -> Self {
        assert!(
            threshold > 0.0 && threshold <= 1.0,
            "the memory threshold must be above 0 and at most 1, got {threshold}"
        );
        Self {
            monitor: MemoryMonitor::new(devices),
            threshold,
        }
    }

    /// Whether the host or a device has more of its memory in use than the threshold.
    pub fn is_high(&mut self) -> bool {
        let snapshot = self.monitor.snapshot();
        highest_share(&snapshot).is_some_and(|share| share > self.threshold)
    }
}

/// The largest share of a memory that is in use; `None` if all are unknown.
fn highest_share(snapshot: &MemorySnapshot) -> Option<f64> {
    let host = used(snapshot.host_available, snapshot.host_total);
    let devices = snapshot.devices.iter().map(device_share);
    devices.chain([host]).flatten().reduce(f64::max)
}

/// What the process reserved and does not use is free for it.
fn device_share(device: &DeviceMemory) -> Option<f64> {
    let unused = device.bytes_reserved? - device.bytes_in_use?;
    used(Some(device.free? + unused), device.total)
}

fn used(free: Option<Bytes>, total: Option<Bytes>) -> Option<f64> {
    Some(1.0 - free?.share_of(total?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(available: Option<u64>, device_free: Option<u64>) -> MemorySnapshot {
        let device = DeviceMemory {
            name: "a card".into(),
            bytes_in_use: Some(Bytes::new(30)),
            bytes_reserved: Some(Bytes::new(50)),
            total: Some(Bytes::new(100)),
            free: device_free.map(Bytes::new),
        };
        MemorySnapshot {
            host_total: Some(Bytes::new(100)),
            host_available: available.map(Bytes::new),
            process_rss: None,
            process_peak_rss: None,
            live: None,
            live_peak: None,
            devices: vec![device],
        }
    }

    #[test]
    fn the_fullest_memory_counts() {
        assert_eq!(highest_share(&snapshot(Some(75), None)), Some(0.25));
        // 40 free, and 20 reserved for nothing.
        assert_eq!(highest_share(&snapshot(Some(75), Some(40))), Some(0.4));
        assert_eq!(highest_share(&snapshot(Some(25), Some(40))), Some(0.75));
    }

    #[test]
    fn what_is_unknown_is_no_pressure() {
        assert_eq!(highest_share(&snapshot(None, None)), None);
    }

    #[test]
    fn a_host_that_runs_a_test_uses_some_memory_and_not_all() {
        assert!(Pressure::new(f64::MIN_POSITIVE, []).is_high());
        assert!(!Pressure::new(1.0, []).is_high());
    }
}
