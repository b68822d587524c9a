use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use burn::prelude::Device;

use super::Bytes;

/// Time between two readings of the thread, not counting the reading.
const PAUSE: Duration = Duration::from_millis(1);

/// The highest bytes in use of a device's memory pools, which a thread reads until the sampler
/// is dropped.
#[derive(Debug)]
pub(super) struct PoolSampler {
    readings: Arc<Readings>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Readings {
    device: Device,
    highest: AtomicU64,
    stopped: AtomicBool,
}

impl PoolSampler {
    /// Starts reading; `baseline` is the first reading.
    pub(super) fn start(device: Device, baseline: Bytes) -> Self {
        let readings = Arc::new(Readings {
            device,
            highest: AtomicU64::new(baseline.get()),
            stopped: AtomicBool::new(false),
        });
        let thread = thread::Builder::new().name("memory-sampler".into()).spawn({
            let readings = readings.clone();
            move || readings.read_until_stopped()
        });
        // A system out of threads leaves the explicit readings, which still are a lower bound.
        let thread = thread
            .inspect_err(|error| log::warn!("the memory peak is sampled less often: {error}"))
            .ok();
        Self { readings, thread }
    }

    /// Reads now, after what the calling thread had queued was executed.
    pub(super) fn sample(&self) {
        if let Some(usage) = self.readings.device.memory_pool_usage() {
            self.readings.include(usage.bytes_in_use);
        }
    }

    pub(super) fn highest(&self) -> Bytes {
        Bytes::new(self.readings.highest.load(Relaxed))
    }
}

impl Drop for PoolSampler {
    fn drop(&mut self) {
        self.readings.stopped.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It fails only if reading a lost device panicked, which the computing thread meets
            // on its own.
            let _ = thread.join();
        }
    }
}

impl Readings {
    fn read_until_stopped(&self) {
        while !self.stopped.load(Relaxed) {
            if let Some(bytes_in_use) = bytes_in_use_ahead(&self.device) {
                self.include(bytes_in_use);
            }
            thread::park_timeout(PAUSE);
        }
    }

    fn include(&self, bytes_in_use: u64) {
        self.highest.fetch_max(bytes_in_use, Relaxed);
    }
}

/// The bytes in use as the runtime itself reports them.
///
/// burn's own report goes through the queue of operations to be fused. From a second thread it
/// waits there for all that the computing thread has queued, a quarter of a second on software
/// Vulkan: six readings a step where the runtime gives ninety.
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "cuda"))]
fn bytes_in_use_ahead(device: &Device) -> Option<u64> {
    use burn_dispatch::DispatchDevice;
    use cubecl::MemoryScope;

    let device = device.clone().without_autodiff();
    match device.as_dispatch() {
        DispatchDevice::Cube(device) => {
            let report = device.client().memory_report(MemoryScope::Device);
            Some(report.usage().bytes_in_use)
        }
        _ => device.memory_pool_usage().map(|usage| usage.bytes_in_use),
    }
}

/// The bytes in use; no device that is compiled in queues operations.
#[cfg(not(any(feature = "wgpu", feature = "vulkan", feature = "cuda")))]
fn bytes_in_use_ahead(device: &Device) -> Option<u64> {
    device.memory_pool_usage().map(|usage| usage.bytes_in_use)
}
