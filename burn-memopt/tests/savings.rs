//! Every technique saves memory: peaks and live bytes, counted exactly.

mod counting;

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::SgdConfig;
use burn::tensor::{Device, Distribution, Tensor, activation};
use burn_memopt::grad_checkpoint::Policy;
use burn_memopt::memory::{self, PeakMeter, PeakMethod};
use burn_memopt::precision::{AutocastPolicy, Precision, batch_norm, full_precision};
use burn_memopt::train::{MicroBatchTrainerConfig, MicroLoss, StepOutcome};
use counting::turn;

fn device() -> Device {
    Device::flex().autodiff()
}

#[derive(Module, Debug)]
struct Block {
    conv: Conv2d,
    norm: BatchNorm,
}

impl Block {
    fn new(device: &Device) -> Self {
        let conv = Conv2dConfig::new([CHANNELS, CHANNELS], [3, 3]);
        let padding = PaddingConfig2d::Explicit(1, 1, 1, 1);
        Self {
            conv: conv.with_padding(padding).init(device),
            norm: BatchNormConfig::new(CHANNELS).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        activation::relu(batch_norm(&self.norm, self.conv.forward(x)))
    }
}

const CHANNELS: usize = 8;
const NUM_BLOCKS: usize = 16;
const BATCH_SIZE: usize = 8;
const SIZE: usize = 32;
/// Rows of the input of an island.
const ROWS: usize = 8192;

/// A training step on a batch of eight; the default is plain f32.
#[derive(Clone, Copy)]
struct Step {
    policy: Policy,
    precision: Precision,
    micro_batches: usize,
}

const PLAIN: Step = Step {
    policy: Policy::None,
    precision: Precision::F32,
    micro_batches: 1,
};

/// The highest live bytes of a step above those before it.
fn peak(step: Step) -> u64 {
    let device = device();
    let blocks: Vec<_> = (0..NUM_BLOCKS).map(|_| Block::new(&device)).collect();
    let shape = [BATCH_SIZE, CHANNELS, SIZE, SIZE];
    let images = Tensor::<4>::random(shape, Distribution::Default, &device);
    let micro_batches = images.split(BATCH_SIZE / step.micro_batches, 0);
    let mut train = MicroBatchTrainerConfig::new()
        .with_precision(step.precision)
        .with_policy(AutocastPolicy::default().keep_type("BatchNorm"))
        .with_accumulation_steps(step.micro_batches)
        .init(SgdConfig::new().init());

    let mut run = |blocks: Vec<Block>| {
        for images in &micro_batches {
            let forward = |blocks: &Vec<Block>, x| {
                step.policy
                    .run(blocks, x, |block: &Block, x| block.forward(x))
            };
            train.micro_batch(&blocks, images.clone(), forward, |y| {
                MicroLoss::mean(y.mean(), images.dims()[0] as f64)
            });
        }
        let (blocks, outcome) = train.step(blocks, 1e-3);
        let outcome = outcome.expect("no error");
        assert!(
            matches!(outcome, StepOutcome::Stepped { .. }),
            "{outcome:?}"
        );
        blocks
    };
    // The first step draws the parameters.
    let blocks = run(blocks);
    let meter = PeakMeter::start(&device);
    run(blocks);
    let reading = meter.finish();
    assert_eq!(reading.method, PeakMethod::Exact);
    reading.peak.expect("the allocator is installed").get()
}

#[track_caller]
fn assert_saves(step: Step, at_most: f64) {
    let _turn = turn();
    let (plain, saving) = (peak(PLAIN), peak(step));
    let ratio = saving as f64 / plain as f64;
    println!("{saving} of {plain} bytes: {ratio:.3}");
    assert!(ratio <= at_most, "{saving} of {plain} bytes: {ratio:.3}");
}

#[test]
fn a_checkpointed_chain_keeps_boundaries_and_one_segment() {
    let policy = Policy::Segments(4);
    // 0.40 where two threads have buffers in both steps; on a busy machine one may not.
    assert_saves(Step { policy, ..PLAIN }, 0.41);
}

#[test]
fn accumulation_keeps_one_micro_batch() {
    let micro_batches = 8;
    assert_saves(
        Step {
            micro_batches,
            ..PLAIN
        },
        0.25,
    );
}

#[test]
fn autocast_keeps_half_precision_activations_of_batch_normed_networks() {
    let precision = Precision::F16;
    assert_saves(Step { precision, ..PLAIN }, 0.62);
}

#[test]
fn the_techniques_add_up() {
    let step = Step {
        policy: Policy::Segments(4),
        precision: Precision::F16,
        micro_batches: 8,
    };
    assert_saves(step, 0.12);
}

#[test]
fn an_island_keeps_only_its_half_precision_input_until_the_backward_pass() {
    let _turn = turn();
    let live = || memory::live().expect("the allocator is installed").get();
    let layer: Linear = LinearConfig::new(64, 64).init(&device());
    // Softmax, exponential and logarithm in f32: plain, each keeps an f32 tensor.
    let forward =
        |layer: &Linear, x: Tensor<2>| activation::log_softmax(layer.forward(x), 1).exp().log();
    let kept = |precision: Precision| {
        let x = Tensor::<2>::random([ROWS, 64], Distribution::Default, &device());
        let x = x.cast(precision.dtype());
        let before = live();
        let y = full_precision(&layer, x, forward);
        let kept = live() - before;
        // The island's input is the caller's tensor; its output is new.
        assert_eq!(y.dtype(), precision.dtype().into());
        let grads = y.sum().backward();
        assert!(layer.weight.val().grad(&grads).is_some());
        kept
    };
    // A thread of the backend keeps a buffer from its first product on, which comes late on a busy machine.
    let least = |precision| (0..4).map(|_| kept(precision)).min().expect("four runs");
    let (half, full) = (least(Precision::F16), least(Precision::F32));
    // The graph's own records do not depend on the size of tensors.
    let (output, records) = ((ROWS * 64 * 2) as u64, 32 << 10);
    assert!(half < output + records, "{half} bytes, expected {output}");
    assert!(full > 4 * half, "{full} bytes in f32, {half} in f16");
}
