//! When memory is scarce.
//!
//! Pure.

use std::time::Duration;

use burn::config::Config;

/// When memory counts as scarce, and how often it may be cleaned up.
#[derive(Config, Debug, Copy, PartialEq)]
pub struct PressureConfig {
    /// Share of the total above which memory is scarce. The default is 0.8.
    #[config(default = 0.8)]
    pub threshold: f64,
    /// How far below the threshold the share must fall for memory not to be scarce any more. The
    /// default is 0.05.
    #[config(default = 0.05)]
    pub relief: f64,
    /// Time from one clean-up to the next, at least. The default is 10 seconds. It doubles with
    /// every clean-up in a row that frees next to nothing, up to 16 times.
    #[config(default = "Duration::from_secs(10)")]
    pub min_interval: Duration,
}

impl Default for PressureConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl PressureConfig {
    /// Memory is scarce above this share of the total, and not any more 0.05 below it, or at half of
    /// it if that is more.
    pub fn above(threshold: f64) -> Self {
        let config = Self::new();
        let relief = config.relief.min(threshold / 2.0);
        config.with_threshold(threshold).with_relief(relief)
    }
}

/// How many times the interval doubles.
const MAX_DOUBLINGS: u32 = 4;

/// Decides when to clean up, from shares of memory and times that others measure.
#[derive(Debug, Clone)]
pub(super) struct Pressure {
    config: PressureConfig,
    is_high: bool,
    last_cleanup: Option<Duration>,
    futile_in_a_row: u32,
}

impl Pressure {
    /// # Panics
    /// Unless the threshold is above 0 and at most 1, and the relief at least 0 and below it.
    pub(super) fn new(config: PressureConfig) -> Self {
        let PressureConfig {
            threshold, relief, ..
        } = config;
        assert!(
            threshold > 0.0 && threshold <= 1.0,
            "threshold must be above 0 and at most 1, got {threshold}"
        );
        assert!(
            relief >= 0.0 && relief < threshold,
            "relief must be at least 0 and below the threshold of {threshold}, got {relief}"
        );
        Self {
            config,
            is_high: false,
            last_cleanup: None,
            futile_in_a_row: 0,
        }
    }

    /// Records the share in use at the time `now`; returns whether to clean up.
    pub(super) fn observe(&mut self, share: Option<f64>, now: Duration) -> bool {
        let Some(share) = share else {
            return false;
        };
        if share > self.config.threshold {
            self.is_high = true;
        } else if share <= self.config.threshold - self.config.relief {
            self.is_high = false;
            self.futile_in_a_row = 0;
        }
        // Between the two borders memory is as scarce as it was, but not worth a clean-up.
        let is_above = share > self.config.threshold;
        let interval = self.config.min_interval * 2u32.pow(self.futile_in_a_row);
        let is_due = self
            .last_cleanup
            .is_none_or(|last| now.saturating_sub(last) >= interval);
        is_above && is_due
    }

    /// Records a clean-up at the time `now`, and whether it freed next to nothing.
    pub(super) fn cleaned_up(&mut self, now: Duration, was_futile: bool) {
        self.last_cleanup = Some(now);
        self.futile_in_a_row = if was_futile {
            (self.futile_in_a_row + 1).min(MAX_DOUBLINGS)
        } else {
            0
        };
    }

    /// Whether memory is scarce: it was above the threshold and has not fallen well below since.
    pub(super) fn is_high(&self) -> bool {
        self.is_high
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn memory_below_the_threshold_or_unknown_is_left_alone() {
        let mut pressure = Pressure::new(PressureConfig::default());
        for share in [None, Some(0.0), Some(0.5), Some(0.8)] {
            assert!(!pressure.observe(share, seconds(0)), "{share:?}");
            assert!(!pressure.is_high());
        }
        assert!(pressure.observe(Some(0.81), seconds(0)));
    }

    #[test]
    fn pressure_ends_only_well_below_the_threshold() {
        let mut pressure = Pressure::new(PressureConfig::default());
        pressure.observe(Some(0.9), seconds(0));
        assert!(!pressure.observe(Some(0.78), seconds(100)));
        assert!(pressure.is_high(), "0.78 is within the hysteresis");
        pressure.observe(None, seconds(101));
        assert!(pressure.is_high(), "an unknown share changes nothing");
        pressure.observe(Some(0.7), seconds(102));
        assert!(!pressure.is_high());
    }

    #[test]
    fn clean_ups_that_free_nothing_become_rare_and_relief_makes_them_ready_again() {
        let mut pressure = Pressure::new(PressureConfig::default());
        let mut times = Vec::new();
        for now in 0..1000 {
            if pressure.observe(Some(0.95), seconds(now)) {
                pressure.cleaned_up(seconds(now), true);
                times.push(now);
            }
        }
        assert_eq!(times, [0, 20, 60, 140, 300, 460, 620, 780, 940]);
        pressure.observe(Some(0.1), seconds(945));
        assert!(!pressure.observe(Some(0.95), seconds(949)));
        assert!(pressure.observe(Some(0.95), seconds(950)));
    }

    #[rstest]
    #[case::zero(0.0, 0.0)]
    #[case::above_one(1.1, 0.0)]
    #[case::nan(f64::NAN, 0.0)]
    #[should_panic(expected = "threshold must be")]
    fn a_wrong_threshold_is_refused(#[case] threshold: f64, #[case] relief: f64) {
        Pressure::new(PressureConfig {
            threshold,
            relief,
            ..PressureConfig::default()
        });
    }

    #[test]
    #[should_panic(expected = "relief must be")]
    fn a_relief_of_more_than_the_threshold_is_refused() {
        Pressure::new(PressureConfig {
            relief: 0.8,
            ..PressureConfig::default()
        });
    }

    proptest! {
        #[test]
        fn two_clean_ups_are_never_closer_than_the_interval_and_never_without_pressure(
            steps in prop::collection::vec((0.0..1.0f64, 0u64..15, any::<bool>()), 1..200),
        ) {
            let config = PressureConfig::default();
            let mut pressure = Pressure::new(config);
            let (mut now, mut last) = (0, None);
            for (share, pause, was_futile) in steps {
                now += pause;
                if pressure.observe(Some(share), seconds(now)) {
                    prop_assert!(share > config.threshold);
                    if let Some(last) = last {
                        prop_assert!(seconds(now - last) >= config.min_interval);
                    }
                    pressure.cleaned_up(seconds(now), was_futile);
                    last = Some(now);
                }
                prop_assert!(!pressure.is_high() || share > config.threshold - config.relief);
            }
        }
    }
}
