//! Steps that run out of memory: what a run that began with smaller micro-batches gives is the oracle.

use burn::module::{Module, Param};
use burn::optim::AdamConfig;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use burn_memopt::grad_checkpoint::hold_random_stream;
use burn_memopt::train::{
    MicroBatchTrainer, MicroBatchTrainerConfig, MicroBatches, MicroLoss, StepError, StepOutcome,
};
mod blocks;

use blocks::{Block, values};

const NUM_STEPS: usize = 4;

fn train_step() -> MicroBatchTrainer {
    MicroBatchTrainerConfig::new()
        .with_undo_updates(true)
        .init(AdamConfig::new().init())
}

/// What becomes of micro-batches of more than two images, in the first step.
#[derive(Clone, Copy, PartialEq)]
enum Failure {
    /// They fit.
    None,
    /// The device says that memory is short.
    OutOfMemory,
    /// The next one cannot be loaded.
    Loading,
}

#[derive(Debug)]
struct LoadError;

impl From<StepError> for LoadError {
    fn from(error: StepError) -> Self {
        panic!("{error}")
    }
}

struct Course {
    losses: Vec<f64>,
    parameters: Vec<TensorData>,
    parts: MicroBatches,
}

/// Trains on batches of eight images; more than two at once are too many where memory is short.
fn course(size: usize, failure: Failure) -> Course {
    let device = Device::flex().autodiff();
    let _stream = hold_random_stream().seeded(&device, 3);
    let mut model = blocks::initialised(Block::new(4, true, 0.2, &device));
    let mut train = train_step();
    let mut parts = MicroBatches::new(size, 8 / size);
    let mut losses = Vec::new();
    for step in 0..NUM_STEPS {
        device.seed(100 + step as u64);
        let images = Tensor::<4>::random([8, 4, 8, 8], Distribution::Default, &device);
        let run = |train: &mut MicroBatchTrainer, model: &Block, size: usize| {
            device.seed(200 + step as u64);
            for (number, images) in images.clone().split(size, 0).into_iter().enumerate() {
                let forward = |model: &Block, images: Tensor<4>| {
                    let output = model.forward(images);
                    // The last one: statistics were updated, and gradients accumulated.
                    let fails = step == 0 && size > 2 && (number + 1) * size == 8;
                    assert!(
                        !(fails && failure == Failure::OutOfMemory),
                        "can't allocate buffer of size: 64"
                    );
                    output
                };
                let loss = |output: Tensor<4>| MicroLoss::mean(output.square().mean(), size as f64);
                train.micro_batch(model, images, forward, loss);
            }
            match failure {
                Failure::Loading => Err(LoadError),
                _ => Ok(()),
            }
        };
        let (next, outcome) = train.step_in_parts(model, 0.01, &mut parts, run);
        model = next;
        match outcome {
            Ok(StepOutcome::Stepped { loss, .. }) => losses.push(loss),
            Ok(other) => panic!("{other:?}"),
            Err(LoadError) => break,
        }
    }
    let parameters = values(&model);
    Course {
        losses,
        parameters,
        parts,
    }
}

#[test]
fn a_step_that_lacks_memory_is_made_in_smaller_parts() {
    let wanted = course(2, Failure::None);
    let got = course(8, Failure::OutOfMemory);
    assert_eq!(got.parts.tried(), [8, 4]);
    assert_eq!((got.parts.size(), got.parts.accumulation_steps()), (2, 4));
    assert_eq!(got.losses, wanted.losses);
    assert_eq!(got.parameters, wanted.parameters);
}

#[test]
fn a_step_that_fails_otherwise_leaves_no_trace() {
    let device = Device::flex().autodiff();
    let _stream = hold_random_stream().seeded(&device, 3);
    let wanted = values(&blocks::initialised(Block::new(4, true, 0.2, &device)));
    let got = course(8, Failure::Loading);
    assert!(got.losses.is_empty());
    assert_eq!(got.parameters, wanted);
    assert!(got.parts.tried().is_empty());
}

#[test]
fn where_not_even_one_item_fits_the_sizes_are_named() {
    let _stream = hold_random_stream();
    let device = Device::flex().autodiff();
    let model = blocks::initialised(Block::new(4, true, 0.0, &device));
    let before = values(&model);
    let mut parts = MicroBatches::new(6, 2);
    let mut train = train_step();
    let (model, outcome) = train.step_in_parts(model, 0.1, &mut parts, |train, model, _| {
        let forward = |model: &Block, images| -> Tensor<4> {
            let _ = model.forward(images);
            panic!("can't allocate buffer of size: 64")
        };
        let images = blocks::image(4, &device);
        let loss = |output: Tensor<4>| MicroLoss::mean(output.mean(), 1.0);
        train.micro_batch(model, images, forward, loss);
        Ok::<_, StepError>(())
    });
    let error = outcome.unwrap_err().to_string();
    assert!(error.contains("for micro-batches of 6, 3, 1;"), "{error}");
    assert_eq!(values(&model), before);
    assert_eq!(train.state().steps, 0);
}

#[test]
#[should_panic(expected = "a bug in the model")]
fn a_panic_for_another_reason_goes_on() {
    let device = Device::flex().autodiff();
    let model = Block::new(4, false, 0.0, &device);
    let run = |_: &mut MicroBatchTrainer, _: &Block, _| -> Result<(), StepError> {
        panic!("a bug in the model")
    };
    let mut parts = MicroBatches::new(8, 1);
    let _ = train_step().step_in_parts(model, 0.1, &mut parts, run);
}

/// A scale, and a buffer that grows with the square of the batch: 16 MiB for one item, 1 GiB for
/// eight, which software Vulkan refuses. What it computes is the same for each item, whatever
/// stands beside it.
#[cfg(feature = "wgpu")]
#[derive(Module, Debug)]
struct Hungry {
    scale: Param<Tensor<1>>,
}

#[cfg(feature = "wgpu")]
impl Hungry {
    const LEN: usize = 4 << 20;

    fn forward(&self, items: Tensor<1>) -> Tensor<1> {
        let num_items = items.dims()[0];
        let wide = (items * self.scale.val())
            .reshape([num_items, 1])
            .repeat_dim(1, num_items * Self::LEN);
        wide.mean_dim(1).reshape([num_items])
    }
}

#[cfg(feature = "wgpu")]
fn hungry_losses(size: usize, device: &Device) -> (Vec<f64>, f32, MicroBatches) {
    let scale = Param::from_tensor(Tensor::from_floats([2.0], device));
    let mut model = Hungry { scale };
    let mut train = train_step();
    let mut parts = MicroBatches::new(size, 8 / size);
    let mut losses = Vec::new();
    for _ in 0..2 {
        let run = |train: &mut MicroBatchTrainer, model: &Hungry, size: usize| {
            let items = Tensor::<1>::from_floats([1., 2., 3., 4., 5., 6., 7., 8.], device);
            for items in items.split(size, 0) {
                let loss = |output: Tensor<1>| MicroLoss::sum(output.square().sum(), size as f64);
                train.micro_batch(model, items, Hungry::forward, loss);
            }
            Ok::<_, StepError>(())
        };
        let (next, outcome) = train.step_in_parts(model, 0.1, &mut parts, run);
        model = next;
        match outcome.unwrap() {
            StepOutcome::Stepped { loss, .. } => losses.push(loss),
            other => panic!("{other:?}"),
        }
    }
    (losses, model.scale.val().into_scalar(), parts)
}

#[cfg(feature = "wgpu")]
#[test]
fn a_real_allocation_failure_halves_the_micro_batch_and_changes_no_loss() {
    let Some(device) = blocks::gpu_device() else {
        return;
    };
    let (losses, scale, parts) = hungry_losses(8, &device);
    let (wanted, wanted_scale, _) = hungry_losses(parts.size(), &device);
    for (loss, wanted) in losses.iter().zip(&wanted) {
        assert!(
            (loss - wanted).abs() <= 1e-5 * wanted,
            "{losses:?} is not {wanted:?}"
        );
    }
    assert!(
        (scale - wanted_scale).abs() <= 1e-5,
        "{scale} is not {wanted_scale}"
    );
    assert!(losses[1] < losses[0], "{losses:?}");
    let buffer = Tensor::<1>::ones([64 * Hungry::LEN], &device) + 1.0;
    if buffer.narrow(0, 0, 1).try_into_data().is_err() {
        assert_eq!(parts.tried().first(), Some(&8));
    }
}
