//! A small model, its data and a run of `SupervisedTraining` on them.
#![allow(dead_code, missing_docs)]

use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::config::Config;
use burn::data::dataloader::{DataLoader, DataLoaderBuilder, batcher::Batcher};
use burn::data::dataset::InMemDataset;
use burn::lr_scheduler::exponential::ExponentialLrSchedulerConfig;
use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::loss::{MseLoss, Reduction};
use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig};
use burn::optim::{AdamConfig, ModuleOptimizer};
use burn::tensor::{Device, Tensor, TensorData};
use burn::train::checkpoint::KeepLastNCheckpoints;
use burn::train::metric::{LearningRateMetric, LossMetric};
use burn::train::{
    InferenceStep, Interruption, Learner, RegressionOutput, SupervisedTraining, TrainOutput,
    TrainStep, TrainingError,
};
use burn_memopt::grad_checkpoint::grad_checkpoint;
use burn_memopt::precision::{Autocast, batch_norm};
use burn_memopt::train::{
    MicroBatchStrategy, MicroBatchTrainerConfig, MicroLoss, MicroStep, TrainState,
};
use tempfile::TempDir;

mod recorder;
use recorder::Recorder;

/// Random numbers are drawn from one stream in the process: tests take turns, each from the same seed.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    device().seed(1);
    turn
}

pub fn device() -> Device {
    Device::flex().autodiff()
}

#[derive(Clone, Debug)]
pub struct Item {
    pub x: [f32; 4],
    pub y: f32,
    /// Multiplies the loss of the batch; large enough, it overflows.
    pub factor: f32,
}

/// Eleven items, so that the last batch is smaller.
pub fn items() -> Vec<Item> {
    let item = |index: usize| {
        let x = [0, 1, 2, 3].map(|k| ((index * 7 + k * 3) % 11) as f32 / 11.0 - 0.5);
        let y = x[0] - 2.0 * x[1] + 0.5 * x[3];
        let factor = 1.0;
        Item { x, y, factor }
    };
    (0..11).map(item).collect()
}

#[derive(Clone, Debug)]
pub struct Batch {
    x: Tensor<2>,
    y: Tensor<2>,
    factor: f32,
}

struct Batches;

impl Batcher<Item, Batch> for Batches {
    fn batch(&self, items: Vec<Item>, device: &Device) -> Batch {
        let rows = items.len();
        let x: Vec<f32> = items.iter().flat_map(|item| item.x).collect();
        let y: Vec<f32> = items.iter().map(|item| item.y).collect();
        Batch {
            x: Tensor::from_data(TensorData::new(x, [rows, 4]), device),
            y: Tensor::from_data(TensorData::new(y, [rows, 1]), device),
            factor: items.iter().fold(1.0, |max, item| item.factor.max(max)),
        }
    }
}

#[derive(Config, Debug)]
pub struct NetConfig {
    #[config(default = false)]
    batch_norm: bool,
    #[config(default = 0.0)]
    dropout: f64,
    #[config(default = false)]
    segment: bool,
    #[config(default = 8)]
    width: usize,
    /// Layers between the hidden and the last one.
    #[config(default = 0)]
    depth: usize,
}

impl NetConfig {
    /// A network whose parameters are drawn.
    pub fn init(&self) -> Net {
        let device = device();
        let width = self.width;
        let layer = LinearConfig::new(width, width);
        let net = Net {
            hidden: Hidden {
                layer: LinearConfig::new(4, width).init(&device),
                norm: self
                    .batch_norm
                    .then(|| BatchNormConfig::new(width).init(&device)),
                dropout: DropoutConfig::new(self.dropout).init(),
            },
            deep: (0..self.depth).map(|_| layer.init(&device)).collect(),
            last: LinearConfig::new(width, 1).init(&device),
            segment: self.segment,
        };
        parameters(&net);
        net
    }
}

#[derive(Module, Debug)]
pub struct Net {
    hidden: Hidden,
    deep: Vec<Linear>,
    last: Linear,
    segment: bool,
}

#[derive(Module, Debug)]
struct Hidden {
    layer: Linear,
    norm: Option<BatchNorm>,
    dropout: Dropout,
}

impl Hidden {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = self.layer.forward(x).tanh();
        let x = match &self.norm {
            Some(norm) => batch_norm(norm, x),
            None => x,
        };
        self.dropout.forward(x)
    }
}

impl Net {
    pub fn with_segment(mut self, segment: bool) -> Self {
        self.segment = segment;
        self
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = match self.segment {
            true => grad_checkpoint(&self.hidden, x, |hidden: &Hidden, x| hidden.forward(x)),
            false => self.hidden.forward(x),
        };
        let x = self.deep.iter().fold(x, |x, layer| layer.forward(x).tanh());
        self.last.forward(x)
    }

    fn output(&self, batch: Batch, autocast: &Autocast) -> RegressionOutput {
        let output = autocast.run(self, batch.x, |net, x| net.forward(x));
        let loss = MseLoss::new().forward(output.clone(), batch.y.clone(), Reduction::Mean);
        RegressionOutput::new(loss * batch.factor, output, batch.y)
    }
}

impl MicroStep for Net {
    fn micro_step(&self, batch: Batch, autocast: &Autocast) -> (MicroLoss, RegressionOutput) {
        let num_items = batch.x.dims()[0] as f64;
        let output = self.output(batch, autocast);
        (MicroLoss::mean(output.loss.clone(), num_items), output)
    }
}

impl TrainStep for Net {
    type Input = Batch;
    type Output = RegressionOutput;

    fn step(&self, batch: Batch) -> TrainOutput<RegressionOutput> {
        self.plain_step(batch)
    }
}

impl InferenceStep for Net {
    type Input = Batch;
    type Output = RegressionOutput;

    fn step(&self, batch: Batch) -> RegressionOutput {
        self.output(batch, &Autocast::default())
    }
}

/// The values of all parameters and running statistics.
pub fn parameters(net: &Net) -> Vec<f32> {
    struct Values(Vec<f32>);
    impl ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let values = param.val().into_data().try_into_vec::<f32>();
            self.0.extend(values.expect("f32"));
        }
    }
    let mut values = Values(Vec::new());
    net.valid().visit(&mut values);
    values.0
}

type Training = SupervisedTraining<Net>;

/// What a run is made of. The default is three epochs of burn's own strategy.
pub struct Run {
    net: Net,
    items: Vec<Item>,
    batch_size: usize,
    epochs: usize,
    step: Option<MicroBatchTrainerConfig>,
    shuffle: Option<u64>,
    seed: Option<u64>,
    kept: usize,
    resume: Option<(usize, TempDir)>,
    device: Device,
    others: Vec<Device>,
    optimizer: ModuleOptimizer,
    training: Box<dyn FnOnce(Training) -> Training>,
}

/// What came of a run.
pub struct Finished {
    pub model: Net,
    /// What a dashboard would have shown.
    pub shown: Vec<String>,
    pub dir: TempDir,
    pub interrupted: Option<Interruption>,
    pub error: Option<Arc<TrainingError>>,
}

impl Run {
    pub fn new(net: &Net) -> Self {
        // Running statistics are shared between clones: this gives new ones.
        Self {
            net: net.valid().train(),
            items: items(),
            batch_size: 4,
            epochs: 3,
            step: None,
            shuffle: None,
            seed: None,
            kept: 9,
            resume: None,
            device: device(),
            others: Vec::new(),
            optimizer: AdamConfig::new().init(),
            training: Box::new(|training| training),
        }
    }

    pub fn with_items(self, items: Vec<Item>) -> Self {
        Self { items, ..self }
    }

    pub fn with_batch_size(self, batch_size: usize) -> Self {
        Self { batch_size, ..self }
    }

    pub fn with_epochs(self, epochs: usize) -> Self {
        Self { epochs, ..self }
    }

    /// Trains with the strategy under test.
    pub fn with_step(self, step: MicroBatchTrainerConfig) -> Self {
        let step = Some(step);
        Self { step, ..self }
    }

    pub fn with_shuffle(self, seed: u64) -> Self {
        let shuffle = Some(seed);
        Self { shuffle, ..self }
    }

    pub fn with_seed(self, seed: u64) -> Self {
        let seed = Some(seed);
        Self { seed, ..self }
    }

    pub fn with_kept_checkpoints(self, kept: usize) -> Self {
        Self { kept, ..self }
    }

    /// Goes on where another run ended, in its folder.
    pub fn with_resume(self, epoch: usize, run: Finished) -> Self {
        let resume = Some((epoch, run.dir));
        Self { resume, ..self }
    }

    /// The device trained on; the network comes from another one.
    pub fn with_device(self, device: Device) -> Self {
        Self { device, ..self }
    }

    /// Further devices beside it.
    pub fn with_others(self, others: Vec<Device>) -> Self {
        Self { others, ..self }
    }

    pub fn with_optimizer(self, optimizer: ModuleOptimizer) -> Self {
        Self { optimizer, ..self }
    }

    pub fn with_training(self, training: impl FnOnce(Training) -> Training + 'static) -> Self {
        let training = Box::new(training);
        Self { training, ..self }
    }

    fn loader(&self, shuffle: Option<u64>) -> Arc<dyn DataLoader<Batch>> {
        let builder = DataLoaderBuilder::new(Batches).batch_size(self.batch_size);
        let builder = match shuffle {
            Some(seed) => builder.shuffle(seed),
            None => builder,
        };
        builder.build(InMemDataset::new(self.items.clone()))
    }

    pub fn launch(self) -> Finished {
        let (train, valid) = (self.loader(self.shuffle), self.loader(None));
        let (resume, dir) = match self.resume {
            Some((epoch, dir)) => (Some(epoch), dir),
            None => (None, tempfile::tempdir().expect("a temporary folder")),
        };
        let recorder = Recorder::default();
        let mut training = SupervisedTraining::new(dir.path(), train, valid)
            .num_epochs(self.epochs)
            .with_application_logger(None)
            .with_checkpointing_strategy(KeepLastNCheckpoints::new(self.kept))
            .renderer(Box::new(recorder.clone()))
            .metric_train_numeric(LearningRateMetric::new())
            .metric_train_numeric(LossMetric::new())
            .metric_valid_numeric(LossMetric::new());
        if let Some(epoch) = resume {
            training = training.checkpoint(epoch);
        }
        if let Some(step) = self.step {
            let strategy = MicroBatchStrategy::new(step, self.device).with_devices(self.others);
            let strategy = match self.seed {
                Some(seed) => strategy.with_seed(seed),
                None => strategy,
            };
            training = strategy.attach(training, dir.path());
        }
        let schedule = ExponentialLrSchedulerConfig::new(0.01, 0.9).init();
        let schedule = schedule.expect("a valid schedule");
        let learner = Learner::new(self.net, self.optimizer, schedule);
        let result = (self.training)(training).launch(learner);
        Finished {
            model: result.model,
            shown: recorder.events(),
            dir,
            interrupted: result.interrupted,
            error: result.error,
        }
    }
}

impl Finished {
    pub fn log(&self, path: &str) -> String {
        let log = fs::read_to_string(self.dir.path().join(path));
        log.unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub fn has(&self, path: &str) -> bool {
        self.dir.path().join(path).exists()
    }

    pub fn state(&self, epoch: usize) -> TrainState {
        let json = self.log(&format!("checkpoint/step-{epoch}.json"));
        serde_json::from_str(&json).expect("a state")
    }
}
