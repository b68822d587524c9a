use std::collections::HashSet;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};

use crate::accumulate::WeightedAccumulator;
use crate::precision::running_states;

/// The running statistics of a model before a group of micro-batches, to put back if the group is
/// refused: an overflow in the forward pass reaches them, and an infinity would never leave again.
#[derive(Default)]
pub(super) struct RunningStatistics {
    /// Keyed by identifier; no gradients, but the container for tensors of any rank that burn has.
    values: GradientsParams,
}

impl RunningStatistics {
    /// Handles of the statistics of `model` as they are now.
    pub(super) fn read<M: Module>(model: &M) -> Self {
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
    /// device. `None` if nobody has seen anything.
    pub(super) fn mean<M: Module>(
        model: &M,
        replicas: impl IntoIterator<Item = (Self, f64)>,
    ) -> Option<Self> {
        let mut mean = WeightedAccumulator::new();
        for (statistics, weight) in replicas {
            mean.accumulate(model, statistics.values, weight);
        }
        let values = mean.finish(model)?;
        Some(Self { values })
    }

    /// Puts the statistics back, in `model` and all its clones.
    pub(super) fn restore<M: Module>(self, model: &M) {
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
