use crate::budget::SHARE_OF_FREE;
use crate::memory::{Bytes, MemoryMonitor, PeakReading};

/// How the size of batches changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSizeConfig {
    /// Size of the first batch. The default is 8.
    pub start: usize,
    /// Smallest size; if even that does not fit, the run fails. The default is 1.
    pub floor: usize,
    /// Largest size. The default is 64.
    pub ceiling: usize,
    /// Batches in a row that must succeed before a larger one is tried. The default is 8.
    pub grow_after: usize,
    /// How often memory may run out in a row before the run fails. The default is 8.
    pub max_retries: usize,
}

impl Default for BatchSizeConfig {
    fn default() -> Self {
        Self {
            start: 8,
            floor: 1,
            ceiling: 64,
            grow_after: 8,
            max_retries: 8,
        }
    }
}

/// The size of the next batch: halved when memory runs out, doubled after sustained success, and
/// never again as large as what has failed.
///
/// # Example
/// ```
/// use burn_memopt::batch::{BatchSize, BatchSizeConfig};
///
/// let mut size = BatchSize::new(BatchSizeConfig { start: 16, ..BatchSizeConfig::default() });
/// assert!(size.shrink());
/// assert_eq!(size.get(), 8);
/// (0..100).for_each(|_| size.succeed(true));
/// assert_eq!(size.get(), 8, "16 did not fit");
/// ```
#[derive(Debug, Clone)]
pub struct BatchSize {
    config: BatchSizeConfig,
    size: usize,
    successes: usize,
    retries: usize,
    /// The smallest size that did not fit.
    failed: Option<usize>,
}

impl BatchSize {
    /// Begins with the configured size.
    ///
    /// # Panics
    /// Unless `1 <= floor <= start <= ceiling`, and `grow_after` is at least 1.
    pub fn new(config: BatchSizeConfig) -> Self {
        let BatchSizeConfig {
            start,
            floor,
            ceiling,
            ..
        } = config;
        assert!(
            1 <= floor && floor <= start && start <= ceiling,
            "batch sizes must be 1 <= floor <= start <= ceiling, got {floor}, {start}, {ceiling}"
        );
        assert!(
            config.grow_after > 0,
            "grow_after must be at least 1, got 0"
        );
        Self {
            config,
            size: start,
            successes: 0,
            retries: 0,
            failed: None,
        }
    }

    /// Items of the next batch.
    pub fn get(&self) -> usize {
        self.size
    }

    /// The smallest size.
    pub(super) fn floor(&self) -> usize {
        self.config.floor
    }

    /// Notes that a batch of full size succeeded. Grows only where there is `room`: memory is not
    /// under pressure.
    pub fn succeed(&mut self, room: bool) {
        self.retries = 0;
        self.successes += 1;
        let larger = (2 * self.size).min(self.config.ceiling);
        let is_known_to_fail = self.failed.is_some_and(|failed| larger >= failed);
        if self.successes >= self.config.grow_after && room && !is_known_to_fail {
            self.successes = 0;
            self.size = larger;
        }
    }

    /// Notes that memory ran out; returns whether there is a smaller size to try.
    pub fn shrink(&mut self) -> bool {
        self.successes = 0;
        self.retries += 1;
        self.failed = Some(
            self.failed
                .map_or(self.size, |failed| failed.min(self.size)),
        );
        if self.size == self.config.floor || self.retries > self.config.max_retries {
            return false;
        }
        self.size = (self.size / 2).max(self.config.floor);
        true
    }
}

/// Whether a batch fits into the memory of the host, before it is run.
///
/// On the host an allocation that is too large is not refused: the system ends the process. So
/// what a batch is going to take, its items times the bytes of one, is compared with a share of the
/// memory that is free at that moment.
///
/// The bytes of an item are given, or measured: the first batch then is one of the smallest size,
/// and the measured peak of each later one takes the place of what was known before. That needs a
/// program that installs the [`CountingAllocator`](crate::memory::CountingAllocator); in others, and
/// where the free memory is unknown, every size fits.
///
/// # Example
/// ```
/// use burn_memopt::batch::HostEstimate;
/// use burn_memopt::memory::Bytes;
///
/// let mut estimate = HostEstimate::of_items(Bytes::gib(1));
/// assert!(!estimate.fits(1 << 20), "a pebibyte");
/// ```
#[derive(Debug)]
pub struct HostEstimate {
    monitor: MemoryMonitor,
    share: f64,
    item: Item,
}

/// What is known of the bytes of an item.
#[derive(Debug)]
enum Item {
    Given(Bytes),
    Measured(Bytes),
    /// It is going to be measured.
    Awaited,
    /// The device does not report it.
    Unknown,
}

impl Default for HostEstimate {
    /// Measures what an item takes. A batch may take [`SHARE_OF_FREE`] of the free memory.
    fn default() -> Self {
        Self {
            monitor: MemoryMonitor::new([]),
            share: SHARE_OF_FREE,
            item: Item::Awaited,
        }
    }
}

impl HostEstimate {
    /// Estimates by these bytes an item, with all that is computed for it.
    pub fn of_items(bytes: Bytes) -> Self {
        Self {
            item: Item::Given(bytes),
            ..Self::default()
        }
    }

    /// Sets the share of the free memory that a batch may take. The default is [`SHARE_OF_FREE`].
    ///
    /// # Panics
    /// Unless it is above 0 and at most 1.
    pub fn with_share(self, share: f64) -> Self {
        assert!(
            share > 0.0 && share <= 1.0,
            "the share of the free memory must be above 0 and at most 1, got {share}"
        );
        Self { share, ..self }
    }

    /// Bytes of an item; `None` if unknown.
    fn item_bytes(&self) -> Option<Bytes> {
        match self.item {
            Item::Given(bytes) | Item::Measured(bytes) => Some(bytes),
            Item::Awaited | Item::Unknown => None,
        }
    }

    /// Whether a batch of this size fits into what is free now.
    pub fn fits(&mut self, size: usize) -> bool {
        let Some(item) = self.item_bytes() else {
            return true;
        };
        let free = self.monitor.snapshot().free();
        free.is_none_or(|free| item * size as u64 <= free.scale(self.share))
    }

    /// Whether the next batch should be small, to be measured.
    pub(super) fn wants_to_measure(&self) -> bool {
        matches!(self.item, Item::Awaited)
    }

    /// Learns from a batch that was run.
    pub(super) fn measured(&mut self, reading: PeakReading, size: usize) {
        self.item = match (&self.item, reading.peak) {
            (Item::Given(bytes), _) => Item::Given(*bytes),
            (_, Some(peak)) => Item::Measured(Bytes::new(peak.get().div_ceil(size as u64))),
            (Item::Measured(bytes), None) => Item::Measured(*bytes),
            (_, None) => Item::Unknown,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::PeakMethod;

    proptest! {
        #[test]
        fn sizes_stay_within_their_bounds_and_end_where_everything_fits(
            floor in 1_usize..5, more in 0_usize..60, above in 0_usize..60, fits in 1_usize..200,
            grow_after in 1_usize..4,
        ) {
            let (start, ceiling) = (floor + more, floor + more + above);
            let config = BatchSizeConfig { start, floor, ceiling, grow_after, max_retries: 20 };
            let mut size = BatchSize::new(config);
            let mut failures = 0;
            for _ in 0..200 {
                prop_assert!((floor..=ceiling).contains(&size.get()));
                if size.get() <= fits {
                    size.succeed(true);
                } else if size.shrink() {
                    failures += 1;
                } else {
                    prop_assert!(floor > fits);
                    return Ok(());
                }
            }
            prop_assert!(size.get() <= fits);
            // Each size is tried once: halving from the top, and once more above what fits.
            prop_assert!(failures <= 9, "{} failures", failures);
            // Twice as much would not fit, or is not allowed, or is known to fail.
            prop_assert!(2 * size.get() > fits.min(ceiling) || size.get() == ceiling || failures > 0);
        }
    }

    #[test]
    fn nothing_grows_under_pressure() {
        let mut size = BatchSize::new(BatchSizeConfig::default());
        (0..100).for_each(|_| size.succeed(false));
        assert_eq!(size.get(), 8);
        size.succeed(true);
        assert_eq!(size.get(), 16);
    }

    fn reading(peak: Option<Bytes>) -> PeakReading {
        PeakReading {
            peak,
            baseline: None,
            method: PeakMethod::Unknown,
        }
    }

    #[test]
    fn what_an_item_takes_is_learned_from_each_batch() {
        let mut estimate = HostEstimate::default();
        assert!(estimate.wants_to_measure() && estimate.fits(usize::MAX));
        estimate.measured(reading(Some(Bytes::gib(40))), 2);
        assert_eq!(estimate.item_bytes(), Some(Bytes::gib(20)));
        assert!(!estimate.wants_to_measure() && !estimate.fits(1 << 20));
        estimate.measured(reading(None), 2);
        assert_eq!(estimate.item_bytes(), Some(Bytes::gib(20)));
        let mut given = HostEstimate::of_items(Bytes::new(1));
        given.measured(reading(Some(Bytes::gib(40))), 2);
        assert_eq!(given.item_bytes(), Some(Bytes::new(1)));
    }

    #[test]
    fn where_nothing_is_counted_every_size_fits() {
        let mut estimate = HostEstimate::default();
        estimate.measured(reading(None), 1);
        assert!(!estimate.wants_to_measure() && estimate.fits(usize::MAX));
    }
}
