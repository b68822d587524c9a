//! Training for long, with every technique on, keeps no memory.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, PaddingConfig2d};
use burn::optim::AdamConfig;
use burn::tensor::{Device, Distribution, Tensor, activation};
use burn_memopt::grad_checkpoint::grad_checkpoint;
use burn_memopt::gradients::Clipping;
use burn_memopt::memory::{self, CountingAllocator, Leak, MemoryTracker};
use burn_memopt::precision::{AutocastPolicy, LossScalerConfig, Precision, batch_norm};
use burn_memopt::train::{MicroBatchTrainerConfig, MicroLoss, StepOutcome};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

#[derive(Module, Debug)]
struct Block {
    conv: Conv2d,
    norm: BatchNorm,
}

impl Block {
    fn new(channels: [usize; 2], device: &Device) -> Self {
        let padding = PaddingConfig2d::Explicit(1, 1, 1, 1);
        Self {
            conv: Conv2dConfig::new(channels, [3, 3])
                .with_padding(padding)
                .init(device),
            norm: BatchNormConfig::new(channels[1]).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        activation::relu(batch_norm(&self.norm, self.conv.forward(x)))
    }
}

#[derive(Module, Debug)]
struct Net {
    blocks: Vec<Block>,
    last: Conv2d,
}

impl Net {
    fn new(device: &Device) -> Self {
        let channels = [[1, 4], [4, 4], [4, 4]];
        Self {
            blocks: channels.map(|pair| Block::new(pair, device)).to_vec(),
            last: Conv2dConfig::new([4, 1], [1, 1]).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = self.blocks.iter().fold(x, |x, block| {
            grad_checkpoint(block, x, |block: &Block, x| block.forward(x))
        });
        self.last.forward(x)
    }
}

const STEPS: usize = 2_000;
const SETTLED: usize = 200;

#[test]
fn live_bytes_stay_constant_over_two_thousand_steps_with_every_technique_on() {
    let device = Device::flex().autodiff();
    let mut net = Net::new(&device);
    let mut train = MicroBatchTrainerConfig::new()
        .with_precision(Precision::F16)
        .with_policy(AutocastPolicy::default().keep_type("BatchNorm"))
        // Grows back between the steps that are skipped, of which twenty would halve it to nothing.
        .with_loss_scaler(Some(LossScalerConfig::new().with_growth_interval(40)))
        .with_accumulation_steps(2)
        .with_clipping(Some(Clipping::Norm(1.0)))
        .init(AdamConfig::new().init());
    let mut tracker = MemoryTracker::of_device(&device);
    let live = || memory::live().expect("the allocator is installed").get();
    let (before, mut settled, mut skipped) = (live(), 0, 0);

    for step in 1..=STEPS {
        // Skipped steps must leave nothing behind either.
        let factor = if step % 100 == 50 { 1e36 } else { 1.0 };
        for _ in 0..2 {
            let x = Tensor::<4>::random([2, 1, 8, 8], Distribution::Default, &device);
            train.micro_batch(&net, x.clone(), Net::forward, |y| {
                MicroLoss::mean((y - x).square().mean() * factor, 2.0)
            });
        }
        let (next, outcome) = train.step(net, 1e-3);
        net = next;
        match outcome.expect("neither NaN nor fifty overflows in a row") {
            StepOutcome::Stepped { .. } => {}
            StepOutcome::Skipped { .. } => skipped += 1,
            other => panic!("every second micro-batch ends a group, got {other:?}"),
        }
        tracker.sample(step);
        if step == SETTLED {
            settled = live();
        }
    }

    assert!(skipped >= STEPS / 100, "{skipped} steps were skipped");
    let (settled, last) = (settled as f64, live() as f64);
    assert!((last / settled - 1.0).abs() < 0.01, "{settled} {last}");
    // Stricter: of what training itself keeps, without the process around it.
    let growth = (last - settled) / (settled - before as f64);
    assert!(growth.abs() < 0.01, "{before} {settled} {last}");
    assert_eq!(tracker.leak_verdict(), Leak::Stable);
}
