//! What a segment costs beyond its tensors: peaks of small networks, counted exactly.

mod blocks;
mod counting;

use blocks::{Attention, initialised, test_device};
use burn::module::Module;
use burn::nn::{Linear, LinearConfig, Lstm, LstmConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Bool, Distribution, Tensor, activation};
use burn_memopt::grad_checkpoint::{Segment, grad_checkpoint};
use burn_memopt::memory::PeakMeter;
use burn_memopt::precision::{Autocast, Precision};
use counting::turn;

/// The highest live bytes of a step above those before it.
fn peak<M: Module>(model: &M, forward: impl Fn(&M) -> Tensor<2>) -> u64 {
    let step = || {
        let loss = forward(model).square().mean();
        GradientsParams::from_grads(loss.backward(), model)
    };
    // The first steps make the buffers of the threads.
    drop(step());
    drop(step());
    let meter = PeakMeter::start(&test_device());
    let grads = step();
    let peak = meter.finish().peak.expect("the allocator is installed");
    drop(grads);
    peak.get()
}

/// Compares two ways to run a model.
#[track_caller]
fn assert_at_most<M: Module>(
    at_most: f64,
    model: &M,
    plain: impl Fn(&M) -> Tensor<2>,
    technique: impl Fn(&M) -> Tensor<2>,
) {
    let (plain, technique) = (peak(model, plain), peak(model, technique));
    let ratio = technique as f64 / plain as f64;
    println!("{technique} of {plain} bytes: {ratio:.3}");
    assert!(ratio <= at_most, "{technique} of {plain} bytes: {ratio:.3}");
}

/// As a sequence to its rows.
fn rows(x: Tensor<3>) -> Tensor<2> {
    x.flatten(0, 1)
}

// 1.015: burn keeps records of the 176 operations of the first run.
#[test]
fn a_segment_around_a_whole_model_takes_what_the_model_takes() {
    let _turn = turn();
    let device = test_device();
    let blocks: Vec<_> = (0..4)
        .map(|_| initialised(Attention::new(64, &device)))
        .collect();
    let x = Tensor::<3>::random([2, 256, 64], Distribution::Default, &device);
    let mask = Tensor::<2, Bool>::zeros([2, 256], &device);
    let forward = |blocks: &Vec<Attention>, (x, mask): (Tensor<3>, Tensor<2, Bool>)| {
        let blocks = blocks.iter();
        rows(blocks.fold(x, |x, block: &Attention| block.forward(x, mask.clone())))
    };
    let inputs = || (x.clone(), mask.clone());
    assert_at_most(
        1.03,
        &blocks,
        |blocks| forward(blocks, inputs()),
        |blocks| grad_checkpoint(blocks, inputs(), forward),
    );
}

#[test]
fn a_small_lstm_of_a_segment_a_layer_saves_memory() {
    let _turn = turn();
    let device = test_device();
    let lstm = |_| initialised(LstmConfig::new(32, 32, true).init(&device));
    let layers: Vec<Lstm> = (0..2).map(lstm).collect();
    let x = Tensor::<3>::random([4, 16, 32], Distribution::Default, &device);
    let forward = |layer: &Lstm, x| layer.forward(x, None).0;
    assert_at_most(
        0.7,
        &layers,
        |layers| rows(layers.iter().fold(x.clone(), |x, layer| forward(layer, x))),
        |layers| {
            let run = |x, layer| grad_checkpoint(layer, x, forward);
            rows(layers.iter().fold(x.clone(), run))
        },
    );
}

/// A multi-layer perceptron as wide as its batches are large, or not.
fn mlp(width: usize) -> Vec<Linear> {
    let device = test_device();
    let layer = |_| initialised(LinearConfig::new(width, width).init(&device));
    (0..8).map(layer).collect()
}

fn layer(layer: &Linear, x: Tensor<2>) -> Tensor<2> {
    activation::relu(layer.forward(x))
}

fn in_layers(layers: &[Linear], x: Tensor<2>) -> Tensor<2> {
    layers.iter().fold(x, |x, linear| layer(linear, x))
}

fn in_segments(layers: &[Linear], x: Tensor<2>) -> Tensor<2> {
    let segment = Segment::new();
    let run = |x, linear| segment.run(linear, x, layer);
    layers.iter().fold(x, run)
}

fn in_half(layers: &Vec<Linear>, x: Tensor<2>) -> Tensor<2> {
    Autocast::new(Precision::F16).run(layers, x, |layers, x| in_layers(layers, x))
}

/// Some rows of a width.
fn batch(shape: [usize; 2]) -> Tensor<2> {
    Tensor::random(shape, Distribution::Default, &test_device())
}

#[test]
fn a_segment_a_layer_pays_where_activations_outweigh_parameters() {
    let _turn = turn();
    let x = batch([512, 64]);
    assert_at_most(
        0.65,
        &mlp(64),
        |layers| in_layers(layers, x.clone()),
        |layers| in_segments(layers, x.clone()),
    );
}

#[test]
fn half_precision_pays_in_a_perceptron_whose_batch_is_small_too() {
    let _turn = turn();
    let x = batch([32, 256]);
    assert_at_most(
        0.95,
        &mlp(256),
        |layers| in_layers(layers, x.clone()),
        |layers| in_half(layers, x.clone()),
    );
}
