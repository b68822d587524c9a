//! What the network is for: its loss, and how its output is read.

use burn::tensor::Tensor;
use burn::tensor::activation::{sigmoid, softmax};
use burn_memopt::train::{MicroBatchTrainer, MicroLoss};
use burn_memopt_models::loss::{BceDiceLoss, CountLossConfig, CrossEntropyLoss};
use burn_memopt_models::unet::UNet;

use super::samples::Batch;
use crate::choices::LossChoice;

/// The network computes densities times this, so that its outputs are of the size
/// that random weights give.
const DENSITY_SCALE: f64 = 100.0;

/// What the network is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    loss: LossChoice,
}

impl Task {
    /// The task whose loss is `loss`.
    pub fn new(loss: LossChoice) -> Self {
        Self { loss }
    }

    /// Whether emitters are counted; else masks are drawn.
    pub fn counts(self) -> bool {
        self.loss == LossChoice::Count
    }

    /// The loss of a network's output.
    ///
    /// # Shapes
    /// - output: `[batch_size, out_channels, height, width]`
    /// - targets: `[batch_size, 1, height, width]`
    pub fn loss(self, output: Tensor<4>, targets: Tensor<4>) -> MicroLoss {
        let batch_size = targets.dims()[0];
        match self.loss {
            LossChoice::Count => {
                let config = CountLossConfig::new().with_density_scale(DENSITY_SCALE);
                let densities = output.div_scalar(DENSITY_SCALE);
                let loss = config.init().forward_sum(densities, targets, None);
                MicroLoss::sum(loss.sum, loss.weight)
            }
            LossChoice::BceDice => {
                let loss = BceDiceLoss::default().forward(output, targets, None);
                MicroLoss::mean(loss, batch_size as f64)
            }
            LossChoice::CrossEntropy => {
                let labels = targets.squeeze_dim::<3>(1).int();
                let loss = CrossEntropyLoss.forward_sum(output, labels, None);
                MicroLoss::sum(loss.sum, loss.weight)
            }
        }
    }

    /// The density map or the probability of the mask in a network's output.
    ///
    /// # Shapes
    /// - output: `[batch_size, out_channels, height, width]`
    /// - result: `[batch_size, 1, height, width]`
    pub fn read(self, output: Tensor<4>) -> Tensor<4> {
        match self.loss {
            LossChoice::Count => output.div_scalar(DENSITY_SCALE),
            LossChoice::BceDice => sigmoid(output),
            LossChoice::CrossEntropy => softmax(output, 1).narrow(1, 1, 1),
        }
    }

    /// Runs one micro-batch forward and backward.
    pub fn micro_batch(self, network: &UNet, train: &mut MicroBatchTrainer, batch: Batch) {
        let Batch { images, targets } = batch;
        train.micro_batch(
            network,
            images,
            |network, images| network.forward(images),
            |output| self.loss(output, targets),
        );
    }

    /// Channels of a network's output.
    pub fn out_channels(self) -> usize {
        match self.loss {
            LossChoice::Count | LossChoice::BceDice => 1,
            LossChoice::CrossEntropy => 2,
        }
    }
}
