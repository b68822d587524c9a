//! What an optimizer step takes, keeps and returns.

use burn::tensor::{Tensor, TensorReadError};
use serde::{Deserialize, Serialize};

use super::DataParallelError;
use crate::accumulate::check_weight;
use crate::batch::list;
use crate::chunked::BoxError;
use crate::precision::{LossScaler, Stepped, UnsupportedLayersError};

/// The loss of one micro-batch, with what it is taken over.
///
/// The weight is always given: micro-batches whose losses are means over different numbers of
/// items would otherwise count the same, and the step would not be that of the whole batch. Where the
/// loss is a mean over the items of a batch, the weight is the length of the batch:
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

    /// Whether the loss is a sum.
    pub(crate) fn is_sum(&self) -> bool {
        self.is_sum
    }

    /// What it is taken over.
    pub(crate) fn weight(&self) -> f64 {
        self.weight
    }

    /// The loss as it is, read from its device.
    pub(crate) fn value(&self) -> f32 {
        self.loss.clone().into_scalar()
    }

    /// The sum over all items.
    pub(crate) fn into_total(self) -> Tensor<1> {
        match self.is_sum {
            true => self.loss,
            false => self.loss.mul_scalar(self.weight),
        }
    }

    /// The mean over all items, as far as there are any.
    pub(super) fn into_mean(self) -> Self {
        match self.is_sum && self.weight > 0.0 {
            true => Self::mean(self.loss.div_scalar(self.weight), self.weight),
            false => self,
        }
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

/// The state of a [`MicroBatchTrainer`](super::MicroBatchTrainer) between two groups.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainState {
    /// Groups done so far, the skipped ones included.
    pub steps: usize,
    /// Steps skipped since the last one that was made.
    pub skipped_in_a_row: usize,
    /// The loss scaler, if the loss is scaled.
    pub scaler: Option<LossScaler>,
}

impl TrainState {
    /// Counts a group and returns the scale of the next.
    pub(super) fn advance(&mut self, stepped: Stepped) -> Option<f32> {
        self.steps += 1;
        self.skipped_in_a_row = if stepped.skipped() {
            self.skipped_in_a_row + 1
        } else {
            0
        };
        let scaler = self.scaler.as_mut()?;
        scaler.update(stepped);
        Some(scaler.current())
    }

    /// How the run treats its loss, for the message of a mismatch.
    pub(super) fn scaling(&self) -> &'static str {
        match self.scaler {
            Some(_) => "with loss scaling",
            None => "without loss scaling",
        }
    }
}

/// What a call of [`MicroBatchTrainer::step`](super::MicroBatchTrainer::step) did.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum StepOutcome {
    /// The group is not complete; the model is unchanged.
    Accumulating {
        /// Micro-batches so far.
        micro_batches: usize,
    },
    /// The optimizer made its step.
    Stepped {
        /// Weighted mean of the losses of the group.
        loss: f64,
        /// Global L2 norm of the gradients before clipping.
        grad_norm: f64,
    },
    /// A scaled gradient overflowed; the model is unchanged.
    Skipped {
        /// Scale of the next group.
        scale: f32,
    },
    /// There was nothing to learn from: no micro-batch, or all of weight zero.
    Empty,
}

/// Why a step was refused. The model is as before the step.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum StepError {
    /// The loss is infinite or NaN and no overflow of f16 explains it.
    #[error(
        "training step {step}: the loss is {loss}; parameters are as before the step. \
         Look for NaN in the data, lower the learning rate or clip gradients"
    )]
    NonFiniteLoss {
        /// Number of the step, from 1.
        step: usize,
        /// The loss.
        loss: f64,
    },
    /// The loss is finite, a gradient is not.
    #[error(
        "training step {step}: the gradients of {} are not finite; parameters are as before \
         the step. Lower the learning rate, or look for a root or logarithm of zero",
        .parameters.join(", ")
    )]
    NonFiniteGradients {
        /// Number of the step, from 1.
        step: usize,
        /// Paths of the parameters.
        parameters: Vec<String>,
    },
    /// Lowering the scale did not help.
    #[error(
        "training step {step}: skipped {skipped} steps in a row, down to loss scale {scale} \
         (loss {loss}), which a lower scale would not mend. Look for NaN in the data, or train in bf16 \
         or f32; a scale that is fixed may be too high"
    )]
    Diverged {
        /// Number of the step, from 1.
        step: usize,
        /// Steps skipped in a row.
        skipped: usize,
        /// Scale reached.
        scale: f32,
        /// The last loss.
        loss: f64,
    },
    /// The loss or the gradients could not be read.
    #[error(
        "training step {step}: the device did not compute the gradients; parameters are as \
         before the step. If it is out of memory, use smaller micro-batches"
    )]
    Device {
        /// Number of the step, from 1.
        step: usize,
        /// The error of the device.
        source: TensorReadError,
    },
    /// One of several devices failed.
    #[error(
        "training step {step}: the replica on {device} failed; parameters are as before the step. If \
         it is out of memory, use smaller micro-batches"
    )]
    Replica {
        /// Number of the step, from 1.
        step: usize,
        /// The device and the replica's number.
        device: String,
        /// What it failed with.
        source: BoxError,
    },
    /// Micro-batches drew random numbers that were promised not to.
    #[error(
        "training step {step}: random numbers were drawn, though micro-batches were promised to draw \
         none; parameters are as before the step. Take the promise back (`DataParallel::without_randomness`), \
         give it for tiles too (`TiledStep::without_randomness`), or draw elsewhere while no step runs"
    )]
    Randomness {
        /// Number of the step, from 1.
        step: usize,
    },
    /// Not even the smallest micro-batch fits.
    #[error(
        "training step {step}: memory does not suffice, for micro-batches of {}; parameters are as \
         before the step. Recompute activations, use half precision or smaller items",
        list(tried)
    )]
    OutOfMemory {
        /// Number of the step, from 1.
        step: usize,
        /// Sizes that did not fit, in the order in which they were tried.
        tried: Vec<usize>,
        /// The error of the device for the last.
        source: BoxError,
    },
    /// The model has layers that cannot run in the precision of the run.
    #[error("the training did not begin, since {0}")]
    UnsupportedLayers(UnsupportedLayersError),
    /// There are no replicas to train on.
    #[error("the training did not begin")]
    Devices(#[from] DataParallelError),
    /// A state of a run that treats its loss differently.
    #[error(
        "cannot continue from a state {saved}, this run is {expected}; resume with the precision \
         of the saved run"
    )]
    OtherScaling {
        /// The loaded state.
        saved: &'static str,
        /// This run.
        expected: &'static str,
    },
}
