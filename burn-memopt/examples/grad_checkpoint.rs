//! A chain of convolutions with and without gradient checkpointing: the same
//! gradients from a fraction of the memory.

use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use burn_memopt::prelude::*;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

fn block(conv: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    conv.forward(x.clone()).tanh() + x
}

/// Peak of a forward and backward pass, and the gradient of the first layer.
fn measure(blocks: &[Conv2d], forward: impl FnOnce(&[Conv2d]) -> Tensor<4>) -> (Bytes, TensorData) {
    let first = blocks[0].weight.val();
    let meter = PeakMeter::start(&first.device());
    let grads = forward(blocks).square().mean().backward();
    let grad = first.grad(&grads).expect("a gradient").into_data();
    let peak = meter.finish().peak.expect("the allocator is installed");
    (peak, grad)
}

fn main() {
    let device = Device::flex().autodiff();
    let conv =
        Conv2dConfig::new([8, 8], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
    let blocks: Vec<Conv2d> = (0..25).map(|_| conv.init(&device)).collect();
    let x = Tensor::<4>::random([2, 8, 64, 64], Distribution::Default, &device);

    let plain = || {
        measure(&blocks, |blocks| {
            blocks.iter().fold(x.clone(), |x, conv| block(conv, x))
        })
    };
    // The first run draws the parameters.
    plain();
    let (plain_peak, plain_grad) = plain();
    let (peak, grad) = measure(&blocks, |blocks| {
        checkpoint_sequential(blocks, 5, x.clone(), block)
    });

    println!("peak of a training step: plain {plain_peak}, in 5 segments {peak}");
    assert_eq!(grad, plain_grad);
    assert!(peak.get() * 2 < plain_peak.get());
}
