use std::collections::HashSet;

use burn::module::{Flag, Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

use crate::accumulate::WeightedAccumulator;
use crate::precision::running_states;

/// The running statistics of a model before a group of micro-batches, to put back if the group is
/// refused: an overflow in the forward pass reaches them, and an infinity would never leave again.
#[derive(Default)]
pub(crate) struct RunningStatistics {
    /// Keyed by identifier; no gradients, but the container for tensors of any rank that burn has.
    values: GradientsParams,
}

impl RunningStatistics {
    /// Handles of the statistics of `model` as they are now.
    pub(crate) fn read<M: Module>(model: &M) -> Self {
        let running = running_states(model);
        let mut collector = Collect {
            values: GradientsParams::new(),
            running: &running,
        };
        if !running.is_empty() {
            settle(model);
            model.visit(&mut collector);
        }
        Self {
            values: collector.values,
        }
    }

    /// Moves them; `model` has them.
    pub(super) fn moved<M: Module>(self, model: &M, device: &Device) -> Self {
        let values = self.values.to_device(device, model);
        Self { values }
    }

    /// The mean of the statistics of several replicas of `model`, by the weights of what each has seen; all on one
    /// device. `None` if nobody has seen anything, or there are none.
    pub(super) fn mean<M: Module>(
        model: &M,
        replicas: impl IntoIterator<Item = (Self, f64)>,
    ) -> Option<Self> {
        let mut mean = WeightedAccumulator::new();
        for (statistics, weight) in replicas {
            if statistics.values.is_empty() {
                return None;
            }
            mean.accumulate(model, statistics.values, weight);
        }
        let values = mean.finish(model)?;
        Some(Self { values })
    }

    /// Puts the statistics back, in `model` and all its clones.
    pub(crate) fn restore<M: Module>(self, model: &M) {
        if self.values.is_empty() {
            return;
        }
        settle(model);
        // Mapping changes running statistics in place, behind every clone.
        let mut restore = Restore(self.values);
        let _ = model.clone().map(&mut restore);
    }
}

/// Applies updates that are still pending: `valid` does it first of all.
fn settle<M: Module>(model: &M) {
    let _ = model.valid();
}

struct Collect<'a> {
    values: GradientsParams,
    running: &'a HashSet<ParamId>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.running.contains(&param.id) {
            self.values.register(param.id, param.val());
        }
    }
}

struct Restore(GradientsParams);

impl ModuleMapper for Restore {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.get::<D>(param.id) {
            Some(value) => param.map(|_| value),
            None => param,
        }
    }
}

/// Keeps the statistics of batch norm as they are while the model trains: it normalizes by its running
/// statistics, and its scales and shifts go on learning. [`Module::freeze`] freezes these too.
///
/// Every image is then treated alike whatever it comes with, as tiles and micro-batches of any size need it.
///
/// # Example
/// ```
/// use burn::nn::BatchNormConfig;
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::train::freeze_statistics;
///
/// let device = Device::flex().autodiff();
/// let norm = freeze_statistics(BatchNormConfig::new(2).init(&device));
/// let x = Tensor::<4>::full([1, 2, 4, 4], 3.0, &device);
/// let y = norm.forward(x);
/// assert!((y.clone().max().into_scalar::<f32>() - 3.0).abs() < 1e-4);
/// assert!(norm.gamma.val().grad(&y.sum().backward()).is_some());
/// ```
#[must_use]
pub fn freeze_statistics<M: Module>(model: M) -> M {
    model.map(&mut FreezeStatistics::default())
}

#[derive(Default)]
struct FreezeStatistics {
    containers: Vec<String>,
}

impl ModuleMapper for FreezeStatistics {
    fn enter_module(&mut self, _name: &str, container_type: &str) {
        self.containers.push(container_type.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.containers.pop();
    }

    fn map_flag(&mut self, flag: Param<Flag>) -> Param<Flag> {
        let container = self.containers.last();
        match container.and_then(|container| container.rsplit(':').next()) {
            Some("BatchNorm") => flag.with_value(false),
            _ => flag,
        }
    }
}
