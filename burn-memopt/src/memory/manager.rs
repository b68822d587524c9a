use std::fmt;
use std::time::{Duration, Instant};

use burn::prelude::Device;
use serde::Serialize;

use super::pressure::Pressure;
use super::{Bytes, MemoryMonitor, MemorySnapshot, PressureConfig};

/// What a clean-up freed, and how long it took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Cleanup {
    /// Bytes in use before, by the measure of [`PressureReading::in_use`].
    pub before: Bytes,
    /// Bytes in use after.
    pub after: Bytes,
    /// Time that callbacks and device took, in seconds.
    pub seconds: f64,
}

impl Cleanup {
    /// What became free; zero if others took more meanwhile.
    pub fn freed(&self) -> Bytes {
        self.before - self.after
    }
}

/// How scarce memory is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PressureReading {
    /// Bytes in use: of the whole card or host, or of this process where a limit was given; `None`
    /// if unknown.
    pub in_use: Option<Bytes>,
    /// The limit that was given, or the total of card or host; `None` if unknown.
    pub total: Option<Bytes>,
    /// Whether memory is scarce: above the threshold, or not yet well below it again.
    pub is_high: bool,
    /// The clean-up that was made, if one was due; its `after` is then in use.
    pub cleanup: Option<Cleanup>,
}

impl PressureReading {
    /// The share that is in use, from 0 to 1, `None` if it is unknown.
    pub fn share(&self) -> Option<f64> {
        self.in_use?.share_of(self.total?)
    }
}

/// What all clean-ups of a manager did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct CleanupTotals {
    /// Checks.
    pub num_checks: usize,
    /// Clean-ups.
    pub num_cleanups: usize,
    /// Clean-ups that freed less than a hundredth of the total.
    pub num_futile: usize,
    /// What all clean-ups freed together.
    pub freed: Bytes,
    /// What all clean-ups took together, in seconds.
    pub seconds: f64,
}

impl fmt::Display for CleanupTotals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} clean-ups in {} checks freed {} in {:.3} s, {} of them next to nothing",
            self.num_cleanups, self.num_checks, self.freed, self.seconds, self.num_futile
        )
    }
}

type Callback = Box<dyn FnMut(&MemorySnapshot) + Send>;

/// Gives memory back when it becomes scarce, and only then.
///
/// Call [`check`](Self::check) after every step. Above the threshold it calls the callbacks, which
/// drop caches, and has the device return the pages it keeps for reuse. A device keeps them because
/// asking the driver for new ones takes long, and giving them back in every step costs more than
/// it helps; so there are a threshold, a lower one that ends the pressure, and a least time
/// between two clean-ups.
///
/// # Exactness
/// Results are untouched: what is in use stays. Costs a snapshot a check, which on a device with
/// memory pools executes what the calling thread had queued. Without a total nothing is ever
/// cleaned up: give a limit with [`with_limit`](Self::with_limit) where the device reports none.
///
/// # Example
/// ```
/// use std::sync::{Arc, Mutex};
///
/// use burn::prelude::*;
/// use burn_memopt::memory::{Bytes, MemoryManager, PressureConfig};
///
/// let cache = Arc::new(Mutex::new(vec![0u8; 1 << 20]));
/// let dropped = cache.clone();
/// let mut manager = MemoryManager::new(&Device::flex(), PressureConfig::default())
///     .with_limit(Bytes::kib(1)) // which any process exceeds
///     .on_pressure(move |_| *dropped.lock().unwrap() = Vec::new());
/// assert!(manager.check().is_high);
/// assert!(cache.lock().unwrap().is_empty());
/// assert!(manager.check().cleanup.is_none(), "once is enough for now");
/// ```
pub struct MemoryManager {
    device: Device,
    monitor: MemoryMonitor,
    pressure: Pressure,
    limit: Option<Bytes>,
    callbacks: Vec<Callback>,
    started: Instant,
    totals: CleanupTotals,
}

impl MemoryManager {
    /// A manager of the memory of the tensors of `device`.
    ///
    /// # Panics
    /// Unless the threshold is above 0 and at most 1, and the relief at least 0 and below it.
    pub fn new(device: &Device, config: PressureConfig) -> Self {
        Self {
            device: device.clone(),
            monitor: MemoryMonitor::new([device.clone()]),
            pressure: Pressure::new(config),
            limit: None,
            callbacks: Vec::new(),
            started: Instant::now(),
            totals: CleanupTotals::default(),
        }
    }

    /// Compares what this process holds with `limit`, in place of what all hold with the total.
    ///
    /// On a device that is what it reserved; on the host its live bytes if a
    /// [`CountingAllocator`](super::CountingAllocator) counts them, else its resident memory.
    pub fn with_limit(mut self, limit: Bytes) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Calls `callback` at every clean-up, before the device's, in the order they were given.
    pub fn on_pressure(mut self, callback: impl FnMut(&MemorySnapshot) + Send + 'static) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Reads the memory, and cleans up if it is scarce and the last clean-up was long enough ago.
    pub fn check(&mut self) -> PressureReading {
        let snapshot = self.monitor.snapshot();
        let reading = self.reading(&snapshot);
        self.totals.num_checks += 1;
        if !self.pressure.observe(reading.share(), self.now()) {
            return PressureReading {
                is_high: self.pressure.is_high(),
                ..reading
            };
        }
        self.clean_up(&snapshot, reading)
    }

    /// What all clean-ups so far did.
    pub fn totals(&self) -> CleanupTotals {
        self.totals
    }

    fn clean_up(&mut self, snapshot: &MemorySnapshot, before: PressureReading) -> PressureReading {
        let begun = Instant::now();
        for callback in &mut self.callbacks {
            callback(snapshot);
        }
        self.device.memory_cleanup();
        let snapshot = self.monitor.snapshot();
        let after = self.reading(&snapshot);
        let cleanup = before
            .in_use
            .zip(after.in_use)
            .map(|(before, after)| Cleanup {
                before,
                after,
                seconds: begun.elapsed().as_secs_f64(),
            });
        let freed = cleanup.map_or(Bytes::ZERO, |cleanup| cleanup.freed());
        let was_futile = before.total.is_none_or(|total| freed * 100 < total);
        let now = self.now();
        self.pressure.cleaned_up(now, was_futile);
        // Not for another clean-up, but whether this one has ended the pressure.
        self.pressure.observe(after.share(), now);
        self.totals.num_cleanups += 1;
        self.totals.num_futile += usize::from(was_futile);
        self.totals.freed += freed;
        self.totals.seconds += begun.elapsed().as_secs_f64();
        if let Some(cleanup) = cleanup {
            log::info!(
                "memory was scarce: a clean-up freed {}, {} are in use",
                cleanup.freed(),
                cleanup.after
            );
        }
        PressureReading {
            is_high: self.pressure.is_high(),
            cleanup,
            ..after
        }
    }

    /// What is in use and what there is, by the measure that the limit and the device call for.
    fn reading(&self, snapshot: &MemorySnapshot) -> PressureReading {
        let (in_use, total) = match (self.limit, snapshot.devices.first()) {
            (Some(limit), Some(device)) => (device.bytes_reserved, Some(limit)),
            (Some(limit), None) => (snapshot.live.or(snapshot.process_rss), Some(limit)),
            (None, Some(device)) => (used(device.total, device.free), device.total),
            (None, None) => (
                used(snapshot.host_total, snapshot.host_available),
                snapshot.host_total,
            ),
        };
        PressureReading {
            in_use,
            total,
            is_high: self.pressure.is_high(),
            cleanup: None,
        }
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }
}

impl fmt::Debug for MemoryManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryManager")
            .field("device", &self.device)
            .field("pressure", &self.pressure)
            .field("limit", &self.limit)
            .field("num_callbacks", &self.callbacks.len())
            .field("totals", &self.totals)
            .finish()
    }
}

fn used(total: Option<Bytes>, free: Option<Bytes>) -> Option<Bytes> {
    Some(total? - free?)
}

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    fn manager(limit: Bytes) -> (MemoryManager, Arc<AtomicUsize>) {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = calls.clone();
        let manager = MemoryManager::new(&Device::flex(), PressureConfig::default())
            .with_limit(limit)
            .on_pressure(move |_| {
                counted.fetch_add(1, Relaxed);
            });
        (manager, calls)
    }

    #[test]
    fn plenty_of_memory_calls_nobody() {
        let (mut manager, calls) = manager(Bytes::MAX);
        for _ in 0..20 {
            let reading = manager.check();
            assert!(!reading.is_high && reading.cleanup.is_none());
        }
        assert_eq!(calls.load(Relaxed), 0);
        let expected = CleanupTotals {
            num_checks: 20,
            ..CleanupTotals::default()
        };
        assert_eq!(manager.totals(), expected);
    }

    #[test]
    fn scarce_memory_is_cleaned_up_once_in_many_steps() {
        let (mut manager, calls) = manager(Bytes::kib(1));
        let first = manager.check();
        let cleanup = first.cleanup.expect("a clean-up");
        assert!(first.is_high && first.share().unwrap() > 1.0);
        assert_eq!(cleanup.freed(), cleanup.before - cleanup.after);
        for _ in 0..20 {
            assert!(manager.check().cleanup.is_none());
        }
        assert_eq!(calls.load(Relaxed), 1);
        assert_eq!(manager.totals().num_cleanups, 1);
        assert!(manager.check().is_high);
    }

    #[test]
    fn a_host_without_a_limit_is_compared_with_its_total() {
        let mut manager = MemoryManager::new(&Device::flex(), PressureConfig::default());
        let reading = manager.check();
        let share = reading.share().expect("this host reports its memory");
        assert!((0.0..=1.0).contains(&share), "{share}");
    }
}
