//! One step on several devices.

use std::fmt;

use burn::module::Module;
use burn::tensor::Device;
use rayon::ThreadPool;

use super::micro_seeds::MicroSeeds;
use super::running_statistics::RunningStatistics;
use super::{MicroBatchTrainer, StepError, draw_parameters};
use crate::batch::Failure;
use crate::grad_checkpoint::holds_random_stream;
use crate::pools::pools;
use crate::precision::PrecisionError;
use replica::{Failed, Replica, Running, spread};

mod replica;

/// The trainers that one step has: one, or one for each of several networks that learn from each other.
pub trait MicroBatchTrainers: Send {
    /// All of them, always in the same order.
    fn trainers(&self) -> Vec<&MicroBatchTrainer>;

    /// All of them, in that order.
    fn trainers_mut(&mut self) -> Vec<&mut MicroBatchTrainer>;
}

impl MicroBatchTrainers for MicroBatchTrainer {
    fn trainers(&self) -> Vec<&MicroBatchTrainer> {
        vec![self]
    }

    fn trainers_mut(&mut self) -> Vec<&mut MicroBatchTrainer> {
        vec![self]
    }
}

/// Spreads the micro-batches of a step over devices, so that the step is the one that a single device makes.
///
/// Micro-batch *n* of a step, counted from 0, runs on device *n* modulo the number of devices, each device on a
/// thread of its own. A replica takes the parameters of the model when a step begins; its gradients go to the first device
/// and are added there in the order of the micro-batches. The optimizer, its state and the accumulated gradients are on the
/// first device alone, where [`MicroBatchTrainer::flush`] makes the step.
///
/// # Random numbers
/// Each micro-batch has a seed made of the step's and its number. burn has one random stream for the whole
/// process, so forward passes that draw take turns; backward passes run side by side. Where nothing is drawn, say
/// so by [`without_randomness`](Self::without_randomness), and forward passes do too.
///
/// # Batch normalization
/// Running statistics are those of the first replica, which sees the first of as many micro-batches as there are devices, or by
/// [`with_sync_batch_norm`](Self::with_sync_batch_norm) the mean of all replicas. They depend on the number of
/// devices, in either way; what is learned does not. It does where training itself reads running state, as spectral
/// normalization reads its estimates: there each replica moves a copy of its own from step to step.
///
/// # Memory
/// On each device a copy of the parameters, the activations of one micro-batch, and one set of gradients that waits for its turn. A
/// device that is named twice has its parameters once.
///
/// # Exactness
/// Devices of one kind: parameters are bit for bit those of one device. Others are as equal as their kernels are, and draw other random
/// numbers.
///
/// # Example
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::optim::SgdConfig;
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::train::{DataParallel, MicroBatchTrainer, MicroBatchTrainerConfig, MicroLoss};
///
/// let device = Device::flex().autodiff();
/// let mut model: Linear = LinearConfig::new(4, 1).init(&device);
/// let config = MicroBatchTrainerConfig::new();
/// let init = || config.init(SgdConfig::new().init());
/// let mut train = init();
/// let mut parallel = DataParallel::new(&[device.clone(), device.clone()], init)?;
///
/// let batches = [3, 1, 2].map(|num_items| Tensor::<2>::ones([num_items, 4], &device));
/// let ran = parallel.micro_batches(&mut train, &model, batches, |train: &mut MicroBatchTrainer, model, images| {
///     let num_items = images.dims()[0] as f64;
///     train.micro_batch(model, images, |m: &Linear, x| m.forward(x), |output| {
///         MicroLoss::mean(output.square().mean(), num_items)
///     });
/// });
/// ran?;
/// let (next, outcome) = train.flush(model, 0.1);
/// model = next;
/// # let _ = (model, outcome?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct DataParallel<T> {
    devices: Vec<Device>,
    /// Empty where there is one device, whose micro-batches run on the caller's thread.
    replicas: Vec<Replica<T>>,
    draws: bool,
    sync_batch_norm: bool,
}

impl<T> fmt::Debug for DataParallel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataParallel")
            .field("devices", &self.devices)
            .field("draws", &self.draws)
            .field("sync_batch_norm", &self.sync_batch_norm)
            .finish_non_exhaustive()
    }
}

/// Why there are no replicas.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum DataParallelError {
    /// Nothing to train on.
    #[error("training needs at least one device, got none")]
    NoDevices,
    /// A device that cannot compute in the precision of the trainers, which all devices have to.
    #[error("{device} cannot train with the others; leave it out, or train in f32")]
    UnsupportedPrecision {
        /// The device and the replica's number.
        device: String,
        /// What it lacks.
        source: PrecisionError,
    },
    /// The machine gives no threads.
    #[error("the thread of a replica could not be started")]
    Thread(#[source] rayon::ThreadPoolBuildError),
}

impl<T: MicroBatchTrainers> DataParallel<T> {
    /// Replicas on `devices`, of which the first one is that of the model; a device may be named several times.
    ///
    /// `init` makes trainers as the one that steps: of the same settings.
    ///
    /// # Errors
    /// If there is no device, or one cannot compute in the precision of the trainers.
    pub fn new(devices: &[Device], init: impl Fn() -> T) -> Result<Self, DataParallelError> {
        if devices.is_empty() {
            return Err(DataParallelError::NoDevices);
        }
        let name = |number: usize| format!("{} (replica {number})", name_of(&devices[number]));
        for trainer in init().trainers() {
            let precision = trainer.autocast().precision();
            for (number, device) in devices.iter().enumerate() {
                if let Err(source) = precision.check(device) {
                    let device = name(number);
                    return Err(DataParallelError::UnsupportedPrecision { device, source });
                }
            }
        }
        let pools = pools(devices).map_err(DataParallelError::Thread)?;
        let replica = |(number, pool): (usize, ThreadPool)| Replica {
            device: devices[number].clone(),
            name: name(number),
            train: init(),
            pool,
        };
        let replicas = pools.into_iter().enumerate().map(replica).collect();
        Ok(Self {
            devices: devices.to_vec(),
            replicas,
            draws: true,
            sync_batch_norm: false,
        })
    }

    /// Promises that micro-batches draw no random numbers by burn, and that nobody else does while a step runs on
    /// several devices. A step that draws some there is an error.
    #[must_use]
    pub fn without_randomness(mut self) -> Self {
        self.draws = false;
        self
    }

    /// Whether running statistics are the mean over the replicas, by what each has seen, instead of those of the first. The
    /// default is `false`.
    #[must_use]
    pub fn with_sync_batch_norm(mut self, sync: bool) -> Self {
        self.sync_batch_norm = sync;
        self
    }

    /// The devices, the first one being that of the model.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// Runs the micro-batches of one step and accumulates their gradients in `train`, which then makes the step.
    ///
    /// `micro_batch` runs one of them forward and backward, as it would on one device: through the trainers and the model that it
    /// gets, on the device of that model. Batch *n* has to be on device *n* modulo the number of devices, unless `micro_batch` moves
    /// it. Batches are taken from `batches` one by one, when there is a device for them.
    ///
    /// # Errors
    /// - If a replica panics or runs out of memory; names its device. On one device, a panic is passed on.
    /// - If random numbers were drawn that were promised not to be.
    ///
    /// What was accumulated is dropped, and the model is as before.
    ///
    /// # Panics
    /// If there are several devices and the calling thread [holds](crate::grad_checkpoint::hold_random_stream) the
    /// random stream, for which the replicas would wait.
    pub fn micro_batches<M: Module, B: Send>(
        &mut self,
        train: &mut T,
        model: &M,
        batches: impl IntoIterator<Item = B>,
        micro_batch: impl Fn(&mut T, &M, B) + Sync,
    ) -> Result<(), StepError> {
        assert!(
            self.replicas.is_empty() || !holds_random_stream(),
            "the random stream must be free for the replicas' threads, got a step on several devices \
             from a thread that holds it: drop the guard of `hold_random_stream` first"
        );
        for trainer in train.trainers_mut() {
            trainer.group.expect_replicas();
        }
        let num_trainers = train.trainers().len();
        // Before the step has a seed: what a replica draws of them would be something else on another number of devices.
        draw_parameters(model);
        let seeds = MicroSeeds::draw(&self.devices, self.draws);
        let run = |number: usize, (train, model, device): Running<'_, T, M>, batch: B| {
            seeds.run(number, device, num_trainers, || {
                micro_batch(train, model, batch)
            });
        };
        let ran = if self.replicas.is_empty() {
            let batches = batches.into_iter().enumerate();
            batches.for_each(|(number, batch)| {
                run(number, (&mut *train, model, &self.devices[0]), batch);
            });
            Ok(())
        } else {
            spread(&mut self.replicas, train, model, batches.into_iter(), run).map(|seen| {
                let mut seen = seen.into_iter();
                let statistics = match self.sync_batch_norm {
                    true => RunningStatistics::mean(model, seen),
                    false => seen.next().map(|(statistics, _)| statistics),
                };
                if let Some(statistics) = statistics {
                    statistics.restore(model);
                }
            })
        };
        let step = train.trainers()[0].state().steps + 1;
        let kept = seeds.end();
        let error = match ran {
            Ok(()) if kept => return Ok(()),
            Ok(()) => StepError::Randomness { step },
            Err(Failed { device, panic }) => {
                let text = Failure::panic_text(&*panic).to_owned();
                if Failure::of_text(&text).is_out_of_memory() {
                    train.trainers_mut()[0].group.out_of_memory = Some(text.clone().into());
                }
                let source = text.into();
                StepError::Replica {
                    step,
                    device,
                    source,
                }
            }
        };
        for trainer in train.trainers_mut() {
            trainer.group.undo(model);
        }
        Err(error)
    }
}

/// The device, without what burn says of its settings.
fn name_of(device: &Device) -> String {
    format!("{:?}", device.clone().without_autodiff().as_dispatch())
}
