//! What layers of `nn` keep for the backward pass, counted exactly. One test a program: the counts
//! are the process's.

use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{GroupNorm, GroupNormConfig, PaddingConfig2d};
use burn::tensor::{Device, Distribution, FloatDType, Tensor, activation};
use burn_memopt::memory::{self, CountingAllocator};
use burn_memopt::nn;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// Live bytes that a forward pass leaves for the backward pass.
fn kept(forward: impl Fn() -> Tensor<4>) -> u64 {
    let live = || memory::live().expect("the allocator is installed").get();
    // The first pass makes the buffers of the threads.
    drop(forward().sum().backward());
    let before = live();
    let y = forward();
    let after = live();
    drop(y.sum().backward());
    after - before
}

#[test]
fn a_layer_with_norm_and_activation_keeps_two_tensors() {
    let device = Device::flex().autodiff();
    let layer: Conv2d = Conv2dConfig::new([8, 8], [3, 3])
        .with_padding(PaddingConfig2d::Same)
        .init(&device);
    let norm: GroupNorm = GroupNormConfig::new(2, 8).init(&device);
    let x = Tensor::random([1, 8, 64, 64], Distribution::Default, &device).require_grad();
    let tensor = 4 * 8 * 64 * 64;
    let ours = kept(|| nn::leaky_relu(nn::group_norm(&norm, nn::conv2d(&layer, x.clone())), 0.1));
    let burns = kept(|| activation::leaky_relu(norm.forward(layer.forward(x.clone())), 0.1));
    assert!(ours < 2 * tensor + tensor / 4, "{ours} of {tensor}");
    assert!(burns > 3 * tensor, "{burns} of {tensor}");

    // What is activated stays for nothing, in half precision too.
    let half =
        Tensor::<4>::random([1, 8, 64, 64], Distribution::Default, &device).cast(FloatDType::F16);
    let half = half.require_grad();
    let ours = kept(|| nn::relu(half.clone() + 1.0));
    let burns = kept(|| activation::relu(half.clone() + 1.0));
    let tensor = tensor / 2;
    assert!(ours < tensor + tensor / 4, "{ours} of {tensor}");
    assert!(burns > 2 * tensor - tensor / 4, "{burns} of {tensor}");
}
