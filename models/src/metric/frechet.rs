//! The Fréchet distance between two sets of features.

use nalgebra::{DMatrix, DVector};

use super::{Features, MetricError, at_least, finite, same_dims};

/// Number, mean and covariance of the features of a set, without the features themselves.
///
/// Needs `dims²` f64 of memory: 32 MiB for 2048 features.
///
/// # Exactness
/// Batches are centred before they are added up, so that a mean far from 0 costs no digits. How the
/// items are split into batches changes only the rounding.
///
/// # References
/// Chan, Golub and LeVeque 1983, The American Statistician 37, 242-247, eq. 2.1.
#[derive(Clone, Debug)]
pub struct FeatureStatistics {
    count: usize,
    mean: DVector<f64>,
    /// The covariance times the number of items less one.
    scatter: DMatrix<f64>,
}

impl FeatureStatistics {
    /// Begins without items, with `dims` features each.
    pub fn new(dims: usize) -> Self {
        Self {
            count: 0,
            mean: DVector::zeros(dims),
            scatter: DMatrix::zeros(dims, dims),
        }
    }

    /// Adds the items of a batch, of any number.
    ///
    /// # Errors
    /// If they have another number of features.
    pub fn add(&mut self, batch: &Features) -> Result<(), MetricError> {
        same_dims(self.mean.len(), batch.dims())?;
        for batch in batch.groups(batch.count().max(1)) {
            let mean = batch.column_mean();
            let mut centred = batch.into_owned();
            for mut item in centred.column_iter_mut() {
                item -= &mean;
            }
            self.count += batch.ncols();
            let share = batch.ncols() as f64 / self.count as f64;
            let shift = mean - &self.mean;
            let weight = batch.ncols() as f64 * (1.0 - share);
            self.scatter.gemm(1.0, &centred, &centred.transpose(), 1.0);
            self.scatter.ger(weight, &shift, &shift, 1.0);
            self.mean.axpy(share, &shift, 1.0);
        }
        Ok(())
    }

    /// Number of items.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The mean of every feature.
    pub fn mean(&self) -> &[f64] {
        self.mean.as_slice()
    }

    /// The covariance, divided by the number of items less one.
    fn covariance(&self) -> Result<DMatrix<f64>, MetricError> {
        at_least(2, self.count)?;
        all_finite(&self.scatter / (self.count - 1) as f64)
    }
}

/// Computes the squared Fréchet distance between the normal distributions with the means and
/// covariances of two sets: `|m₁ - m₂|² + tr(C₁ + C₂ - 2 (C₁ C₂)^½)`.
///
/// With the features of an Inception network it is the Fréchet Inception distance, FID. It is
/// 0 for equal statistics, and never negative. With fewer items than features the covariances are
/// singular: the distance exists, but says little.
///
/// Takes a minute for 2048 features.
///
/// # Exactness
/// The trace of the root is the sum of the roots of the eigenvalues of `C₁^½ C₂ C₁^½`, which are
/// those of `C₁ C₂`. Eigenvalues that rounding made negative count as 0.
///
/// # Errors
/// If the sets have different features, a set has fewer than 2 items, or the distance overflows.
///
/// # Example
/// ```
/// use burn_memopt_models::metric::{FeatureStatistics, Features, frechet_distance};
///
/// let statistics = |values: Vec<f64>| {
///     let mut statistics = FeatureStatistics::new(1);
///     statistics.add(&Features::new(1, values)?)?;
///     Ok::<_, burn_memopt_models::metric::MetricError>(statistics)
/// };
/// // Means 1 and 3, deviations √2 and 2·√2: 2² + (√2)².
/// let distance = frechet_distance(&statistics(vec![0.0, 2.0])?, &statistics(vec![1.0, 5.0])?)?;
/// assert!((distance - 6.0).abs() < 1e-12);
/// # Ok::<(), burn_memopt_models::metric::MetricError>(())
/// ```
///
/// # References
/// Heusel et al. 2017, arXiv:1706.08500, eq. 6.
pub fn frechet_distance(
    left: &FeatureStatistics,
    right: &FeatureStatistics,
) -> Result<f64, MetricError> {
    same_dims(left.mean.len(), right.mean.len())?;
    let between = (&left.mean - &right.mean).norm_squared();
    let (left, right) = (left.covariance()?, right.covariance()?);
    let traces = left.trace() + right.trace();
    let distance = finite(between + traces - 2.0 * trace_of_root(left, &right)?)?;
    Ok(distance.max(0.0))
}

/// The trace of the root of `left * right`.
fn trace_of_root(left: DMatrix<f64>, right: &DMatrix<f64>) -> Result<f64, MetricError> {
    let eigen = without_noise(left).symmetric_eigen();
    // What is left of axes along which there is nothing.
    let rounding = eigen.eigenvalues.amax() * f64::EPSILON * eigen.eigenvalues.len() as f64;
    // The root in the basis of the eigenvectors, which has the same eigenvalues in the end.
    let axes: Vec<_> = eigen
        .eigenvectors
        .column_iter()
        .zip(&eigen.eigenvalues)
        .filter(|(_, value)| **value > rounding)
        .map(|(axis, value)| axis * root_of(value))
        .collect();
    if axes.is_empty() {
        return Ok(0.0);
    }
    let root = DMatrix::from_columns(&axes);
    let product = all_finite(root.transpose() * right * root)?;
    let eigenvalues = without_noise(product).symmetric_eigenvalues();
    Ok(eigenvalues.iter().map(root_of).sum())
}

/// A matrix without the numbers that are nothing beside its largest: their squares would underflow, which the search for
/// eigenvalues answers with NaN.
fn without_noise(matrix: DMatrix<f64>) -> DMatrix<f64> {
    let least = matrix.amax() * f64::EPSILON * f64::EPSILON;
    matrix.map(|value| if value.abs() < least { 0.0 } else { value })
}

fn root_of(eigenvalue: &f64) -> f64 {
    eigenvalue.max(0.0).sqrt()
}

/// Refuses a matrix that overflowed, whose eigenvalues would never be found.
fn all_finite(matrix: DMatrix<f64>) -> Result<DMatrix<f64>, MetricError> {
    if matrix.iter().all(|value| value.is_finite()) {
        Ok(matrix)
    } else {
        Err(MetricError::TooLarge)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::super::features::made_up;
    use super::*;

    fn statistics(features: &Features) -> FeatureStatistics {
        let mut statistics = FeatureStatistics::new(features.dims());
        statistics.add(features).unwrap();
        statistics
    }

    fn distance(left: &Features, right: &Features) -> f64 {
        frechet_distance(&statistics(left), &statistics(right)).unwrap()
    }

    fn assert_close(got: f64, wanted: f64) {
        assert!(
            (got - wanted).abs() <= 1e-9 * wanted.abs().max(1.0),
            "{got} is not {wanted}"
        );
    }

    /// NumPy 2 and SciPy: `((a.mean(0) - b.mean(0)) ** 2).sum() + trace(A + B - 2 * sqrtm(A @ B))`
    /// with `A = cov(a, rowvar=False)`.
    #[rstest]
    #[case::several(5, 1.815_510_456_197_758)]
    #[case::single(1, 0.146_927_934_252_216_4)]
    #[case::many(24, 9.441_890_873_215_682)]
    fn the_distance_is_that_of_scipy(#[case] dims: usize, #[case] wanted: f64) {
        let left = made_up(1, [40, dims], 1.0, 0.0);
        let right = made_up(2, [60, dims], 2.0, 0.25);
        assert_close(distance(&left, &right), wanted);
        assert_close(distance(&right, &left), wanted);
    }

    /// Fewer items than features; closed form, as the covariances share their axes.
    #[test]
    fn singular_covariances_have_a_distance() {
        let left = Features::new(3, vec![0.0, 0.0, 0.0, 2.0, 0.0, 0.0]).unwrap();
        let right = Features::new(3, vec![0.0, 0.0, 0.0, 0.0, 4.0, 0.0]).unwrap();
        // Means (1, 0, 0) and (0, 2, 0); variances 2 and 8 along different axes.
        assert_close(distance(&left, &right), 5.0 + 10.0);
    }

    #[test]
    fn a_set_is_at_no_distance_from_itself_in_any_order() {
        let set = made_up(3, [50, 6], 1.0, 4.0);
        assert_close(distance(&set, &set), 0.0);
        let reversed = set.select((0..50).rev());
        assert_close(distance(&set, &reversed), 0.0);
        let other = made_up(4, [50, 6], 1.0, 5.0);
        assert_close(distance(&reversed, &other), distance(&set, &other));
    }

    #[test]
    fn batches_of_any_size_add_up_to_the_whole() {
        // A mean of a million deviations.
        let set = made_up(5, [50, 4], 1.0, 1e6);
        let mut parts = FeatureStatistics::new(4);
        for range in [0..1, 1..1, 1..20, 20..50] {
            parts.add(&set.select(range)).unwrap();
        }
        let whole = statistics(&set);
        assert_eq!(parts.count(), 50);
        for (part, whole) in parts.mean().iter().zip(whole.mean()) {
            assert!((part - whole).abs() < 1e-8, "{part} is not {whole}");
        }
        let gap = parts.covariance().unwrap() - whole.covariance().unwrap();
        assert!(gap.amax() < 1e-8, "{gap}");
    }

    #[test]
    fn other_features_are_refused() {
        let (two, three) = (FeatureStatistics::new(2), FeatureStatistics::new(3));
        let wanted = MetricError::Dims { left: 2, right: 3 };
        assert_eq!(frechet_distance(&two, &three), Err(wanted.clone()));
        let batch = Features::new(3, vec![0.0; 6]).unwrap();
        assert_eq!(two.clone().add(&batch), Err(wanted));
    }

    #[test]
    fn a_single_item_is_refused() {
        let one = statistics(&Features::new(2, vec![1.0, 2.0]).unwrap());
        let two = statistics(&Features::new(2, vec![1.0, 2.0, 3.0, 4.0]).unwrap());
        let text = frechet_distance(&two, &one).unwrap_err().to_string();
        assert!(
            text.starts_with("a set has 1 items, but 2 are needed"),
            "{text}"
        );
    }

    #[rstest]
    #[case::covariance(1e200)]
    #[case::product(1e80)]
    fn features_that_overflow_are_refused(#[case] scale: f64) {
        let set = statistics(&made_up(1, [10, 2], scale, 0.0));
        assert_eq!(frechet_distance(&set, &set), Err(MetricError::TooLarge));
    }

    proptest! {
        /// The trace is the sum of the singular values of the product of both sets, which needs no eigenvalues.
        #[test]
        fn features_that_say_nothing_change_nothing(
            seed in 0_u64..1000,
            counts in [2_usize..40, 2..40],
            dead in prop::collection::vec(any::<bool>(), 24),
            scales in [1e-3_f64..1e3, 1e-3..1e3],
        ) {
            let set = |seed, count, scale| {
                let features = made_up(seed, [count, dead.len()], scale, 0.0);
                let values = (0..count).flat_map(|item| features.row(item).to_vec());
                let kept = values.enumerate().map(|(at, value)| {
                    // A unit that is off for all but one item, too.
                    let is_off = dead[at % dead.len()] && at / dead.len() != at % count;
                    if is_off { 0.0 } else { value }
                });
                Features::new(dead.len(), kept.collect()).unwrap()
            };
            let sets = [set(seed, counts[0], scales[0]), set(seed + 1, counts[1], scales[1])];
            let centred = sets.clone().map(|set| {
                let items: Vec<_> = (0..set.count()).map(|item| DVector::from_column_slice(set.row(item))).collect();
                let mut items = DMatrix::from_columns(&items);
                let mean = items.column_mean();
                items.column_iter_mut().for_each(|mut item| item -= &mean);
                items / ((set.count() - 1) as f64).sqrt()
            });
            let [left, right] = &centred;
            let wanted: f64 = (left.transpose() * right).singular_values().sum();
            let [left, right] = sets.map(|set| statistics(&set).covariance().unwrap());
            let most = (left.trace() * right.trace()).sqrt();
            let got = trace_of_root(left, &right).unwrap();
            prop_assert!((got - wanted).abs() <= 1e-6 * most.max(f64::MIN_POSITIVE), "{got} is not {wanted}");
        }
    }
}
