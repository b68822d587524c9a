//! Sums of many f32 values, to f32 rounding.

/// Values that are summed in f32 before they go to an f64.
const RUN: usize = 1024;
const LANES: usize = 16;

/// The sum of a function of values.
pub(super) fn sum(values: &[f32], of: impl Fn(f32) -> f32) -> f64 {
    sum_of_pairs(values, values, |value, _| of(value))
}

/// The sum of a function of pairs of values.
pub(super) fn sum_of_pairs(left: &[f32], right: &[f32], of: impl Fn(f32, f32) -> f32) -> f64 {
    let runs = left.chunks(RUN).zip(right.chunks(RUN));
    let sum_of_run = |(left, right): (&[f32], &[f32])| {
        let mut lanes = [0.0; LANES];
        let (lefts, rights) = (left.chunks_exact(LANES), right.chunks_exact(LANES));
        let rest = lefts.remainder().iter().zip(rights.remainder());
        let rest: f32 = rest.map(|(&left, &right)| of(left, right)).sum();
        for (left, right) in lefts.zip(rights) {
            for lane in 0..LANES {
                lanes[lane] += of(left[lane], right[lane]);
            }
        }
        f64::from(lanes.iter().sum::<f32>() + rest)
    };
    runs.map(sum_of_run).sum()
}
