//! The memory of a run: now, and the highest so far.

use burn::tensor::Device;
use burn_memopt::memory::{Bytes, PeakMeter, live_on, on_host, peak};

/// Watches a device.
pub struct Memory {
    device: Device,
    /// Runs over the first windows of a file where readings cost time.
    meter: Option<PeakMeter>,
    device_peak: Option<Bytes>,
}

impl Memory {
    /// Watches `device`, of which nothing is known yet.
    pub fn of(device: &Device) -> Self {
        Self {
            device: device.clone(),
            meter: None,
            device_peak: None,
        }
    }

    /// Begins to measure, where the device has pools; on the host, all is counted anyway.
    pub fn start(&mut self) {
        if self.device.memory_pool_usage().is_some() {
            self.meter = Some(PeakMeter::start(&self.device));
        }
    }

    /// Ends what [`start`](Self::start) began.
    pub fn end(&mut self) {
        if let Some(meter) = self.meter.take() {
            self.device_peak = self.device_peak.max(meter.finish().highest());
        }
    }

    /// Bytes in use now; `None` if unknown.
    pub fn in_use(&self) -> Option<Bytes> {
        live_on(&self.device)
    }

    /// The highest bytes in use so far; `None` if unknown.
    pub fn peak(&self) -> Option<Bytes> {
        match on_host(&self.device) {
            true => peak(),
            false => self.device_peak,
        }
    }
}
