//! How far generated images are from real ones: distances between two sets of feature vectors, in f64.
//!
//! | piece | does |
//! |---|---|
//! | [`Features`] | feature vectors of a set of items, from any network |
//! | [`InceptionV3`] | images to the features that FID and KID compare |
//! | [`FeatureStatistics`], [`frechet_distance`] | the Fréchet distance, batch by batch; FID with Inception features |
//! | [`kernel_distance`], [`KernelSubsets`] | the kernel distance; KID with Inception features |
//!
//! The distances depend on the network that computes the features, on the size of its input and on
//! how images are resized to it. Numbers are comparable only if all of these are the same.
//!
//! The Fréchet distance is biased: it falls as the number of items rises. Compare only distances
//! between equal numbers of items. The kernel distance has no bias, and with subsets it comes with its
//! deviation: prefer it for a few thousand items or fewer.
//!
//! # Example
//! ```
//! use burn::tensor::{Device, Distribution, Tensor};
//! use burn_memopt_models::metric::{FeatureStatistics, Features, frechet_distance, kernel_distance};
//!
//! let device = Device::flex();
//! // Stands for a network: two batches of 32 items with 4 features each.
//! let batches = |mean: f64| {
//!     let normal = Distribution::Normal(mean, 1.0);
//!     [(); 2].map(|()| Features::from_tensor(Tensor::random([32, 4], normal, &device)))
//! };
//! let (mut real, mut made) = (FeatureStatistics::new(4), FeatureStatistics::new(4));
//! for (batch, other) in batches(0.0).into_iter().zip(batches(3.0)) {
//!     real.add(&batch?)?;
//!     made.add(&other?)?;
//! }
//! assert!(frechet_distance(&real, &made)? > 10.0);
//!
//! let [first, second] = batches(0.0);
//! let mut all = first?;
//! all.append(second?)?;
//! let [other, _] = batches(3.0);
//! assert!(kernel_distance(&all, &other?)? > 10.0);
//! # Ok::<(), burn_memopt_models::metric::MetricError>(())
//! ```

mod features;
mod frechet;
mod inception;
mod kernel;

pub use features::Features;
pub use frechet::{FeatureStatistics, frechet_distance};
pub use inception::InceptionV3;
pub use kernel::{KernelDistance, KernelSubsets, kernel_distance};

/// Why two sets of features cannot be compared.
#[derive(thiserror::Error, Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MetricError {
    /// The values are not as many as rows of one length have.
    #[error(
        "{values} values do not make rows of {dims} features; give one row after another, all of the \
         same length, which is at least 1"
    )]
    Ragged {
        /// Features of an item.
        dims: usize,
        /// Values of all items.
        values: usize,
    },
    /// A feature is infinite or not a number.
    #[error(
        "feature {feature} of item {item} is {value}, but must be finite; check the image and the \
         network's weights"
    )]
    NotFinite {
        /// The item, from 0.
        item: usize,
        /// The feature, from 0.
        feature: usize,
        /// Its value.
        value: f64,
    },
    /// The sets have different features.
    #[error(
        "items have {left} features in one set and {right} in the other; compute both with one network"
    )]
    Dims {
        /// Features of an item of one set.
        left: usize,
        /// Features of an item of the other set.
        right: usize,
    },
    /// A set has too few items.
    #[error("a set has {count} items, but {needed} are needed; add items, or take smaller subsets")]
    TooFew {
        /// Items of the set.
        count: usize,
        /// The least number of items.
        needed: usize,
    },
    /// There are no subsets, or they are too small.
    #[error(
        "{count} subsets of {size} items give no distance; take at least 1 subset of at least 2 items"
    )]
    Subsets {
        /// Number of subsets.
        count: usize,
        /// Items of a subset.
        size: usize,
    },
    /// The distance is larger than an f64 can be.
    #[error(
        "the features are too large for a distance in f64; divide both sets by the same number"
    )]
    TooLarge,
}

/// Refuses sets with different features.
fn same_dims(left: usize, right: usize) -> Result<(), MetricError> {
    if left == right {
        Ok(())
    } else {
        Err(MetricError::Dims { left, right })
    }
}

/// Refuses a set of `count` items where `needed` are needed.
fn at_least(needed: usize, count: usize) -> Result<(), MetricError> {
    if count >= needed {
        Ok(())
    } else {
        Err(MetricError::TooFew { count, needed })
    }
}

/// Refuses a distance that overflowed.
fn finite(distance: f64) -> Result<f64, MetricError> {
    if distance.is_finite() {
        Ok(distance)
    } else {
        Err(MetricError::TooLarge)
    }
}
