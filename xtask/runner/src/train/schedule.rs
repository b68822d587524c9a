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

/// The rate of optimizer step `step`, counted from 1, where `rate` is that of the first and becomes
/// `share` of what it was after each of some steps.
pub fn stepped_rate(rate: f64, step: u64, share: f64, after: &[u64]) -> f64 {
    let falls = after.iter().filter(|&&last| step > last).count();
    rate * share.powi(falls as i32)
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

    #[test]
    fn a_stepped_rate_falls_after_each_of_its_steps() {
        let rate = |step| stepped_rate(8.0, step, 0.5, &[10, 20]);
        let rates = [1, 10, 11, 20, 21, 1000].map(rate);
        assert_eq!(rates, [8.0, 8.0, 4.0, 4.0, 2.0, 2.0]);
    }
}
