use std::fmt;

use burn::prelude::Device;
use serde::Serialize;

use super::host::{Limit, host_memory, process_memory};
use super::{Bytes, allocator, on_host};

/// What a device holds at one moment; `None` is unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceMemory {
    /// The name that the device reports.
    pub name: String,
    /// Bytes that tensors use, padding excluded.
    pub bytes_in_use: Option<Bytes>,
    /// Bytes the process reserved on the device: those in use, padding and pages kept for reuse.
    pub bytes_reserved: Option<Bytes>,
    /// Memory of the whole device.
    pub total: Option<Bytes>,
    /// Memory of the device that no process holds.
    pub free: Option<Bytes>,
}

/// What host, process and devices hold at one moment; `None` is unknown.
///
/// [`Display`](fmt::Display) is one line for people, with "unknown" for what is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemorySnapshot {
    /// Memory of the host, or the share of it that limits leave the process.
    pub host_total: Option<Bytes>,
    /// What sets `host_total`: `physical memory`, or the limit that is lower, such as
    /// `cgroup v2 /sys/fs/cgroup/job/memory.max` or `RLIMIT_AS (ulimit -v)`.
    pub host_limit: Option<String>,
    /// Memory of the host that new allocations can have without swapping.
    pub host_available: Option<Bytes>,
    /// Resident memory of this process.
    pub process_rss: Option<Bytes>,
    /// The highest resident memory this process ever had. Known on Linux.
    pub process_peak_rss: Option<Bytes>,
    /// Bytes live in a [`CountingAllocator`](super::CountingAllocator).
    pub live: Option<Bytes>,
    /// The highest live bytes since the start or the last [`reset_peak`](super::reset_peak).
    pub live_peak: Option<Bytes>,
    /// The monitored devices that have memory of their own.
    pub devices: Vec<DeviceMemory>,
}

impl MemorySnapshot {
    /// Bytes in use on all monitored devices, `None` if there is none or one does not report it.
    pub fn device_in_use(&self) -> Option<Bytes> {
        self.sum(|device| device.bytes_in_use)
    }

    /// Bytes reserved on all monitored devices, `None` if there is none or one does not report it.
    pub fn device_reserved(&self) -> Option<Bytes> {
        self.sum(|device| device.bytes_reserved)
    }

    /// The one number to show for "memory now": what the devices use, else the live bytes, else
    /// the resident memory of the process.
    pub fn in_use(&self) -> Option<Bytes> {
        self.device_in_use().or(self.live).or(self.process_rss)
    }

    fn sum(&self, amount: impl Fn(&DeviceMemory) -> Option<Bytes>) -> Option<Bytes> {
        // The sum of nothing would be zero, not unknown.
        if self.devices.is_empty() {
            return None;
        }
        self.devices.iter().map(amount).sum()
    }
}

impl fmt::Display for MemorySnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "host {} of {} available ({}), process {} (peak {}), live {} (peak {})",
            shown(self.host_available),
            shown(self.host_total),
            self.host_limit.as_deref().unwrap_or("unknown"),
            shown(self.process_rss),
            shown(self.process_peak_rss),
            shown(self.live),
            shown(self.live_peak),
        )?;
        for device in &self.devices {
            write!(
                f,
                ", {}: {} in use, {} reserved, {} of {} free",
                device.name,
                shown(device.bytes_in_use),
                shown(device.bytes_reserved),
                shown(device.free),
                shown(device.total),
            )?;
        }
        Ok(())
    }
}

fn shown(amount: Option<Bytes>) -> String {
    amount.map_or_else(|| "unknown".into(), |amount| amount.to_string())
}

/// Reads the memory of host, process and devices.
///
/// # Exactness
/// Every number is what the system, the allocator or the device reports at the moment of the
/// snapshot; what they do not report is `None`, never zero. Reading a device with memory pools
/// executes the operations that the calling thread had queued, so take snapshots between steps
/// rather than within. A snapshot costs well below a millisecond plus that execution.
///
/// Host and process are known on Linux, with the limits of control groups and of the process itself, and
/// elsewhere with the feature `tools`; with it, total and
/// free memory of a device are known for NVIDIA cards whose management library (NVML) is installed.
///
/// # Example
/// ```
/// use burn::prelude::*;
/// use burn_memopt::memory::MemoryMonitor;
///
/// let mut monitor = MemoryMonitor::new([Device::flex()]);
/// let snapshot = monitor.snapshot();
/// assert!(snapshot.devices.is_empty()); // flex uses the memory of the host
/// println!("{snapshot}");
/// ```
#[derive(Debug)]
pub struct MemoryMonitor {
    /// Id of the process that is watched.
    process: u32,
    cards: Cards,
    devices: Vec<MonitoredDevice>,
}

#[derive(Debug)]
struct MonitoredDevice {
    device: Device,
    name: String,
    pci_address: Option<String>,
}

impl MemoryMonitor {
    /// A monitor of the host, this process and `devices`.
    ///
    /// Devices that use the memory of the host (flex) are part of its numbers and have no entry of
    /// their own; a device given twice has one. The others are opened.
    pub fn new(devices: impl IntoIterator<Item = Device>) -> Self {
        let mut monitored: Vec<MonitoredDevice> = Vec::new();
        for device in devices.into_iter().map(Device::without_autodiff) {
            if !on_host(&device) && monitored.iter().all(|known| known.device != device) {
                monitored.push(MonitoredDevice::open(device));
            }
        }
        let has_card = monitored.iter().any(|device| device.pci_address.is_some());
        Self {
            process: std::process::id(),
            cards: Cards::open(has_card),
            devices: monitored,
        }
    }

    /// Watches the process with this id in place of this one.
    ///
    /// What only a process itself knows is unknown then: its live bytes, and what it uses and
    /// reserved on devices. Once it has ended, its resident memory is unknown too.
    pub fn with_process(mut self, id: u32) -> Self {
        self.process = id;
        self
    }

    /// Reads everything now.
    pub fn snapshot(&mut self) -> MemorySnapshot {
        let (host, process) = (host_memory(), process_memory(self.process));
        let (host_total, host_limit) = tightest(host.total, &process.limits);
        let limits = process.limits.iter();
        let free_below = limits.map(|limit| {
            limit
                .free
                .map_or(limit.amount, |free| free.min(limit.amount))
        });
        MemorySnapshot {
            host_available: free_below.chain(host.available).min(),
            host_total,
            host_limit,
            process_rss: process.rss,
            process_peak_rss: process.peak_rss,
            live: self.of_own_process(allocator::live),
            live_peak: self.of_own_process(allocator::peak),
            devices: self
                .devices
                .iter()
                .map(|device| self.read_device(device))
                .collect(),
        }
    }

    /// What this process alone knows: of its allocator and its memory pools.
    fn of_own_process<T>(&self, read: impl FnOnce() -> Option<T>) -> Option<T> {
        let is_own_process = self.process == std::process::id();
        is_own_process.then(read).flatten()
    }

    fn read_device(&self, device: &MonitoredDevice) -> DeviceMemory {
        let usage = self.of_own_process(|| device.device.memory_pool_usage());
        let card = device
            .pci_address
            .as_deref()
            .and_then(|card| self.cards.memory(card));
        DeviceMemory {
            name: device.name.clone(),
            bytes_in_use: usage.as_ref().map(|usage| Bytes::new(usage.bytes_in_use)),
            bytes_reserved: usage.map(|usage| Bytes::new(usage.bytes_reserved)),
            total: card.map(|card| card.total),
            free: card.map(|card| card.free),
        }
    }
}

impl MonitoredDevice {
    fn open(device: Device) -> Self {
        let (name, pci_address) = identity(&device);
        Self {
            device,
            name,
            pci_address,
        }
    }
}

/// The name of the device and the PCI address of its card.
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "cuda"))]
fn identity(device: &Device) -> (String, Option<String>) {
    match device.identity() {
        Some(identity) => {
            let address = identity.physical.and_then(|card| card.pci_address);
            (identity.name, address.map(|address| address.to_string()))
        }
        None => (format!("{device:?}"), None),
    }
}

/// The name of the device; none that is compiled in has a card.
#[cfg(not(any(feature = "wgpu", feature = "vulkan", feature = "cuda")))]
fn identity(device: &Device) -> (String, Option<String>) {
    (format!("{device:?}"), None)
}

/// What of the memory `total` a process may have, and what sets that; the tightest of `limits` is last.
fn tightest(total: Option<Bytes>, limits: &[Limit]) -> (Option<Bytes>, Option<String>) {
    match limits.last() {
        Some(limit) if total.is_none_or(|total| limit.amount < total) => {
            (Some(limit.amount), Some(limit.source.clone()))
        }
        _ => (total, total.map(|_| "physical memory".into())),
    }
}

/// Total and free memory of a card.
#[derive(Debug, Clone, Copy)]
struct CardMemory {
    total: Bytes,
    free: Bytes,
}

/// The management library, where the feature `tools` is on and the library is installed.
#[derive(Debug)]
struct Cards {
    #[cfg(feature = "tools")]
    library: Option<nvml_wrapper::Nvml>,
}

#[cfg(feature = "tools")]
impl Cards {
    /// Loads the library only if there is a card that it could know.
    fn open(has_card: bool) -> Self {
        let library = has_card.then(|| nvml_wrapper::Nvml::init().ok()).flatten();
        Self { library }
    }

    /// Memory of the card at this PCI address, `None` if unknown.
    fn memory(&self, pci_address: &str) -> Option<CardMemory> {
        let card = self
            .library
            .as_ref()?
            .device_by_pci_bus_id(pci_address)
            .ok()?;
        let memory = card.memory_info().ok()?;
        Some(CardMemory {
            total: Bytes::new(memory.total),
            free: Bytes::new(memory.free),
        })
    }
}

#[cfg(not(feature = "tools"))]
impl Cards {
    fn open(_has_card: bool) -> Self {
        Self {}
    }

    fn memory(&self, _pci_address: &str) -> Option<CardMemory> {
        None
    }
}

#[cfg(test)]
mod tests;
