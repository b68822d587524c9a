use burn::tensor::Tensor;

/// The loss of one micro-batch, with what it is taken over.
///
/// A plain tensor converts to a mean loss of weight one, which is right where
/// all micro-batches have the same size.
#[derive(Debug)]
pub struct MicroLoss {
    pub(super) loss: Tensor<1>,
    pub(super) weight: f64,
    pub(super) is_sum: bool,
}

impl MicroLoss {
    /// A loss that is the mean over `weight` items, tokens or unmasked pixels.
    pub fn mean(loss: Tensor<1>, weight: f64) -> Self {
        Self {
            loss,
            weight,
            is_sum: false,
        }
    }

    /// A loss that is the sum over `weight` items, tokens or unmasked pixels.
    pub fn sum(loss: Tensor<1>, weight: f64) -> Self {
        Self {
            loss,
            weight,
            is_sum: true,
        }
    }
}

impl From<Tensor<1>> for MicroLoss {
    fn from(loss: Tensor<1>) -> Self {
        Self::mean(loss, 1.0)
    }
}
