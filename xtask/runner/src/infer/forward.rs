//! Runs windows through a model, in batches that fit.

use burn::tensor::Device;
use burn_memopt::batch::{BatchReport, BatchRunner, BatchSizeConfig, HostEstimate};
use burn_memopt::memory::{Bytes, MemoryManager, PressureConfig, on_host};

use super::model::Trained;
use crate::settings::InferSettings;

/// What windows may take that wait for the model in a batch.
const WAITING: Bytes = Bytes::mib(64);

/// A model and the size of its batches, which is learned from file to file.
pub struct Forward<'a> {
    /// What runs.
    pub model: &'a Trained,
    /// Finds batches that fit.
    pub runner: BatchRunner,
    settings: &'a InferSettings,
}

impl<'a> Forward<'a> {
    /// Runs `model` in batches as `settings` say.
    pub fn new(settings: &'a InferSettings, model: &'a Trained, device: &Device) -> Self {
        Self {
            model,
            runner: runner(settings, device),
            settings,
        }
    }

    /// What became of the batches so far, of all files.
    pub fn report(&self) -> BatchReport {
        self.runner.report()
    }

    /// Windows of this height and width that are read for one batch, at most.
    pub fn windows_at_once(&self, window: [usize; 2]) -> usize {
        let settings = self.settings;
        if !settings.auto_batch_size {
            return settings.batch_size;
        }
        let bytes = self.model.channels * window[0] * window[1] * size_of::<f32>();
        let most = (WAITING.get() as usize / bytes).max(settings.min_batch_size);
        most.min(settings.max_batch_size)
    }
}

/// Batches of one size, or of as many windows as memory allows.
fn runner(settings: &InferSettings, device: &Device) -> BatchRunner {
    let mut config = BatchSizeConfig::default();
    if !settings.auto_batch_size {
        let size = settings.batch_size;
        (config.start, config.floor, config.ceiling) = (size, size, size);
        return BatchRunner::new(config);
    }
    let (floor, ceiling) = (settings.min_batch_size, settings.max_batch_size);
    (config.floor, config.ceiling) = (floor, ceiling);
    config.start = config.start.clamp(floor, ceiling);
    let threshold = settings.memory_threshold;
    let manager = MemoryManager::new(device, PressureConfig::above(threshold));
    let runner = BatchRunner::on(config, device).with_memory_manager(manager);
    match on_host(device) {
        true => runner.with_host_estimate(HostEstimate::default().with_share(threshold)),
        false => runner,
    }
}
