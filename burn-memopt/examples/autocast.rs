//! A training loop of your own in f16: half-precision activations, f32
//! parameters, a loss that is scaled and steps that are skipped on overflow.

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::AdamConfig;
use burn::tensor::{DType, Device, Distribution, Tensor};
use burn_memopt::prelude::*;

#[derive(Module, Debug)]
struct Net {
    first: Linear,
    last: Linear,
}

impl Net {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.last.forward(self.first.forward(x).tanh())
    }
}

fn main() -> Result<(), StepError> {
    let device = Device::flex().autodiff();
    device.seed(1);
    let mut net = Net {
        first: LinearConfig::new(2, 32).init(&device),
        last: LinearConfig::new(32, 1).init(&device),
    };
    let mut train = MicroBatchTrainerConfig::new()
        .with_precision(Precision::F16)
        .with_accumulation_steps(2)
        .with_clipping(Some(Clipping::Norm(1.0)))
        .init(AdamConfig::new().init());

    let (mut losses, mut skipped) = (Vec::new(), 0);
    for _ in 0..400 {
        let x = Tensor::<2>::random([16, 2], Distribution::Uniform(-1.0, 1.0), &device);
        let target = x.clone().sin().sum_dim(1);
        train.micro_batch(
            &net,
            x,
            |net, x| {
                assert_eq!(x.dtype(), DType::F16);
                net.forward(x)
            },
            |output| MicroLoss::mean((output - target).square().mean(), 16.0),
        );
        let (next, outcome) = train.step(net, 0.01);
        net = next;
        match outcome? {
            StepOutcome::Stepped { loss, .. } => losses.push(loss),
            StepOutcome::Skipped { .. } => skipped += 1,
            _ => {}
        }
    }

    let (first, last) = (losses[0], losses[losses.len() - 1]);
    println!("loss {first:.4} -> {last:.4}, {skipped} steps skipped");
    println!("{}", train.autocast().report(&net));
    assert_eq!(net.first.weight.val().dtype(), DType::F32);
    assert!(last < first / 10.0);
    Ok(())
}
