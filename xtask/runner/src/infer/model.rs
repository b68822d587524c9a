//! A trained model, as an artifact folder holds it, and the batches that it runs in.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor};
use burn_memopt::batch::{BatchReport, BatchRunner, BatchSizeConfig, HostEstimate, ModelReplicas};
use burn_memopt::chunked::{Windows, global_layers};
use burn_memopt::memory::{Bytes, MemoryManager, PressureConfig, on_host};
use burn_memopt::precision::{Autocast, Precision};
use burn_memopt::quantize::{QuantizeConfig, QuantizeReport, Scheme, is_packed};
use burn_memopt_datasets::normalization::Normalization;
use burn_memopt_models::unet::UNet;

use super::records::FileState;
use crate::choices::LossChoice;
use crate::interrupt::program;
use crate::run_dir::{RunDir, SavedState};
use crate::settings::{
    InferSettings, ModelSettings, Settings, UNetData, UNetNetworkSettings, UNetSettings,
    UsageError, WatermarkSettings, open_run,
};
use crate::train::{MODEL_FILE, NORMALIZATION_FILE, Task, build_unet, config_in};

/// What windows may take that wait for the model in a batch.
const WAITING: Bytes = Bytes::mib(64);

/// A U-Net and what its numbers mean.
pub struct Trained {
    /// In the precision that it computes in.
    network: ModelReplicas<UNet>,
    device: Device,
    autocast: Autocast,
    task: Task,
    settings: UNetNetworkSettings,
    /// Channels of its images: 1 for frames, 3 for colours.
    pub channels: usize,
    /// How pixels of frames were normalised in training; colours are 0 to 1 as they are.
    pub normalization: Option<Normalization>,
    /// The file of its weights.
    pub identity: FileState,
    /// What packing its weights saved, if they were packed now.
    pub quantized: Option<QuantizeReport>,
}

impl Trained {
    /// Loads the last save of a run.
    ///
    /// # Errors
    /// If the folder holds no run of a U-Net, nothing was saved yet, or a file is damaged.
    pub fn load(
        root: &Path,
        precision: Precision,
        scheme: Option<Scheme>,
        devices: &[Device],
    ) -> Result<Self> {
        let device = &devices[0];
        let (dir, settings, task) = read_settings(root)?;
        let state = last_save(&dir)?;
        let normalization = match task.counts() {
            true => Some(read_normalization(root)?),
            false => None,
        };
        let channels = if task.counts() { 1 } else { 3 };
        let network = build_unet(&settings, [channels, task.out_channels()], 0, device)?;
        let path = state.dir.join(MODEL_FILE);
        let autocast = Autocast::new(precision);
        let (network, quantized) = match (config_in(&state.dir)?, scheme) {
            (None, None) => (autocast.view(&load_float(network, &path)?), None),
            (None, Some(scheme)) => {
                let network = autocast.view(&load_float(network, &path)?);
                let (network, report) = QuantizeConfig::new(scheme).quantize(&network)?;
                (network, Some(report))
            }
            (Some(_), Some(_)) => bail!(UsageError(format!(
                "--quantize: the weights in {} are packed already; leave it out",
                root.display()
            ))),
            (Some(_), None) if precision != Precision::F32 => bail!(UsageError(format!(
                "--precision {precision}: the weights in {} are packed for f32; leave it out, or give the \
                 run that was quantized, with --quantize",
                root.display()
            ))),
            (Some(config), None) => {
                let network = config.load(network, &path).with_context(|| {
                    let path = path.display();
                    format!("cannot use the packed weights in {path}; quantize the run again")
                })?;
                (network, None)
            }
        };
        check_devices(&network, devices)?;
        Ok(Self {
            network: ModelReplicas::new(&network, devices)
                .context("cannot start a thread for each device")?,
            quantized,
            device: device.clone(),
            autocast,
            task,
            settings,
            channels,
            normalization,
            identity: FileState::new(&path)?,
        })
    }

    /// Densities or probabilities, in f32.
    ///
    /// # Shapes
    /// - images: `[batch_size, channels, height, width]`
    /// - result: `[batch_size, 1 or classes, height, width]`
    pub fn run(&self, images: Tensor<4>) -> Tensor<4> {
        let parts = images.chunk(self.num_devices(), 0);
        self.joined(self.network.run(parts, |network, device, images| {
            self.read(network.forward(self.autocast.cast(images.to_device(device))))
        }))
    }

    /// As [`run`](Self::run), of exact tiles by their places in the image.
    pub fn run_tiles(&self, tiles: Windows) -> Tensor<4> {
        let parts = tiles.chunk(self.num_devices());
        self.joined(self.network.run(parts, |network, device, mut tiles| {
            tiles.pixels = self.autocast.cast(tiles.pixels.to_device(device));
            self.read(network.forward_tiles(tiles))
        }))
    }

    /// Parts of a batch, in their order, on the main device.
    fn joined(&self, mut parts: Vec<Tensor<4>>) -> Tensor<4> {
        if parts.len() == 1 {
            return parts.remove(0);
        }
        let parts = parts.into_iter().map(|part| part.to_device(&self.device));
        Tensor::cat(parts.collect(), 0)
    }

    /// Devices that run parts of a batch side by side.
    pub fn num_devices(&self) -> usize {
        self.network.count()
    }

    /// What the network's output says, in f32.
    fn read(&self, output: Tensor<4>) -> Tensor<4> {
        self.task.read(output.cast(FloatDType::F32))
    }

    /// Planes of its result: one, or one a class.
    pub fn out_channels(&self) -> usize {
        self.task.classes().unwrap_or(1)
    }

    /// The network.
    pub fn network(&self) -> &UNet {
        self.network.main()
    }

    /// Pixels that the network makes one of, and the shortest side of an image.
    pub fn stride(&self) -> usize {
        1 << self.settings.depth
    }

    /// The precision that it computes in.
    pub fn precision(&self) -> Precision {
        self.autocast.precision()
    }

    /// Whether a layer is known whose result depends on the whole image.
    pub fn sees_everything(&self) -> bool {
        !global_layers(self.network()).is_empty()
    }
}

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
            runner: runner(settings, model.num_devices(), device),
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
            return settings.batch_size * self.model.num_devices();
        }
        let bytes = self.model.channels * window[0] * window[1] * size_of::<f32>();
        let most = (WAITING.get() as usize / bytes).max(settings.min_batch_size);
        most.min(settings.max_batch_size)
    }
}

/// Batches of one size, or of as many windows as memory allows.
fn runner(settings: &InferSettings, num_devices: usize, device: &Device) -> BatchRunner {
    let mut config = BatchSizeConfig::default();
    if !settings.auto_batch_size {
        let size = settings.batch_size * num_devices;
        (config.start, config.floor, config.ceiling) = (size, size, size);
        return BatchRunner::new(config);
    }
    let (floor, ceiling) = (settings.min_batch_size, settings.max_batch_size);
    (config.floor, config.ceiling) = (floor, ceiling);
    config.start = config.start.clamp(floor, ceiling);
    let threshold = settings.memory_threshold;
    let manager = MemoryManager::new(device, PressureConfig::above(threshold));
    let runner = BatchRunner::on(config, device).with_memory_manager(manager);
    if on_host(device) {
        runner.with_host_estimate(HostEstimate::default().with_share(threshold))
    } else {
        runner
    }
}

/// Loads weights that are not packed.
fn load_float(network: UNet, path: &Path) -> Result<UNet> {
    network.try_load_file(path).with_context(|| {
        let path = path.display();
        format!("cannot use the weights in {path}; choose another --model, or train again")
    })
}

/// Refuses several devices for packed weights: what stands for one takes its whole size on another device
/// than the first.
fn check_devices(network: &UNet, devices: &[Device]) -> Result<()> {
    if devices.iter().any(|device| *device != devices[0]) && is_packed(network) {
        bail!(UsageError(
            "--device: packed weights are for one device; name it alone, or give weights that are not \
             packed"
                .into()
        ));
    }
    Ok(())
}

/// The run in a folder, the shape of its network, and what it learned.
fn read_settings(root: &Path) -> Result<(RunDir, UNetNetworkSettings, Task)> {
    let model = RunDir::model_in(root)?;
    let (dir, mut network, task) = match model.as_str() {
        UNetSettings::MODEL => {
            let (dir, settings): (_, Settings<UNetSettings>) = open_run(root)?;
            let UNetData { loss, classes, .. } = settings.model.data;
            (dir, settings.model.image.network, Task::new(loss, classes))
        }
        WatermarkSettings::MODEL => {
            let (dir, settings): (_, Settings<WatermarkSettings>) = open_run(root)?;
            let task = Task::new(LossChoice::BceDice, None);
            (dir, settings.model.image.network, task)
        }
        _ => bail!(UsageError(format!(
            "{} holds a run of the model {model}, which is no U-Net; give one of train unet or train \
             watermark",
            root.display()
        ))),
    };
    // What the network started from is of no interest any more.
    network.weights = None;
    Ok((dir, network, task))
}

fn last_save(dir: &RunDir) -> Result<SavedState> {
    dir.latest()?.with_context(|| {
        let root = dir.root().display();
        format!(
            "the run in {root} saved nothing yet; train it until it has, or choose another --model"
        )
    })
}

fn read_normalization(root: &Path) -> Result<Normalization> {
    let path: PathBuf = root.join(NORMALIZATION_FILE);
    if fs::exists(&path).is_ok_and(|exists| !exists) {
        bail!(
            "{} does not say how its frames were normalised, as it was trained by an earlier build; \
             train it for one more step, with {} train unet --resume, and it will",
            root.display(),
            program()
        );
    }
    Ok(Normalization::load(path)?)
}
