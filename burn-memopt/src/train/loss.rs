use burn::tensor::Tensor;

use crate::accumulate::check_weight;

/// The loss of one micro-batch, with what it is taken over.
///
/// The weight is always said: micro-batches whose losses are means over different numbers of
/// items would otherwise count alike, and the step would not be that of the whole batch. Where the
/// loss is a mean over the items of a batch, it is the length of the batch:
///
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::train::MicroLoss;
///
/// let output = Tensor::<2>::ones([3, 4], &Device::flex());
/// let num_items = output.dims()[0] as f64;
/// let loss = MicroLoss::mean(output.square().mean(), num_items);
/// ```
///
/// A bare tensor is not taken for a loss of weight one:
/// ```compile_fail,E0277
/// # use burn::tensor::{Device, Tensor};
/// # use burn_memopt::train::MicroLoss;
/// # let output = Tensor::<2>::ones([3, 4], &Device::flex());
/// let loss: MicroLoss = output.square().mean().into();
/// ```
///
/// A weight of zero, of an empty or fully masked micro-batch, is fine: it counts as a micro-batch
/// and adds nothing, even if its loss is NaN.
#[derive(Debug)]
pub struct MicroLoss {
    pub(super) loss: Tensor<1>,
    pub(super) weight: f64,
    pub(super) is_sum: bool,
}

impl MicroLoss {
    /// A loss that is the mean over `weight` items, tokens or unmasked pixels.
    ///
    /// # Panics
    /// If `loss` is not one number, or `weight` is negative or not finite.
    pub fn mean(loss: Tensor<1>, weight: f64) -> Self {
        Self::new(loss, weight, false)
    }

    /// A loss that is the sum over `weight` items, tokens or unmasked pixels.
    ///
    /// # Panics
    /// As [`mean`](Self::mean).
    pub fn sum(loss: Tensor<1>, weight: f64) -> Self {
        Self::new(loss, weight, true)
    }

    fn new(loss: Tensor<1>, weight: f64, is_sum: bool) -> Self {
        let num_elements = loss.shape().num_elements();
        assert!(
            num_elements == 1,
            "the loss must be one number, got {num_elements} elements; take their mean or sum"
        );
        check_weight(weight);
        Self {
            loss,
            weight,
            is_sum,
        }
    }
}
