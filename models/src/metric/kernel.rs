//! The kernel distance between two sets of features.

use burn::config::Config;
use nalgebra::DMatrixView;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::index::sample;
use rayon::prelude::*;

use super::{Features, MetricError, at_least, finite, same_dims};

/// Items whose products are computed at a time: 2 MiB of them.
const GROUP: usize = 512;

/// Computes the squared maximum mean discrepancy between two sets, with the kernel
/// `k(x, y) = (x·y / dims + 1)³`.
///
/// With the features of an Inception network it is the kernel Inception distance, KID. The
/// estimate is unbiased: pairs of an item with itself do not count. So sets of the same
/// distribution are at a distance of 0 on average, and single distances may be negative.
///
/// # Exactness
/// Groups of items are computed on all cores and added up in their order: the number of threads
/// changes nothing.
///
/// # Errors
/// If the sets have different features, a set has fewer than 2 items, or the distance overflows.
///
/// # Example
/// ```
/// use burn_memopt_models::metric::{Features, kernel_distance};
///
/// let left = Features::new(1, vec![0.0, 1.0])?;
/// let right = Features::new(1, vec![1.0, 2.0])?;
/// // k is 1 within the left set, 27 within the right one, and 1, 1, 8, 27 between them.
/// assert_eq!(kernel_distance(&left, &right)?, 1.0 + 27.0 - 2.0 * 37.0 / 4.0);
/// # Ok::<(), burn_memopt_models::metric::MetricError>(())
/// ```
///
/// # References
/// - Bińkowski et al. 2018, arXiv:1801.01401, sections 3 and 4
/// - Gretton et al. 2012, Journal of Machine Learning Research 13, 723-773, lemma 6: the estimate
pub fn kernel_distance(left: &Features, right: &Features) -> Result<f64, MetricError> {
    same_dims(left.dims(), right.dims())?;
    at_least(2, left.count())?;
    at_least(2, right.count())?;
    let pairs = left.count() as f64 * right.count() as f64;
    finite(mean_within(left) + mean_within(right) - 2.0 * sum(left, right) / pairs)
}

/// The kernel distance over random subsets, which says how far it varies.
///
/// Each subset takes items of both sets at random, none of them twice.
///
/// # Example
/// ```
/// use burn_memopt_models::metric::{Features, KernelSubsets};
///
/// let left = Features::new(1, (0..50).map(f64::from).collect())?;
/// let right = Features::new(1, (5..55).map(f64::from).collect())?;
/// let subsets = KernelSubsets::new().with_count(10).with_size(20).with_seed(7);
/// let distance = subsets.distance(&left, &right)?;
/// assert!(distance.deviation > 0.0);
/// assert_eq!(distance, subsets.distance(&left, &right)?);
/// # Ok::<(), burn_memopt_models::metric::MetricError>(())
/// ```
///
/// # References
/// Bińkowski et al. 2018, arXiv:1801.01401, section 4; the defaults are those of its code.
#[derive(Config, Debug)]
pub struct KernelSubsets {
    /// Number of subsets. The default is `100`.
    #[config(default = 100)]
    pub count: usize,
    /// Items of a subset, of each set. The default is `1000`.
    #[config(default = 1000)]
    pub size: usize,
    /// What the choice of the subsets begins with. The default is `0`.
    #[config(default = 0)]
    pub seed: u64,
}

/// Mean and standard deviation of the kernel distance over subsets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KernelDistance {
    /// Mean over the subsets.
    pub mean: f64,
    /// Standard deviation over the subsets: the root of the mean squared distance from the mean.
    pub deviation: f64,
}

impl KernelSubsets {
    /// Computes mean and deviation of [`kernel_distance`] over the subsets.
    ///
    /// # Errors
    /// As for [`kernel_distance`]; if a set has fewer items than a subset; if there is no subset or
    /// its size is below 2.
    pub fn distance(
        &self,
        left: &Features,
        right: &Features,
    ) -> Result<KernelDistance, MetricError> {
        let Self { count, size, seed } = *self;
        if count == 0 || size < 2 {
            return Err(MetricError::Subsets { count, size });
        }
        at_least(size, left.count())?;
        at_least(size, right.count())?;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut subset = |of: &Features| of.select(sample(&mut rng, of.count(), size));
        let distances = (0..count).map(|_| kernel_distance(&subset(left), &subset(right)));
        let distances = distances.collect::<Result<Vec<_>, _>>()?;
        let mean = distances.iter().sum::<f64>() / count as f64;
        let squares = distances.iter().map(|distance| (distance - mean).powi(2));
        let deviation = (squares.sum::<f64>() / count as f64).sqrt();
        Ok(KernelDistance { mean, deviation })
    }
}

/// The mean of the kernel over all pairs of two items of a set.
fn mean_within(set: &Features) -> f64 {
    let items = (0..set.count()).map(|index| set.row(index));
    let squares = items.map(|item| item.iter().map(|value| value * value).sum());
    let selves: f64 = squares.map(|square| kernel(square, set.dims())).sum();
    let count = set.count() as f64;
    (sum(set, set) - selves) / (count * (count - 1.0))
}

/// The sum of the kernel over all pairs of an item of `left` and one of `right`.
fn sum(left: &Features, right: &Features) -> f64 {
    let right = right.groups(GROUP);
    let sum_with_all = |group: DMatrixView<'_, f64>| -> f64 {
        let group = group.transpose();
        let products = right.iter().map(|right| &group * right);
        let kernel = |product: &f64| kernel(*product, left.dims());
        products
            .map(|products| products.iter().map(kernel).sum::<f64>())
            .sum()
    };
    let sums: Vec<f64> = left
        .groups(GROUP)
        .into_par_iter()
        .map(sum_with_all)
        .collect();
    sums.iter().sum()
}

/// The kernel of two items with the scalar product `product`.
fn kernel(product: f64, dims: usize) -> f64 {
    (product / dims as f64 + 1.0).powi(3)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::features::made_up;
    use super::*;

    fn assert_close(got: f64, wanted: f64) {
        assert!((got - wanted).abs() <= 1e-11, "{got} is not {wanted}");
    }

    /// NumPy: `K = (x @ y.T / dims + 1) ** 3` for all pairs,
    /// `(Kaa.sum() - trace(Kaa)) / (m * (m - 1)) + (Kbb.sum() - trace(Kbb)) / (n * (n - 1)) - 2 * Kab.mean()`.
    /// The last case has several groups of items.
    #[rstest]
    #[case([40, 60], 5, 1.206_987_277_698_388_5)]
    #[case([40, 60], 1, 0.410_005_861_850_797_35)]
    #[case([1100, 520], 3, 0.775_538_734_677_497_1)]
    fn the_distance_is_that_of_numpy(
        #[case] counts: [usize; 2],
        #[case] dims: usize,
        #[case] wanted: f64,
    ) {
        let left = made_up(1, [counts[0], dims], 1.0, 0.0);
        let right = made_up(2, [counts[1], dims], 2.0, 0.25);
        assert_close(kernel_distance(&left, &right).unwrap(), wanted);
        assert_close(kernel_distance(&right, &left).unwrap(), wanted);
        let reversed = left.select((0..counts[0]).rev());
        assert_close(kernel_distance(&reversed, &right).unwrap(), wanted);
    }

    #[test]
    fn halves_of_one_distribution_are_at_no_distance_on_average() {
        let distances = (0..200).map(|seed| {
            let set = made_up(seed, [20, 3], 1.0, 0.0);
            let (first, second) = (set.select(0..10), set.select(10..20));
            kernel_distance(&first, &second).unwrap()
        });
        let distances: Vec<f64> = distances.collect();
        let mean = distances.iter().sum::<f64>() / 200.0;
        let largest = distances.iter().cloned().fold(0.0, f64::max);
        assert!(distances.iter().any(|&distance| distance < 0.0));
        assert!(mean.abs() < largest / 10.0, "{mean} of up to {largest}");
    }

    #[test]
    fn a_subset_of_all_items_has_the_distance_of_the_whole() {
        let (left, right) = (made_up(1, [30, 4], 1.0, 0.0), made_up(2, [30, 4], 1.0, 0.5));
        let subsets = KernelSubsets::new().with_count(3).with_size(30);
        let distance = subsets.distance(&left, &right).unwrap();
        assert_close(distance.mean, kernel_distance(&left, &right).unwrap());
        assert_close(distance.deviation, 0.0);
    }

    #[test]
    fn subsets_follow_from_the_seed_and_vary_around_the_whole() {
        let (left, right) = (made_up(1, [90, 4], 1.0, 0.0), made_up(2, [80, 4], 1.0, 0.5));
        let of = |seed| {
            let subsets = KernelSubsets::new().with_count(50).with_size(20);
            subsets.with_seed(seed).distance(&left, &right).unwrap()
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        let whole = kernel_distance(&left, &right).unwrap();
        let error = (of(1).mean - whole).abs();
        assert!(error < of(1).deviation, "{error} beyond {:?}", of(1));
    }

    #[test]
    fn sets_that_cannot_be_compared_are_refused() {
        let set = |shape| made_up(1, shape, 1.0, 0.0);
        let error = |left, right| kernel_distance(&set(left), &set(right)).unwrap_err();
        let other = MetricError::Dims { left: 2, right: 3 };
        assert_eq!(error([4, 2], [4, 3]), other);
        let few = MetricError::TooFew {
            count: 1,
            needed: 2,
        };
        assert_eq!(error([4, 2], [1, 2]), few);
        let large = made_up(1, [4, 2], 1e120, 0.0);
        assert_eq!(kernel_distance(&large, &large), Err(MetricError::TooLarge));
    }

    #[test]
    fn subsets_that_do_not_exist_are_refused() {
        let set = made_up(1, [10, 2], 1.0, 0.0);
        let error = |subsets: KernelSubsets| subsets.distance(&set, &set).unwrap_err();
        let few = MetricError::TooFew {
            count: 10,
            needed: 1000,
        };
        assert_eq!(error(KernelSubsets::new()), few);
        for (count, size) in [(0, 5), (5, 1)] {
            let subsets = KernelSubsets::new().with_count(count).with_size(size);
            assert_eq!(error(subsets), MetricError::Subsets { count, size });
        }
    }
}
