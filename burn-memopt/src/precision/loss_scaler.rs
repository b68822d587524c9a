//! The scale of a loss, and when it changes.
//!
//! Pure.

use burn::config::Config;
use serde::{Deserialize, Serialize};

/// Dynamic loss scaling, with the defaults of the field.
#[derive(Config, Debug, PartialEq)]
pub struct LossScalerConfig {
    /// Scale of the first step. The default is `65536.0`.
    #[config(default = 65536.0)]
    pub init_scale: f64,
    /// What the scale is multiplied by after `growth_interval` finite steps;
    /// above 1. The default is `2.0`.
    #[config(default = 2.0)]
    pub growth_factor: f64,
    /// What the scale is multiplied by after an overflow; between 0 and 1. The default is `0.5`.
    #[config(default = 0.5)]
    pub backoff_factor: f64,
    /// Finite steps in a row before the scale grows. The default is `2000`.
    #[config(default = 2000)]
    pub growth_interval: usize,
    /// Overflows it takes to lower the scale for the first time after it last
    /// grew. The default is `1`: every overflow lowers it.
    #[config(default = 1)]
    pub hysteresis: usize,
    /// Lowest scale. The default is none.
    pub min_scale: Option<f64>,
}

/// Finite steps after which a scale that is fixed would grow: more than anybody makes.
const NEVER: usize = u32::MAX as usize;

impl LossScalerConfig {
    /// A scale that does not change: steps that overflow are skipped, and nothing else comes of them.
    ///
    /// # Example
    /// ```
    /// use burn_memopt::precision::LossScalerConfig;
    ///
    /// let mut scaler = LossScalerConfig::fixed(128.0).init();
    /// scaler.advance(true);
    /// assert_eq!(scaler.current(), 128.0);
    /// ```
    pub fn fixed(scale: f64) -> Self {
        Self::new()
            .with_init_scale(scale)
            .with_min_scale(Some(scale))
            .with_growth_interval(NEVER)
    }

    /// A scaler in its first state.
    ///
    /// # Panics
    /// If a value is outside the range its field gives.
    pub fn init(&self) -> LossScaler {
        let positive = |name: &str, value: f64| {
            assert!(
                (value as f32).is_finite() && value as f32 > 0.0,
                "{name} must be positive and finite in f32, got {value}"
            );
        };
        positive("init_scale", self.init_scale);
        positive("growth_factor", self.growth_factor);
        assert!(
            self.growth_factor > 1.0,
            "growth_factor must be above 1, got {}",
            self.growth_factor
        );
        assert!(
            self.backoff_factor > 0.0 && self.backoff_factor < 1.0,
            "backoff_factor must be between 0 and 1, got {}",
            self.backoff_factor
        );
        assert!(
            self.growth_interval > 0,
            "growth_interval must be at least 1, got 0"
        );
        assert!(self.hysteresis > 0, "hysteresis must be at least 1, got 0");
        if let Some(min_scale) = self.min_scale {
            positive("min_scale", min_scale);
            assert!(
                min_scale <= self.init_scale,
                "min_scale must be at most init_scale ({}), got {min_scale}",
                self.init_scale
            );
        }
        LossScaler {
            config: self.clone(),
            scale: self.init_scale as f32,
            growth_tracker: 0,
            overflows_left: self.hysteresis,
        }
    }
}

/// Keeps f16 gradients from vanishing: the loss is multiplied by the largest scale
/// at which no gradient overflows.
///
/// An overflow skips the step and lowers the scale; a long run of finite steps raises it.
/// [`scale`](Self::scale) shows the order of the calls; another order does not compile.
///
/// The state is serializable: saved after [`update`](Self::update) and loaded
/// on resume, a run continues with the same scales.
///
/// # Exactness
/// The sequence of scales is that of PyTorch's `GradScaler`, with the state in
/// f32 and the products in f64. Two things can be added to it, both off by
/// default: a lowest scale and hysteresis. A scale never becomes zero.
///
/// # Example
/// ```
/// use burn_memopt::precision::LossScalerConfig;
///
/// let mut scaler = LossScalerConfig::new().with_growth_interval(2).init();
/// assert_eq!(scaler.current(), 65536.0);
/// scaler.advance(true);
/// assert_eq!(scaler.current(), 32768.0);
/// scaler.advance(false);
/// scaler.advance(false);
/// assert_eq!(scaler.current(), 65536.0);
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScaler {
    config: LossScalerConfig,
    scale: f32,
    growth_tracker: usize,
    overflows_left: usize,
}

impl LossScaler {
    /// The scale now.
    pub fn current(&self) -> f32 {
        self.scale
    }

    /// Whether the scale cannot be lowered any more, where it can change at all.
    pub fn is_lowest(&self) -> bool {
        self.config.growth_interval != NEVER && self.scale <= self.floor()
    }

    /// Finite steps since the scale last changed or a step overflowed.
    pub fn growth_tracker(&self) -> usize {
        self.growth_tracker
    }

    /// What the scaler was made from.
    pub fn config(&self) -> &LossScalerConfig {
        &self.config
    }

    /// Ends the iteration; `overflow` is whether any gradient of any optimizer was not finite.
    ///
    /// The rule behind [`update`](Self::update), for loops that do not use
    /// burn's optimizers. Once per iteration, also with several optimizers.
    pub fn advance(&mut self, overflow: bool) {
        if overflow {
            self.growth_tracker = 0;
            self.overflows_left = self.overflows_left.saturating_sub(1);
            if self.overflows_left == 0 {
                self.scale = self.lowered();
                // Once lowered, every further overflow lowers it again.
                self.overflows_left = 1;
            }
            return;
        }
        self.growth_tracker += 1;
        if self.growth_tracker == self.config.growth_interval {
            self.growth_tracker = 0;
            self.overflows_left = self.config.hysteresis;
            let grown = (f64::from(self.scale) * self.config.growth_factor) as f32;
            if grown.is_finite() {
                self.scale = grown;
            }
        }
    }

    fn lowered(&self) -> f32 {
        let lowered = (f64::from(self.scale) * self.config.backoff_factor) as f32;
        lowered.max(self.floor())
    }

    fn floor(&self) -> f32 {
        let min_scale = self.config.min_scale;
        min_scale.map_or(f32::MIN_POSITIVE, |min| min as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn scales(config: LossScalerConfig, overflows: &[bool]) -> Vec<f32> {
        let mut scaler = config.init();
        let advance = |&overflow: &bool| {
            scaler.advance(overflow);
            scaler.current()
        };
        overflows.iter().map(advance).collect()
    }

    fn config() -> LossScalerConfig {
        LossScalerConfig::new()
            .with_init_scale(8.0)
            .with_growth_interval(2)
    }

    #[test]
    fn an_overflow_restarts_the_count_of_finite_steps() {
        let overflows = [false, true, false, false];
        assert_eq!(scales(config(), &overflows), [8.0, 4.0, 4.0, 8.0]);
    }

    #[test]
    fn the_scale_stops_at_its_floor() {
        let config = config().with_min_scale(Some(3.0));
        assert_eq!(scales(config.clone(), &[true, true, true]), [4.0, 3.0, 3.0]);
        let mut scaler = config.init();
        scaler.advance(true);
        assert!(!scaler.is_lowest());
        scaler.advance(true);
        assert!(scaler.is_lowest());
    }

    #[test]
    fn hysteresis_forgives_until_the_scale_grows_again() {
        let config = config().with_hysteresis(2);
        let overflows = [true, true, true, false, false, true, true];
        let expected = [8.0, 4.0, 2.0, 2.0, 4.0, 4.0, 2.0];
        assert_eq!(scales(config, &overflows), expected);
    }

    #[test]
    fn a_saved_scaler_goes_on_where_it_was() {
        let mut scaler = config().with_init_scale(1.1).init();
        scaler.advance(true);
        scaler.advance(false);
        let json = serde_json::to_string(&scaler).expect("serializes");
        let mut resumed: LossScaler = serde_json::from_str(&json).expect("reads back");
        assert_eq!(resumed, scaler);
        scaler.advance(false);
        resumed.advance(false);
        assert_eq!(resumed, scaler);
    }

    #[rstest]
    #[case::zero_scale(config().with_init_scale(0.0))]
    #[case::scale_beyond_f32(config().with_init_scale(1e39))]
    #[case::no_growth(config().with_growth_factor(1.0))]
    #[case::no_backoff(config().with_backoff_factor(1.0))]
    #[case::zero_interval(config().with_growth_interval(0))]
    #[case::zero_hysteresis(config().with_hysteresis(0))]
    #[case::floor_above_start(config().with_min_scale(Some(9.0)))]
    #[should_panic(expected = "must be")]
    fn impossible_settings_are_refused(#[case] config: LossScalerConfig) {
        config.init();
    }

    proptest! {
        #[test]
        fn the_scale_is_always_finite_and_above_zero(
            init_scale in 1e-30_f64..1e38,
            growth_factor in 1.01_f64..1e6,
            backoff_factor in 1e-6_f64..0.99,
            growth_interval in 1_usize..4,
            overflows in prop::collection::vec(any::<bool>(), 0..300),
        ) {
            let config = LossScalerConfig::new()
                .with_init_scale(init_scale)
                .with_growth_factor(growth_factor)
                .with_backoff_factor(backoff_factor)
                .with_growth_interval(growth_interval);
            for scale in scales(config, &overflows) {
                prop_assert!(scale.is_finite() && scale > 0.0);
            }
        }
    }
}
