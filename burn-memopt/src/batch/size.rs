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

    /// Notes that memory ran out; answers whether there is a smaller size to try.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
}
