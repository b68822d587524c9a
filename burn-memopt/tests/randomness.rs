//! Dropout in checkpointed segments. Every test holds the random stream, which is one
//! for the whole process.

mod blocks;

use blocks::{Block, gradients_of, image, initialised, test_device};
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use burn_memopt::grad_checkpoint::{
    SegmentSeed, checkpoint_sequential, grad_checkpoint, hold_random_stream,
};

fn forward(block: &Block, x: Tensor<4>) -> Tensor<4> {
    block.forward(x)
}

fn draw(device: &Device) -> TensorData {
    Tensor::<1>::random([8], Distribution::Default, device).into_data()
}

#[test]
fn dropout_repeats_its_masks_and_the_stream_moves_on() {
    let _stream = hold_random_stream();
    let device = test_device();
    let block = initialised(Block::new(4, true, 0.5, &device));
    let x = image(4, &device);

    device.seed(7);
    let got = gradients_of(&block, &x, |block, x| {
        grad_checkpoint(block, x, forward).sum()
    });
    let after = draw(&device);

    device.seed(7);
    let seed = SegmentSeed::draw(&device);
    let expected = gradients_of(&block, &x, |block, x| {
        seed.apply(&device);
        block.forward(x).sum()
    });
    assert_eq!(got, expected);

    // What is drawn after the step repeats nothing that was drawn before.
    seed.apply(&device);
    assert_ne!(after, draw(&device));
    device.seed(7);
    assert_ne!(after, draw(&device));
}

#[test]
fn the_same_seed_gives_the_same_step_and_another_one_another() {
    let _stream = hold_random_stream();
    let device = test_device();
    let blocks: Vec<_> = (0..3)
        .map(|_| initialised(Block::new(4, true, 0.5, &device)))
        .collect();
    let x = image(4, &device);
    let step = |seed| {
        device.seed(seed);
        gradients_of(&blocks, &x, |blocks, x| {
            checkpoint_sequential(blocks, 3, x, forward).sum()
        })
    };
    let first = step(11);
    assert_eq!(step(11), first);
    assert_ne!(step(12), first);
}

#[test]
fn two_segments_draw_other_masks() {
    let _stream = hold_random_stream();
    let device = test_device();
    let block = initialised(Block::new(4, false, 0.5, &device));
    let x = image(4, &device);
    let run = || grad_checkpoint(&block, x.clone(), forward).into_data();
    assert_ne!(run(), run());
}

/// On a GPU the recomputation equals the first run to rounding.
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "cuda"))]
#[test]
fn gpu_gradients_equal_plain_ones() {
    let Some(device) = blocks::gpu_device() else {
        return;
    };
    let _stream = hold_random_stream();
    let block = initialised(Block::new(4, true, 0.5, &device));
    let x = image(4, &device);
    device.seed(3);
    let got = gradients_of(&block, &x, |block, x| {
        grad_checkpoint(block, x, forward).sum()
    });
    device.seed(3);
    let seed = SegmentSeed::draw(&device);
    let plain = gradients_of(&block, &x, |block, x| {
        seed.apply(&device);
        block.forward(x).sum()
    });
    got.assert_close(&plain, 1e-5);
}
