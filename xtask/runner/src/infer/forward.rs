//! Runs windows through a model, in batches that fit.

use anyhow::Result;
use burn::tensor::{Device, Tensor};
use burn_memopt::batch::{BatchReport, BatchRunner, BatchSizeConfig, HostEstimate, Predictor};
use burn_memopt::chunked::{BoxError, PlacedTile};
use burn_memopt::memory::{Bytes, MemoryManager, PressureConfig, on_host};
use burn_memopt_models::unet::UNet;

use super::model::Trained;
use crate::settings::InferSettings;

/// What windows may take that wait for the model in a batch.
const WAITING: Bytes = Bytes::mib(64);

/// Runs windows and tiles, and counts them.
pub struct Forward<'a> {
    model: &'a Trained,
    predictor: Predictor<UNet, 4>,
    device: Device,
    settings: &'a InferSettings,
    num_windows: usize,
}

impl<'a> Forward<'a> {
    /// Runs `model` in batches as `settings` say.
    ///
    /// # Errors
    /// If the device lacks the precision.
    pub fn new(settings: &'a InferSettings, model: &'a Trained, device: &Device) -> Result<Self> {
        Ok(Self {
            model,
            predictor: model.predictor(runner(settings, device), device)?,
            device: device.clone(),
            settings,
            num_windows: 0,
        })
    }

    /// Windows that were run so far, of all files.
    pub fn num_windows(&self) -> usize {
        self.num_windows
    }

    /// What became of the batches.
    pub fn report(&self) -> BatchReport {
        self.predictor.report()
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

    /// The results of windows.
    ///
    /// # Shapes
    /// - windows: `[windows, channels, height, width]`
    /// - output: `[windows, 1, height, width]`
    ///
    /// # Errors
    /// If not even the smallest batch fits into memory, or the device fails.
    pub fn windows(&mut self, windows: Tensor<4>) -> Result<Tensor<4>, BoxError> {
        self.num_windows += windows.dims()[0];
        let results = self.predictor.run(windows)?;
        Ok(Tensor::from_data(results, &self.device))
    }

    /// The result of a tile, as of its place in the whole image.
    pub fn tile(&mut self, tile: PlacedTile) -> Tensor<4> {
        self.num_windows += 1;
        self.model.run_tile(tile)
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
