//! A batch of eight as eight micro-batches: the gradients of the whole batch
//! from the memory of one image.

use burn::nn::PaddingConfig2d;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Tensor, Tolerance};
use burn_memopt::prelude::*;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

fn loss(model: &[Conv2d; 8], images: Tensor<4>) -> Tensor<1> {
    let layers = model.iter();
    let output = layers.fold(images, |x, conv| conv.forward(x).tanh());
    output.square().mean()
}

fn main() {
    let device = Device::flex().autodiff();
    let conv =
        Conv2dConfig::new([4, 4], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
    let model = [(); 8].map(|()| conv.init(&device));
    let batch = Tensor::<4>::random([8, 4, 64, 64], Distribution::Default, &device);
    // The first use draws the parameters.
    loss(&model, batch.clone());

    let meter = PeakMeter::start(&device);
    let whole = GradientsParams::from_grads(loss(&model, batch.clone()).backward(), &model);
    let whole_peak = meter.finish().peak.expect("the allocator is installed");

    let meter = PeakMeter::start(&device);
    let mut accumulator = WeightedAccumulator::new();
    for image in batch.split(1, 0) {
        let num_items = image.dims()[0] as f64;
        let grads = GradientsParams::from_grads(loss(&model, image).backward(), &model);
        accumulator.accumulate(&model, grads, num_items);
    }
    let summed = accumulator.finish(&model).expect("eight micro-batches");
    let peak = meter.finish().peak.expect("the allocator is installed");

    println!("peak of a training step: batch of 8 {whole_peak}, 8 micro-batches {peak}");
    let grad_of = |grads: &GradientsParams| {
        let grad = grads.get::<4>(model[0].weight.id);
        grad.expect("a gradient").into_data()
    };
    grad_of(&summed).assert_approx_eq::<f32>(&grad_of(&whole), Tolerance::relative(1e-4));
    assert!(peak.get() * 4 < whole_peak.get());
}
