//! What the bound on working memory saves in ProPainter's generator, counted exactly.

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::module::ParamId;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt::memory::{CountingAllocator, PeakMeter};
use burn_memopt_models::propainter::{
    Flows, GeneratorInput, Holes, InpaintGenerator, InpaintGeneratorConfig, SparseTransformer,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// The counts are the process's, so tests that read them take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn windows_and_frames_in_small_portions_need_a_fraction_of_the_memory() {
    let _turn = turn();
    let device = Device::flex();
    let transformer = SparseTransformer::new(1, 64, 4, 1960, &device);
    let normal = Distribution::Normal(0.0, 1.0);
    let tokens = Tensor::<5>::random([1, 8, 20, 36, 64], normal, &device);
    let holes = Holes::find(Tensor::ones([1, 8, 20, 36], &device));
    let peak = |bytes: usize| {
        let run = || transformer.forward(tokens.clone(), &holes, [60, 108], bytes);
        // Threads keep buffers of their own after their first product.
        run();
        let meter = PeakMeter::start(&device);
        drop(run());
        meter.finish().peak.unwrap().get() as f64
    };
    let (whole, portioned) = (peak(usize::MAX), peak(1));
    let share = portioned / whole;
    println!("peak {whole} bytes at once, {portioned} in portions: {share:.2}");
    assert!(share < 0.5, "portions need {share:.2} of the whole peak");
}

#[test]
fn a_recomputed_training_step_needs_a_fraction_of_the_memory_and_gives_the_plain_gradients() {
    let _turn = turn();
    let device = Device::flex().autodiff();
    let config = InpaintGeneratorConfig::new()
        .with_depth(1)
        .with_working_bytes(1 << 20);
    let plain = config.init(&device);
    let normal = Distribution::Normal(0.0, 1.0);
    let random = |frames: usize, channels: usize| {
        Tensor::<5>::random([1, frames, channels, 64, 64], normal, &device)
    };
    let hole = Tensor::<5>::ones([1, 4, 1, 32, 32], &device);
    let masks = hole.pad([(16, 16), (16, 16)], 0.0);
    let input = GeneratorInput {
        frames: random(4, 3).tanh(),
        flows: Flows {
            forward: random(2, 2),
            backward: random(2, 2),
        },
        updated_masks: masks.clone(),
        masks,
        num_local: 3,
    };
    let step = |generator: &InpaintGenerator| {
        let completed = generator.forward_all(input.clone());
        GradientsParams::from_grads(completed.square().sum().backward(), generator)
    };
    let measured = |generator: &InpaintGenerator| {
        let meter = PeakMeter::start(&device);
        let grads = step(generator);
        (meter.finish().peak.unwrap().get() as f64, grads)
    };
    let (whole, expected) = measured(&plain);
    let (recomputed, got) = measured(&plain.clone().with_grad_checkpoint(true));
    let share = recomputed / whole;
    println!("peak {whole} bytes plain, {recomputed} recomputed: {share:.2}");
    // A good part of the rest is the gradients of the parameters, which both keep.
    assert!(
        share < 0.65,
        "recomputed needs {share:.2} of the plain peak"
    );
    let convs = [
        &plain.encoder.layers[0],
        &plain.feat_prop_module.backward.deform_align.conv_offset[0],
        &plain.feat_prop_module.forward.backbone[1],
        &plain.decoder.conv2,
    ];
    let blocks = &plain.transformers.transformer;
    let same = |rank: usize, id: ParamId| {
        let [got, expected] = [&got, &expected].map(|grads| match rank {
            2 => grads.get::<2>(id).map(Tensor::into_data),
            _ => grads.get::<4>(id).map(Tensor::into_data),
        });
        assert!(got.is_some());
        got == expected
    };
    let convs = convs.map(|conv| same(4, conv.weight.id));
    let values = blocks
        .iter()
        .map(|block| same(2, block.attention.value.weight.id));
    let values: Vec<bool> = values.collect();
    assert_eq!((convs, values), ([true; 4], vec![true; 1]));
}
