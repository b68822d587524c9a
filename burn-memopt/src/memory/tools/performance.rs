use std::collections::BTreeMap;
use std::fmt;
use std::time::Instant;

use burn::prelude::Device;
use serde::Serialize;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::memory::allocator::PeakWindow;
use crate::memory::{Bytes, MemoryMonitor, PeakReading};

/// Sizes that are recorded one by one.
const MAX_SIZES: usize = 256;

/// Measures what batches take, and which batch size is best.
///
/// # Exactness
/// - Time runs from [`begin`](Self::begin) to [`end`](Self::end). Devices compute in the background:
///   read a result of the batch before its end, or the end comes too early.
/// - Memory is the peak of live bytes on a host with a
///   [`CountingAllocator`](crate::memory::CountingAllocator), which is exact; else what the devices
///   reserve or the process holds at the end of the batch. For more, use
///   [`end_with_peak`](Self::end_with_peak) with the reading of a
///   [`PeakMeter`](crate::memory::PeakMeter).
/// - Processor time is that of the whole process, in steps of about 10 ms.
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
/// assert_eq!((summary.all.num_batches, summary.all.num_items), (4, 18));
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
    summary: PerformanceSummary,
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
            summary: PerformanceSummary::default(),
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

    /// Ends a batch of `batch_size` items.
    ///
    /// On a device with memory pools this executes what the calling thread had queued.
    pub fn end(&mut self, batch_size: usize) {
        let snapshot = self.monitor.snapshot();
        let memory = if snapshot.devices.is_empty() {
            let live_peak = self.window.as_ref().map(PeakWindow::peak);
            live_peak.or(snapshot.process_rss)
        } else {
            snapshot.device_reserved()
        };
        self.push(batch_size, memory);
    }

    /// Ends a batch of `batch_size` items whose peak was measured.
    pub fn end_with_peak(&mut self, batch_size: usize, reading: &PeakReading) {
        self.push(batch_size, reading.highest());
    }

    /// What all batches took so far.
    pub fn summary(&self) -> &PerformanceSummary {
        &self.summary
    }

    fn push(&mut self, batch_size: usize, memory: Option<Bytes>) {
        let seconds = self.begun.elapsed().as_secs_f64();
        let cpu_seconds = self.clock.seconds().zip(self.cpu_begun);
        let cpu_seconds = cpu_seconds.map(|(now, begun)| (now - begun).max(0.0));
        self.summary.push(batch_size, seconds, cpu_seconds, memory);
        self.begin();
    }
}

/// What some batches took; `None` is unknown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct BatchPerformance {
    /// Batches.
    pub num_batches: u64,
    /// Items in them.
    pub num_items: u64,
    /// Time of all of them, in seconds.
    pub seconds: f64,
    /// Time of the longest, in seconds.
    pub max_seconds: f64,
    /// Processor time of all threads, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Memory of the batch that took most.
    pub max_memory: Option<Bytes>,
    /// Items and seconds of the first batch, which compiles kernels and fills pools.
    first: Option<(u64, f64)>,
}

impl BatchPerformance {
    /// Items a second, without the first batch if there is another; `None` if no time was measurable.
    pub fn items_per_second(&self) -> Option<f64> {
        let first = self.first.filter(|_| self.num_batches > 1);
        let (items, seconds) = first.unwrap_or((0, 0.0));
        let seconds = self.seconds - seconds;
        (seconds > 0.0).then(|| (self.num_items - items) as f64 / seconds)
    }

    /// Time of a batch on average, in seconds; `None` without a batch.
    pub fn mean_seconds(&self) -> Option<f64> {
        (self.num_batches > 0).then(|| self.seconds / self.num_batches as f64)
    }

    /// Processor cores that were busy on average.
    pub fn mean_cpu_cores(&self) -> Option<f64> {
        (self.seconds > 0.0).then_some(self.cpu_seconds? / self.seconds)
    }

    fn push(
        &mut self,
        num_items: u64,
        seconds: f64,
        cpu_seconds: Option<f64>,
        memory: Option<Bytes>,
    ) {
        // Once unknown, the sum stays unknown.
        self.cpu_seconds = match self.cpu_seconds {
            None if self.num_batches > 0 => None,
            sum => cpu_seconds.map(|cpu_seconds| sum.unwrap_or(0.0) + cpu_seconds),
        };
        self.num_batches += 1;
        self.num_items += num_items;
        self.seconds += seconds;
        self.max_seconds = self.max_seconds.max(seconds);
        self.max_memory = self.max_memory.max(memory);
        self.first.get_or_insert((num_items, seconds));
    }
}

/// What batches took, all of them and those of each size.
///
/// [`Display`](fmt::Display) is a table for people.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PerformanceSummary {
    /// All batches.
    pub all: BatchPerformance,
    /// Batches by their size; the first 256 sizes.
    pub sizes: BTreeMap<usize, BatchPerformance>,
}

impl PerformanceSummary {
    /// The size with the most items a second, the smallest of equal ones; with a limit, among those
    /// that are known never to have taken more memory. `None` if there is none.
    pub fn best_batch_size(&self, limit: Option<Bytes>) -> Option<usize> {
        let is_within = |took: &BatchPerformance| match limit {
            Some(limit) => took.max_memory.is_some_and(|memory| memory <= limit),
            None => true,
        };
        let rates = self.sizes.iter().filter(|(_, took)| is_within(took));
        let rates = rates.filter_map(|(&size, took)| Some((size, took.items_per_second()?)));
        rates
            // The last of equal ones wins, so the smallest size comes last.
            .rev()
            .max_by(|(_, one), (_, other)| one.total_cmp(other))
            .map(|(size, _)| size)
    }

    fn push(
        &mut self,
        batch_size: usize,
        seconds: f64,
        cpu_seconds: Option<f64>,
        memory: Option<Bytes>,
    ) {
        let num_items = batch_size as u64;
        self.all.push(num_items, seconds, cpu_seconds, memory);
        if self.sizes.contains_key(&batch_size) || self.sizes.len() < MAX_SIZES {
            let of_size = self.sizes.entry(batch_size).or_default();
            of_size.push(num_items, seconds, cpu_seconds, memory);
        }
    }
}

impl fmt::Display for PerformanceSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let best = self.best_batch_size(None);
        write!(
            f,
            "{:>10}  {:>7}  {:>9}  {:>9}  {:>9}  {:>10}",
            "batch size", "batches", "s a batch", "items/s", "CPU cores", "memory"
        )?;
        for (size, took) in &self.sizes {
            write_row(f, &size.to_string(), took)?;
            if best == Some(*size) {
                f.write_str("  best")?;
            }
        }
        write_row(f, "all", &self.all)
    }
}

fn write_row(f: &mut fmt::Formatter<'_>, name: &str, took: &BatchPerformance) -> fmt::Result {
    let shown = |number: Option<f64>, decimals: usize| {
        number.map_or_else(|| "unknown".into(), |number| format!("{number:.decimals$}"))
    };
    let memory = took.max_memory.map(|memory| memory.to_string());
    write!(
        f,
        "\n{name:>10}  {:>7}  {:>9}  {:>9}  {:>9}  {:>10}",
        took.num_batches,
        shown(took.mean_seconds(), 4),
        shown(took.items_per_second(), 1),
        shown(took.mean_cpu_cores(), 2),
        memory.unwrap_or_else(|| "unknown".into()),
    )
}

/// The processor time that this process has used.
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

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    type Batch = (usize, f64, Option<u64>);

    fn summary_of(batches: impl IntoIterator<Item = Batch>) -> PerformanceSummary {
        let mut summary = PerformanceSummary::default();
        for (size, seconds, mib) in batches {
            let cpu_seconds = mib.map(|_| 2.0 * seconds);
            summary.push(size, seconds, cpu_seconds, mib.map(Bytes::mib));
        }
        summary
    }

    #[test]
    fn averages_and_maxima_are_those_of_all_batches() {
        let summary = summary_of([(4, 1.0, Some(10)), (8, 3.0, Some(30)), (4, 2.0, Some(20))]);
        let all = summary.all;
        assert_eq!((all.num_batches, all.num_items), (3, 16));
        assert_eq!((all.mean_seconds(), all.max_seconds), (Some(2.0), 3.0));
        let without_the_first = Some(12.0 / 5.0);
        assert_eq!(all.items_per_second(), without_the_first);
        assert_eq!(all.mean_cpu_cores(), Some(2.0));
        assert_eq!(all.max_memory, Some(Bytes::mib(30)));
        assert_eq!(summary.sizes.len(), 2);
        assert_eq!(summary.sizes[&4].items_per_second(), Some(2.0));
    }

    #[test]
    fn the_best_size_is_the_fastest_that_stays_within_the_limit() {
        let summary = summary_of([
            (1, 1.0, Some(10)),
            (8, 2.0, Some(40)),
            (16, 5.0, Some(80)), // slower an item than 8, as a machine that swaps is
        ]);
        assert_eq!(summary.best_batch_size(None), Some(8));
        assert_eq!(summary.best_batch_size(Some(Bytes::mib(40))), Some(8));
        assert_eq!(summary.best_batch_size(Some(Bytes::mib(39))), Some(1));
        assert_eq!(summary.best_batch_size(Some(Bytes::mib(9))), None);
    }

    #[test]
    fn the_first_batch_of_a_size_does_not_count_against_it() {
        let warm = |size| [(size, 100.0, Some(1)), (size, 1.0, Some(1))];
        let summary = summary_of(warm(2).into_iter().chain(warm(4)));
        assert_eq!(summary.best_batch_size(None), Some(4));
    }

    #[test]
    fn of_equally_fast_sizes_the_smallest_is_best() {
        let equal = summary_of([(2, 1.0, None), (4, 2.0, None), (8, 0.0, None)]);
        assert_eq!(equal.best_batch_size(None), Some(2));
    }

    #[test]
    fn unknown_memory_is_within_no_limit_and_unknown_time_is_no_rate() {
        let silent = summary_of([(2, 0.0, None)]);
        assert_eq!(silent.all.items_per_second(), None);
        assert_eq!(silent.all.max_memory, None);
        assert_eq!(silent.all.mean_cpu_cores(), None);
        assert_eq!(silent.best_batch_size(None), None);
        let unknown = summary_of([(2, 1.0, None)]);
        assert_eq!(unknown.best_batch_size(None), Some(2));
        assert_eq!(unknown.best_batch_size(Some(Bytes::MAX)), None);
        assert_eq!(summary_of([]).all.mean_seconds(), None);
    }

    #[test]
    fn the_table_marks_the_best_size_and_names_what_is_unknown() {
        let text = summary_of([(2, 0.5, Some(5)), (4, 0.5, None)]).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[2].trim_start().starts_with('4') && lines[2].ends_with("best"));
        assert!(!lines[1].contains("best") && lines[1].contains("5.0 MiB"));
        assert!(lines[2].contains("unknown") && !lines[2].contains(" 0.00"));
    }

    #[test]
    fn unknown_values_are_written_as_null() {
        let json = serde_json::to_value(summary_of([(1, 1.0, None), (2, 1.0, Some(5))])).unwrap();
        assert!(json["sizes"]["1"]["max_memory"].is_null());
        assert_eq!(json["sizes"]["2"]["max_memory"], 5 << 20);
    }

    proptest! {
        #[test]
        fn any_number_of_batches_and_sizes_stays_bounded(
            sizes in prop::collection::vec(1usize..2_000, 0..3_000),
        ) {
            let summary = summary_of(sizes.iter().map(|&size| (size, 1.0, Some(1))));
            prop_assert!(summary.sizes.len() <= MAX_SIZES);
            prop_assert_eq!(summary.all.num_items, sizes.iter().sum::<usize>() as u64);
            let of_sizes = summary.sizes.values().map(|took| took.num_batches);
            prop_assert!(of_sizes.sum::<u64>() <= sizes.len() as u64);
        }
    }

    #[test]
    fn a_batch_takes_at_least_as_long_as_it_sleeps_and_some_memory() {
        let mut monitor = PerformanceMonitor::new(&Device::flex());
        monitor.begin();
        std::thread::sleep(Duration::from_millis(20));
        monitor.end(3);
        let of_size = monitor.summary().sizes[&3];
        assert!(of_size.seconds >= 0.02, "{}", of_size.seconds);
        assert!(of_size.max_memory.unwrap() > Bytes::ZERO);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_processor_time_of_work_is_seen() {
        let mut clock = ProcessClock::new();
        let begun = clock.seconds().expect("known on Linux");
        let mut sum = 0u64;
        // Until it shows: the system counts in steps, and other tests only add to it.
        while clock.seconds().unwrap() - begun < 0.02 {
            sum = (0..100_000u64).fold(sum, |sum, number| sum.wrapping_mul(31) ^ number);
        }
        assert_ne!(sum, 1);
    }
}
