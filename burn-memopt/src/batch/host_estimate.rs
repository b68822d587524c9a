use burn::tensor::Device;

use crate::memory::{Bytes, MemoryMonitor, PeakReading};

/// Share of the free memory that a batch may take.
const DEFAULT_SHARE: f64 = 0.9;

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
    /// It was to be measured, and the device does not tell.
    Unknown,
}

impl Default for HostEstimate {
    /// Measures what an item takes. A batch may take 0.9 of the free memory.
    fn default() -> Self {
        Self {
            monitor: MemoryMonitor::new(std::iter::empty::<Device>()),
            share: DEFAULT_SHARE,
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

    /// Chooses the share of the free memory that a batch may take. The default is 0.9.
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
    pub fn item_bytes(&self) -> Option<Bytes> {
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
        let free = self.monitor.snapshot().host_available;
        free.is_none_or(|free| item.get() as f64 * size as f64 <= self.share * free.get() as f64)
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
    use super::*;
    use crate::memory::PeakMethod;

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
