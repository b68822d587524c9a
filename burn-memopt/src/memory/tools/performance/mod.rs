//! What batches take: memory, processor, time, and which size of batch is best.

mod ledger;
mod summary;

use std::time::Instant;

use burn::prelude::Device;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::memory::allocator::PeakWindow;
use crate::memory::{Bytes, MemoryMonitor, MemorySnapshot, PeakReading};
pub use ledger::BatchSample;
use ledger::Ledger;
pub use summary::{BatchSizePerformance, PerformanceSummary};

/// Follows what batches take: memory, processor and time, and how many items a second come of it.
///
/// It keeps the last 1,000 batches and sums over all of them, for each of up to 256 sizes, so its
/// own memory is bounded.
///
/// # Exactness
/// - Time is that between [`begin`](Self::begin) and [`end`](Self::end). Devices compute in the
///   background: read a result of the batch before its end, or it ends too early.
/// - Memory is the peak of live bytes on a host with a
///   [`CountingAllocator`](crate::memory::CountingAllocator), which is exact; else what the devices reserve
///   or the process holds at the end of the batch. Hand in the reading of a
///   [`PeakMeter`](crate::memory::PeakMeter) for more.
/// - The processor's time is that of the whole process, in steps of about 10 ms: averages over many
///   batches mean more than a single short one.
///
/// # Example
/// ```
/// use burn::prelude::*;
/// use burn_memopt::memory::PerformanceMonitor;
///
/// let device = Device::flex();
/// let mut monitor = PerformanceMonitor::new(&device);
/// for batch_size in [1, 1, 8, 8] {
///     monitor.begin();
///     let items = Tensor::<2>::ones([batch_size, 64], &device);
///     assert_eq!(items.sum().into_scalar::<f32>(), 64.0 * batch_size as f32);
///     monitor.end(batch_size);
/// }
/// let summary = monitor.summary();
/// assert_eq!((summary.num_batches, summary.num_items), (4, 18));
/// assert!(summary.best_batch_size(None).is_some());
/// println!("{summary}");
/// ```
#[derive(Debug)]
pub struct PerformanceMonitor {
    monitor: MemoryMonitor,
    window: Option<PeakWindow>,
    clock: ProcessClock,
    begun: Instant,
    cpu_begun: Option<f64>,
    ledger: Ledger,
}

impl PerformanceMonitor {
    /// A monitor of batches that run on `device`.
    pub fn new(device: &Device) -> Self {
        let mut clock = ProcessClock::new();
        Self {
            monitor: MemoryMonitor::new([device.clone()]),
            window: PeakWindow::open(),
            begun: Instant::now(),
            cpu_begun: clock.seconds(),
            clock,
            ledger: Ledger::default(),
        }
    }

    /// Begins a batch. Without it, a batch begins where the one before ended.
    pub fn begin(&mut self) {
        if let Some(window) = &self.window {
            window.restart();
        }
        self.cpu_begun = self.clock.seconds();
        self.begun = Instant::now();
    }

    /// Ends a batch of `batch_size` items, and says what it took.
    ///
    /// On a device with memory pools this executes what the calling thread had queued.
    pub fn end(&mut self, batch_size: usize) -> BatchSample {
        self.end_of(batch_size, None)
    }

    /// Ends a batch of `batch_size` items whose peak was measured.
    pub fn end_with_peak(&mut self, batch_size: usize, reading: &PeakReading) -> BatchSample {
        self.end_of(batch_size, reading.highest())
    }

    /// The last batches, oldest first, 1,000 at most.
    pub fn recent(&self) -> impl ExactSizeIterator<Item = &BatchSample> {
        self.ledger.recent()
    }

    /// Averages, maxima and sizes of all batches.
    pub fn summary(&self) -> PerformanceSummary {
        self.ledger.summary()
    }

    fn end_of(&mut self, batch_size: usize, metered_peak: Option<Bytes>) -> BatchSample {
        let snapshot = self.monitor.snapshot();
        let seconds = self.begun.elapsed().as_secs_f64();
        let cpu_ended = self.clock.seconds();
        let sample = BatchSample {
            batch_size,
            seconds,
            cpu_seconds: cpu_ended
                .zip(self.cpu_begun)
                .map(|(ended, begun)| (ended - begun).max(0.0)),
            memory: metered_peak.or_else(|| self.held(&snapshot)),
        };
        self.ledger.push(sample);
        self.begin();
        sample
    }

    fn held(&self, snapshot: &MemorySnapshot) -> Option<Bytes> {
        match snapshot.devices.is_empty() {
            true => {
                let live_peak = self.window.as_ref().map(PeakWindow::peak);
                live_peak.or(snapshot.process_rss)
            }
            false => snapshot.device_reserved(),
        }
    }
}

/// The processor's time that this process has used.
#[derive(Debug)]
struct ProcessClock {
    system: System,
    process: Option<Pid>,
}

impl ProcessClock {
    fn new() -> Self {
        Self {
            system: System::new(),
            process: sysinfo::get_current_pid().ok(),
        }
    }

    /// Seconds of all threads together since the process began, `None` if unknown.
    fn seconds(&mut self) -> Option<f64> {
        let pid = self.process?;
        self.system.refresh_processes_specifics(
            ProcessesToUpdate::Some(&[pid]),
            false,
            ProcessRefreshKind::nothing().with_cpu(),
        );
        let millis = self.system.process(pid)?.accumulated_cpu_time();
        Some(millis as f64 / 1000.0)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_batch_takes_at_least_as_long_as_it_sleeps_and_little_of_the_processor() {
        let mut monitor = PerformanceMonitor::new(&Device::flex());
        monitor.begin();
        std::thread::sleep(Duration::from_millis(20));
        let sample = monitor.end(3);
        assert!(sample.seconds >= 0.02, "{}", sample.seconds);
        assert_eq!(sample.batch_size, 3);
        assert!(sample.memory.unwrap() > Bytes::ZERO);
        assert_eq!(monitor.recent().len(), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_processor_time_of_work_is_seen() {
        let mut clock = ProcessClock::new();
        let begun = clock.seconds().expect("Linux tells");
        let mut sum = 0u64;
        // Until it shows: the system counts in steps, and other tests only add to it.
        while clock.seconds().unwrap() - begun < 0.02 {
            sum = (0..100_000u64).fold(sum, |sum, number| sum.wrapping_mul(31) ^ number);
        }
        assert_ne!(sum, 1);
    }
}
