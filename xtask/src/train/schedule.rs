//! The learning rate of each optimizer step.

/// Steps over which the rate rises to its full value.
const WARM_UP_STEPS: f64 = 10.0;
/// Step from which on it falls.
const FALL_FROM: f64 = 60.0;
/// The share of it that stays.
const LEAST_SHARE: f64 = 0.1;

/// The rate of optimizer step `step`, counted from 1, where `rate` is the highest.
///
/// It rises linearly over 10 steps, stays, and falls as one over the step from step 60
/// on, down to a tenth. It depends on the step alone and not on how many there will be,
/// so a run that is resumed for longer is the run it would have been.
pub fn learning_rate(rate: f64, step: u64) -> f64 {
    let step = step as f64;
    let fallen = (FALL_FROM / step.max(FALL_FROM)).max(LEAST_SHARE);
    rate * (step / WARM_UP_STEPS).min(1.0) * fallen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_stays_and_falls_to_a_tenth() {
        assert_eq!(learning_rate(2.0, 1), 0.2);
        assert_eq!(learning_rate(2.0, 10), 2.0);
        assert_eq!(learning_rate(2.0, 60), 2.0);
        assert_eq!(learning_rate(2.0, 240), 0.5);
        assert_eq!(learning_rate(2.0, 100_000), 0.2);
    }
}
