//! burn-train's `SupervisedTraining` with gradient checkpointing, f16 and
//! accumulation. Its dashboard needs the feature `tui`.

use burn::data::dataloader::{DataLoaderBuilder, batcher::Batcher};
use burn::data::dataset::InMemDataset;
use burn::nn::{Linear, LinearConfig, loss::MseLoss, loss::Reduction};
use burn::tensor::{Device, Tensor};
use burn::train::{self, SupervisedTraining, metric::LossMetric};
use burn::train::{Learner, RegressionOutput, TrainOutput};
use burn::{lr_scheduler::constant::ConstantLr, module::Module, optim::AdamConfig};
use burn_memopt::prelude::*;

type Batch = (Tensor<2>, Tensor<2>);

#[derive(Module, Debug)]
struct Net {
    layers: Vec<Linear>,
}

impl MicroStep for Net {
    fn micro_step(&self, (x, y): Batch, autocast: &Autocast) -> (MicroLoss, RegressionOutput) {
        let num_items = x.dims()[0] as f64;
        let layer = |layer: &Linear, x: Tensor<2>| layer.forward(x.sin());
        let forward = |net: &Self, x| checkpoint_sequential(&net.layers, 2, x, layer);
        let output = autocast.run(self, x, forward);
        let loss = MseLoss::new().forward(output.clone(), y.clone(), Reduction::Mean);
        let micro_loss = MicroLoss::mean(loss.clone(), num_items);
        (micro_loss, RegressionOutput::new(loss, output, y))
    }
}

impl train::TrainStep for Net {
    type Input = Batch;
    type Output = RegressionOutput;
    fn step(&self, batch: Batch) -> TrainOutput<RegressionOutput> {
        self.plain_step(batch)
    }
}

impl train::InferenceStep for Net {
    type Input = Batch;
    type Output = RegressionOutput;
    fn step(&self, batch: Batch) -> RegressionOutput {
        self.micro_step(batch, &Autocast::default()).1
    }
}

struct Parabola;

impl Batcher<f32, Batch> for Parabola {
    fn batch(&self, items: Vec<f32>, device: &Device) -> Batch {
        let x = Tensor::<1>::from_floats(items.as_slice(), device).unsqueeze_dim(1);
        (x.clone(), x.square())
    }
}

fn main() {
    let device = Device::flex().autodiff();
    let layers = [[1, 32], [32, 32], [32, 32], [32, 1]];
    let layer = |[from, to]: [usize; 2]| LinearConfig::new(from, to).init(&device);
    let layers = layers.map(layer).to_vec();
    let (net, adam) = (Net { layers }, AdamConfig::new().init());
    let learner = Learner::new(net, adam, ConstantLr::new(0.01));
    let items = InMemDataset::new((0..256).map(|i| i as f32 / 128.0 - 1.0).collect());
    let data = DataLoaderBuilder::new(Parabola).batch_size(8).shuffle(1);
    let data = data.build(items);

    let folder = std::env::temp_dir().join("supervised-training");
    let training = SupervisedTraining::new(&folder, data.clone(), data).num_epochs(4);
    let config = MicroBatchTrainerConfig::new().with_precision(Precision::F16);
    let strategy = MicroBatchStrategy::new(config.with_accumulation_steps(2), device);
    let training = strategy.attach(training.metrics((LossMetric::new(),)), &folder);
    let result = training.launch(learner);

    let parabola = Parabola.batch(vec![-0.5, 0.1, 0.8], &Device::flex());
    let output = train::InferenceStep::step(&result.model, parabola);
    assert!(output.loss.into_scalar::<f32>() < 0.05);
}
