use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use burn::prelude::Device;
use serde::{Deserialize, Serialize};

use super::allocator::{self, PeakWindow};
use super::{Bytes, on_host};

/// How a peak was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeakMethod {
    /// Counted at every allocation by the [`CountingAllocator`](super::CountingAllocator).
    Exact,
    /// The highest of many readings of the device's memory pools: a lower bound.
    Sampled,
    /// The device does not report its memory.
    Unknown,
}

/// The result of a [`PeakMeter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeakReading {
    /// The highest live bytes above `baseline`, `None` if unknown.
    pub peak: Option<Bytes>,
    /// The bytes that were live when the meter started, `None` if unknown.
    pub baseline: Option<Bytes>,
    /// How the peak was measured.
    pub method: PeakMethod,
}

impl PeakReading {
    /// The highest live bytes altogether, those of before the start included.
    pub fn highest(&self) -> Option<Bytes> {
        Some(self.peak? + self.baseline?)
    }
}

/// Measures the peak memory of what runs between [`start`](Self::start) and
/// [`finish`](Self::finish).
///
/// The peak is the highest number of live bytes above what was live at the start, so parameters
/// and optimizer state that were there before do not count.
///
/// # Exactness
/// - Host devices (flex) in a program that installs the
///   [`CountingAllocator`](super::CountingAllocator): **exact**. The count is the process's, so
///   what other threads allocate meanwhile (a data loader) is part of it.
/// - Devices with memory pools (wgpu, cuda): **sampled**, a lower bound. The pools report the
///   bytes in use but no peak, so a thread of its own reads them about every millisecond. Its
///   readings wait for the operations that were handed to the device before, so they are
///   of moments in the order of execution, but neither for the GPU nor for those that are still to
///   be fused. They miss memory that a single operation takes and returns. In a chain of 24
///   convolutions on software Vulkan they found 94 % or more of the highest amount that was
///   ever read. Call [`sample`](Self::sample) where memory is highest, above all between the
///   forward and the backward pass, to have that moment among them. Readings cost time: measure
///   the speed of a step without a meter.
/// - Anything else: **unknown**.
///
/// Start, sample and finish on the thread that computes: fused operations are queued for each
/// thread, and only a thread's own reading sees its queue executed.
///
/// # Example
/// ```
/// use burn::prelude::*;
/// use burn_memopt::memory::{CountingAllocator, PeakMeter, PeakMethod};
///
/// #[global_allocator]
/// static ALLOCATOR: CountingAllocator = CountingAllocator::new();
///
/// # fn main() {
/// let device = Device::flex();
/// let meter = PeakMeter::start(&device);
/// drop(Tensor::<2>::zeros([256, 256], &device));
/// let reading = meter.finish();
///
/// assert_eq!(reading.method, PeakMethod::Exact);
/// assert!(reading.peak.expect("the allocator is installed").get() >= 256 * 256 * 4);
/// # }
/// ```
#[derive(Debug)]
pub struct PeakMeter {
    source: Source,
}

/// Returns the bytes live on a device now: those in use of its memory pools, or
/// those the [`CountingAllocator`](super::CountingAllocator) has counted for a
/// host device; `None` if unknown.
///
/// On a device with memory pools this executes what the calling thread had queued.
pub fn live_on(device: &Device) -> Option<Bytes> {
    match device.memory_pool_usage() {
        Some(usage) => Some(Bytes::new(usage.bytes_in_use)),
        None if on_host(device) => allocator::live(),
        None => None,
    }
}

#[derive(Debug)]
enum Source {
    Counted {
        window: PeakWindow,
        baseline: Bytes,
    },
    Pools {
        sampler: PoolSampler,
        baseline: Bytes,
    },
    Unknown,
}

impl PeakMeter {
    /// Starts measuring the memory of `device`.
    ///
    /// On a device with memory pools this executes what the calling thread had queued and starts
    /// a thread, which ends when the meter is finished or dropped.
    pub fn start(device: &Device) -> Self {
        Self {
            source: Source::new(device),
        }
    }

    /// Takes a reading now.
    ///
    /// On a device with memory pools this executes what the calling thread had queued. The exact
    /// and the unknown method have nothing to sample.
    pub fn sample(&self) {
        if let Source::Pools { sampler, .. } = &self.source {
            sampler.sample();
        }
    }

    /// Takes a last reading and returns the peak.
    pub fn finish(self) -> PeakReading {
        self.sample();
        let (highest, baseline, method) = match &self.source {
            Source::Counted { window, baseline } => (window.peak(), *baseline, PeakMethod::Exact),
            Source::Pools { sampler, baseline } => {
                (sampler.highest(), *baseline, PeakMethod::Sampled)
            }
            Source::Unknown => {
                return PeakReading {
                    peak: None,
                    baseline: None,
                    method: PeakMethod::Unknown,
                };
            }
        };
        PeakReading {
            peak: Some(highest - baseline),
            baseline: Some(baseline),
            method,
        }
    }
}

impl Source {
    fn new(device: &Device) -> Self {
        if let Some(usage) = device.memory_pool_usage() {
            let baseline = Bytes::new(usage.bytes_in_use);
            let sampler = PoolSampler::start(device.clone(), baseline);
            return Self::Pools { sampler, baseline };
        }
        if !on_host(device) {
            return Self::Unknown;
        }
        match (PeakWindow::open(), allocator::live()) {
            (Some(window), Some(baseline)) => Self::Counted { window, baseline },
            _ => Self::Unknown,
        }
    }
}

/// Time between two readings of the thread, not counting the reading.
const PAUSE: Duration = Duration::from_millis(1);

/// The highest bytes in use of a device's memory pools, which a thread reads until the sampler
/// is dropped.
#[derive(Debug)]
struct PoolSampler {
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
    fn start(device: Device, baseline: Bytes) -> Self {
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
    fn sample(&self) {
        if let Some(usage) = self.readings.device.memory_pool_usage() {
            self.readings.include(usage.bytes_in_use);
        }
    }

    fn highest(&self) -> Bytes {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_bytes_are_peak_and_baseline_together() {
        let reading = PeakReading {
            peak: Some(Bytes::mib(3)),
            baseline: Some(Bytes::mib(2)),
            method: PeakMethod::Sampled,
        };
        assert_eq!(reading.highest(), Some(Bytes::mib(5)));
    }

    #[test]
    fn an_unknown_peak_is_written_as_null() {
        let reading = PeakReading {
            peak: None,
            baseline: None,
            method: PeakMethod::Unknown,
        };
        assert_eq!(reading.highest(), None);
        assert_eq!(
            serde_json::to_string(&reading).unwrap(),
            r#"{"peak":null,"baseline":null,"method":"unknown"}"#
        );
    }
}
