//! Feature vectors of a set of items.

use burn::tensor::Tensor;
use nalgebra::DMatrixView;

use super::{MetricError, same_dims};

/// Feature vectors of a set of items, in f64: as many finite values for each item.
///
/// # Example
/// ```
/// use burn_memopt_models::metric::Features;
///
/// let features = Features::new(2, vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?;
/// assert_eq!((features.count(), features.dims()), (3, 2));
/// assert!(Features::new(2, vec![1.0, f64::NAN]).is_err());
/// # Ok::<(), burn_memopt_models::metric::MetricError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Features {
    dims: usize,
    values: Vec<f64>,
}

impl Features {
    /// Takes the `dims` features of one item after another.
    ///
    /// # Errors
    /// If the values do not make whole rows, `dims` is 0, or a value is not finite.
    pub fn new(dims: usize, values: Vec<f64>) -> Result<Self, MetricError> {
        if dims == 0 || !values.len().is_multiple_of(dims) {
            let values = values.len();
            return Err(MetricError::Ragged { dims, values });
        }
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(Self { dims, values }),
            Some(at) => Err(MetricError::NotFinite {
                item: at / dims,
                feature: at % dims,
                value: values[at],
            }),
        }
    }

    /// Reads the output of a network.
    ///
    /// # Shapes
    /// - features: `[batch_size, dims]`
    ///
    /// # Errors
    /// If a value is not finite.
    pub fn from_tensor(features: Tensor<2>) -> Result<Self, MetricError> {
        let [_, dims] = features.dims();
        Self::new(dims, features.into_data().iter::<f64>().collect())
    }

    /// Adds the items of `other` after those that are here.
    ///
    /// # Errors
    /// If they have another number of features.
    pub fn append(&mut self, other: Self) -> Result<(), MetricError> {
        same_dims(self.dims, other.dims)?;
        self.values.extend(other.values);
        Ok(())
    }

    /// Number of items.
    pub fn count(&self) -> usize {
        self.values.len() / self.dims
    }

    /// Features of an item.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// The features of item `index`.
    ///
    /// # Panics
    /// If there are not as many items.
    pub fn row(&self, index: usize) -> &[f64] {
        &self.values[index * self.dims..][..self.dims]
    }

    /// The items at `indices`.
    pub(super) fn select(&self, indices: impl IntoIterator<Item = usize>) -> Self {
        let rows = indices.into_iter().flat_map(|index| self.row(index));
        Self {
            dims: self.dims,
            values: rows.copied().collect(),
        }
    }

    /// The items in groups of `len`, the last one of which may be smaller: one item a column.
    pub(super) fn groups(&self, len: usize) -> Vec<DMatrixView<'_, f64>> {
        let groups = self.values.chunks(len * self.dims);
        groups
            .map(|group| DMatrixView::from_slice(group, self.dims, group.len() / self.dims))
            .collect()
    }
}

/// Made-up features: numbers of a linear congruential generator, each with half of the one before
/// it in the item. The reference numbers of the tests come from the same features in NumPy:
///
/// `s = s * 6364136223846793005 + 1442695040888963407 mod 2^64`, `u = (s >> 11) / 2^53 - 0.5`,
/// `x[k] = shift + scale * u + x[k - 1] / 2`.
#[cfg(test)]
pub(super) fn made_up(seed: u64, [count, dims]: [usize; 2], scale: f64, shift: f64) -> Features {
    let mut state = seed;
    let mut values = Vec::new();
    for _ in 0..count {
        let mut before = 0.0;
        for _ in 0..dims {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let uniform = (state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5;
            before = shift + scale * uniform + before / 2.0;
            values.push(before);
        }
    }
    Features::new(dims, values).expect("the features are finite")
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use rstest::rstest;

    use super::*;

    #[test]
    fn a_batch_of_a_network_is_read_row_by_row() {
        let batch = Tensor::from_floats([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], &Device::flex());
        let mut features = Features::from_tensor(batch.clone()).unwrap();
        features
            .append(Features::from_tensor(batch).unwrap())
            .unwrap();
        assert_eq!((features.count(), features.dims()), (4, 3));
        assert_eq!(features.row(1), [4.0, 5.0, 6.0]);
        assert_eq!(features.row(2), features.row(0));
    }

    #[rstest]
    #[case::rest(2, 3)]
    #[case::no_features(0, 0)]
    fn values_that_make_no_rows_are_refused(#[case] dims: usize, #[case] values: usize) {
        let error = Features::new(dims, vec![0.0; values]).unwrap_err();
        assert_eq!(error, MetricError::Ragged { dims, values });
    }

    #[rstest]
    fn a_value_that_is_not_finite_is_refused_by_its_place(
        #[values(f64::NAN, f64::INFINITY, f64::NEG_INFINITY)] value: f64,
    ) {
        let error = Features::new(2, vec![0.0, 1.0, 2.0, value]).unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("feature 1 of item 1 is {value}, but")),
            "{text}"
        );
    }

    #[test]
    fn other_features_are_not_appended() {
        let mut features = Features::new(2, vec![0.0; 4]).unwrap();
        let error = features.append(Features::new(1, vec![0.0]).unwrap());
        assert_eq!(error, Err(MetricError::Dims { left: 2, right: 1 }));
        assert_eq!(features.count(), 2);
    }
}
