//! What half precision saves between the forward and the backward pass.

use burn::module::Module;
use burn::nn::{BatchNorm, BatchNormConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt::memory::{self, CountingAllocator};
use burn_memopt::precision::{Autocast, Precision, batch_norm};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

#[derive(Module, Debug)]
struct Norms {
    norms: Vec<BatchNorm>,
}

const NUM_NORMS: usize = 6;
const SHAPE: [usize; 4] = [2, 8, 64, 64];

fn live() -> u64 {
    memory::live().expect("the allocator is installed").get()
}

/// Bytes that the forward pass keeps for the backward pass.
fn kept(precision: Precision, model: &Norms, x: &Tensor<4>) -> u64 {
    let before = live();
    let autocast = Autocast::new(precision);
    let loss = autocast
        .run(model, x.clone(), |model, x| {
            let layers = model.norms.iter();
            layers.fold(x, |x, norm| batch_norm(norm, x))
        })
        .square()
        .mean();
    let kept = live() - before;
    let grads = GradientsParams::from_grads(loss.backward(), model);
    assert_eq!(grads.len(), 2 * NUM_NORMS);
    kept
}

#[test]
fn an_island_keeps_only_its_half_precision_input() {
    let device = Device::flex().autodiff();
    let norm = |_| BatchNormConfig::new(SHAPE[1]).init(&device);
    let model = Norms {
        norms: (0..NUM_NORMS).map(norm).collect(),
    };
    let x = Tensor::<4>::random(SHAPE, Distribution::Default, &device);
    // Leaves and the first use of the backend are not what is measured.
    let _ = kept(Precision::F16, &model, &x);

    let half = kept(Precision::F16, &model, &x);
    let full = kept(Precision::F32, &model, &x);

    let elements: usize = SHAPE.iter().product();
    // One half-precision tensor a layer; the square of the loss keeps its f32
    // input. A f32 copy kept by a single layer would break the bound.
    let bound = (elements * (2 * (NUM_NORMS + 1) + 4)) as u64;
    assert!(half <= bound + bound / 50, "{half} bytes, expected {bound}");
    assert!(half < full, "{half} bytes in f16, {full} in f32");
}
