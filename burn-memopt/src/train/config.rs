use burn::config::Config;
use burn::optim::ModuleOptimizer;

use super::{MicroBatchTrainer, group::Group};
use crate::gradients::Clipping;
use crate::precision::{AutocastPolicy, LossScalerConfig, Precision};

/// Settings of a [`MicroBatchTrainer`].
#[derive(Config, Debug)]
pub struct MicroBatchTrainerConfig {
    /// What the model computes in. The default is `f32`.
    #[config(default = "Precision::F32")]
    pub precision: Precision,
    /// What stays in f32 below that. The default keeps `BatchNorm`.
    #[config(default = "AutocastPolicy::default()")]
    pub policy: AutocastPolicy,
    /// Loss scaling. The default is [`LossScalerConfig::new`] for f16, and none
    /// for other precisions.
    pub loss_scaler: Option<LossScalerConfig>,
    /// Micro-batches per optimizer step. The default is `1`.
    #[config(default = 1)]
    pub accumulation_steps: usize,
    /// Limit of the averaged, unscaled gradients. The default is none.
    pub clipping: Option<Clipping>,
    /// Whether parameters and optimizer of before an update are kept until it was read back, so that
    /// an update that runs out of memory is undone as well. They take their memory twice during the
    /// update. The default is `false`: only what comes before the update is undone.
    #[config(default = false)]
    pub undo_updates: bool,
    /// Skipped steps in a row after which training is given up. The default is `50`.
    #[config(default = 50)]
    pub max_skipped_steps: usize,
}

impl MicroBatchTrainerConfig {
    /// A step that updates parameters with `optimizer`.
    ///
    /// Gradient clipping set on `optimizer` itself is per parameter and comes
    /// after the clipping here.
    ///
    /// # Panics
    /// If `accumulation_steps` or `max_skipped_steps` is zero, or the clipping
    /// limit or a value of the loss scaler is out of range.
    pub fn init(&self, optimizer: impl Into<ModuleOptimizer>) -> MicroBatchTrainer {
        MicroBatchTrainer::new(self.group(), optimizer.into(), self.undo_updates)
    }

    /// The part of the step that needs no optimizer.
    ///
    /// # Panics
    /// As [`init`](Self::init).
    pub(super) fn group(&self) -> Group {
        assert!(
            self.accumulation_steps > 0,
            "accumulation_steps must be at least 1, got 0"
        );
        assert!(
            self.max_skipped_steps > 0,
            "max_skipped_steps must be at least 1, got 0"
        );
        let scaler = match &self.loss_scaler {
            Some(config) => Some(config.init()),
            None if self.precision.needs_loss_scaling() => Some(LossScalerConfig::new().init()),
            None => None,
        };
        Group::new(self, scaler)
    }
}
