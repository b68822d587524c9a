use std::collections::HashSet;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::memory::Bytes;
use crate::optim::packed_bytes;
use crate::precision::running_states;

/// Bytes of a value that burn has not drawn yet.
const DEFAULT_VALUE_BYTES: u64 = 4;

/// What an optimizer remembers of every parameter it trains.
///
/// Those of burn, and of [`optim`](crate::optim), that keep whole tensors of the parameter's shape; gradient clipping, weight decay
/// and learning rates keep nothing of that size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Stochastic gradient descent: nothing.
    Sgd,
    /// The same with momentum: a velocity.
    Momentum,
    /// AdaGrad: the sum of the squares.
    AdaGrad,
    /// Adam: two moments.
    Adam,
    /// AdamW: two moments. The default.
    #[default]
    AdamW,
    /// Adam or AdamW with AMSGrad: two moments and the largest second one.
    AmsGrad,
    /// LAMB: two moments.
    Lamb,
    /// Lion: one moment.
    Lion,
    /// RMSprop without momentum: the mean square.
    RmsProp,
    /// [`Adam8bit`](crate::optim::Adam8bit): two moments in 8 bits.
    #[serde(rename = "adam8bit")]
    Adam8bit,
    /// [`AdamW8bit`](crate::optim::AdamW8bit): two moments in 8 bits.
    #[serde(rename = "adamw8bit")]
    AdamW8bit,
}

impl OptimizerKind {
    /// Values kept for each trained one, in whatever they are kept.
    pub const fn values(self) -> u64 {
        match self {
            Self::Sgd => 0,
            Self::Momentum | Self::AdaGrad | Self::Lion | Self::RmsProp => 1,
            Self::Adam | Self::AdamW | Self::Lamb | Self::Adam8bit | Self::AdamW8bit => 2,
            Self::AmsGrad => 3,
        }
    }

    /// Whether values are kept in 8 bits.
    const fn is_packed(self) -> bool {
        matches!(self, Self::Adam8bit | Self::AdamW8bit)
    }
}

/// What a model takes whatever its input: parameters, their gradients, and what an optimizer keeps.
///
/// # Exactness
/// Exact: elements times bytes of their dtype; a parameter that several layers share counts once.
/// Parameters that burn has not drawn yet count as
/// f32, which they become unless the device was told another default.
///
/// # Example
/// ```
/// use burn::nn::LinearConfig;
/// use burn::tensor::Device;
/// use burn_memopt::memory::{Bytes, estimate::{ModelBytes, OptimizerKind}};
///
/// let device = Device::flex().autodiff();
/// let layer = LinearConfig::new(100, 50).with_bias(false).init(&device);
/// let bytes = ModelBytes::of(&layer);
/// assert_eq!(bytes.parameters, Bytes::new(100 * 50 * 4));
/// assert_eq!(bytes.optimizer_state(OptimizerKind::AdamW), bytes.gradients * 2);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelBytes {
    /// Parameters, frozen ones and running statistics included.
    pub parameters: Bytes,
    /// One gradient for each trained parameter, in its dtype.
    pub gradients: Bytes,
    /// A value for each trained one in 8 bits, as [`Adam8bit`](crate::optim::Adam8bit) keeps it.
    #[serde(default)]
    pub packed: Bytes,
    /// Whether some layer normalises over the batch, so that micro-batches are not exact.
    pub has_batch_statistics: bool,
}

impl ModelBytes {
    /// Counts the bytes of a model; nothing is drawn or computed.
    pub fn of<M: Module>(model: &M) -> Self {
        let mut count = Count::default();
        model.visit(&mut count);
        Self {
            parameters: Bytes::new(count.all),
            gradients: Bytes::new(count.trained),
            packed: Bytes::new(count.packed),
            has_batch_statistics: !running_states(model).is_empty(),
        }
    }

    /// What an optimizer keeps after its first step.
    pub fn optimizer_state(&self, optimizer: OptimizerKind) -> Bytes {
        let value = match optimizer.is_packed() {
            true => self.packed,
            false => self.gradients,
        };
        value * optimizer.values()
    }

    /// What is live between two steps: parameters and the optimizer's state.
    pub fn resident(&self, optimizer: OptimizerKind) -> Bytes {
        self.parameters + self.optimizer_state(optimizer)
    }
}

#[derive(Default)]
struct Count {
    all: u64,
    trained: u64,
    packed: u64,
    counted: HashSet<ParamId>,
}

impl ModuleVisitor for Count {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if !self.counted.insert(param.id) {
            return;
        }
        let value_bytes = match param.is_initialized() {
            true => param.val().dtype().size() as u64,
            false => DEFAULT_VALUE_BYTES,
        };
        let num_values = param.lazy_shape().num_elements();
        let bytes = value_bytes * num_values as u64;
        self.all += bytes;
        if param.is_require_grad() {
            self.trained += bytes;
            self.packed += packed_bytes(num_values).unwrap_or(bytes);
        }
    }
}

/// What a training step takes on the device that computes it.
///
/// ```
/// use burn_memopt::memory::{Bytes, estimate::StepBytes};
///
/// let step = StepBytes { fixed: Bytes::mib(400), per_item: Bytes::mib(50) };
/// assert_eq!(step.of_batch(8), Bytes::mib(800));
/// assert_eq!(step.largest_batch(Bytes::gib(1)), 12);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepBytes {
    /// Whatever the batch: parameters, their gradients, the optimizer's state.
    pub fixed: Bytes,
    /// For each item of the batch: the item itself, its target, activations and their gradients.
    pub per_item: Bytes,
}

impl StepBytes {
    /// Bytes of a step on `batch_size` items.
    pub fn of_batch(&self, batch_size: u64) -> Bytes {
        self.fixed + self.per_item * batch_size
    }

    /// The most items whose step stays within `budget`; 0 if one is too many.
    pub fn largest_batch(&self, budget: Bytes) -> u64 {
        if self.fixed > budget {
            return 0;
        }
        (budget - self.fixed)
            .get()
            .checked_div(self.per_item.get())
            .unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use burn::module::Module;
    use burn::nn::{BatchNormConfig, LinearConfig};
    use burn::tensor::{DType, Device};

    use super::*;
    use crate::precision::{Autocast, Precision};

    #[test]
    fn frozen_parameters_have_neither_gradients_nor_state() {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(8, 4).init(&device);
        let trained = ModelBytes::of(&layer);
        assert_eq!(trained.parameters, Bytes::new(4 * (8 * 4 + 4)));
        assert_eq!(trained.gradients, trained.parameters);
        let frozen = ModelBytes::of(&layer.no_grad());
        assert_eq!(frozen.parameters, trained.parameters);
        assert_eq!(frozen.resident(OptimizerKind::Adam), frozen.parameters);
    }

    #[test]
    fn running_statistics_count_as_parameters_and_are_told() {
        let device = Device::flex().autodiff();
        let norm: burn::nn::BatchNorm = BatchNormConfig::new(16).init(&device);
        let bytes = ModelBytes::of(&norm);
        assert_eq!(bytes.parameters, Bytes::new(4 * 4 * 16));
        assert_eq!(bytes.gradients, Bytes::new(4 * 2 * 16));
        assert!(bytes.has_batch_statistics);
    }

    #[test]
    fn a_parameter_that_two_layers_share_counts_once() {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(8, 4).init(&device);
        let bytes = ModelBytes::of(&layer);
        let tied = vec![layer.clone(), layer];
        assert_eq!(ModelBytes::of(&tied), bytes);
        let untied = vec![
            LinearConfig::new(8, 4).init(&device),
            LinearConfig::new(8, 4).init(&device),
        ];
        assert_eq!(ModelBytes::of(&untied).gradients, bytes.gradients * 2);
    }

    #[test]
    fn small_parameters_are_not_packed() {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(100, 50).init(&device);
        let bytes = ModelBytes::of(&layer);
        // 5000 values are 20 blocks of a byte a value and a scale each.
        assert_eq!(bytes.packed, Bytes::new(20 * (256 + 4) + 4 * 50));
        let state = bytes.optimizer_state(OptimizerKind::AdamW8bit);
        assert_eq!(state, bytes.packed * 2);
    }

    #[test]
    fn values_count_in_the_dtype_they_have() {
        let device = Device::flex().autodiff();
        let layer = LinearConfig::new(8, 4).with_bias(false).init(&device);
        let whole = ModelBytes::of(&layer);
        let half = Autocast::new(Precision::F16).view(&layer);
        assert_eq!(half.weight.val().dtype(), DType::F16);
        assert_eq!(ModelBytes::of(&half).parameters * 2, whole.parameters);
    }
}
