//! The plain path is the oracle: a checkpointed segment gives the same loss, the
//! same gradients and the same statistics, bit for bit on flex.
//!
//! Every test holds the random stream: segments whose draws another test disturbs are refused.

mod blocks;

use blocks::{Attention, Block, Mlp, gradients_of, image, inner_device, test_device};
use burn::{
    module::{Module, Param},
    tensor::{Bool, DType, Distribution, FloatDType, Int, Tensor, TensorData},
};
use burn_memopt::grad_checkpoint::{
    Boundary, Chain, Policy, Segment, Span, checkpoint_sequential, grad_checkpoint,
    hold_random_stream,
};
use rstest::rstest;

/// Checks that two ways to compute a scalar from a module and an input agree.
#[track_caller]
fn check_same<M: Module>(
    module: &M,
    x: &Tensor<4>,
    plain: impl Fn(&M, Tensor<4>) -> Tensor<1>,
    checkpointed: impl Fn(&M, Tensor<4>) -> Tensor<1>,
) {
    let expected = gradients_of(module, x, plain);
    let got = gradients_of(module, x, checkpointed);
    assert!(expected.input.is_some() && !expected.params.is_empty());
    assert_eq!(got, expected);
}

/// A loss that gives every element another gradient.
fn loss(y: Tensor<4>) -> Tensor<1> {
    let weight = Tensor::<1, Int>::arange(0..y.shape().num_elements() as i64, &y.device());
    let weight = weight.float().sin().reshape(y.dims());
    (y * weight).sum()
}

fn forward(block: &Block, x: Tensor<4>) -> Tensor<4> {
    block.forward(x)
}

fn plain(blocks: &[Block], x: Tensor<4>) -> Tensor<1> {
    loss(blocks.iter().fold(x, |x, block| block.forward(x)))
}

#[rstest]
#[case::every_block(8)]
#[case::pairs(4)]
#[case::ragged(3)]
#[case::single_segment(1)]
fn recomputed_gradients_equal_plain_ones(#[case] num_segments: usize) {
    let _stream = hold_random_stream();
    let device = test_device();
    let blocks: Vec<_> = (0..8)
        .map(|i| Block::new(4, i % 2 == 0, 0.0, &device))
        .collect();
    check_same(
        &blocks,
        &image(4, &device),
        |b: &Vec<Block>, x| plain(b, x),
        |blocks, x| loss(checkpoint_sequential(blocks, num_segments, x, forward)),
    );
}

#[test]
fn an_attention_block_with_a_mask_equals_the_plain_path() {
    let _stream = hold_random_stream();
    let device = test_device();
    let block = Attention::new(8, &device);
    let x = Tensor::<4>::random([1, 2, 5, 8], Distribution::Default, &inner_device());
    let mask = Tensor::<2, Bool>::from_data([[false, false, false, false, true]; 2], &device);
    check_same(
        &block,
        &x,
        |block, x| {
            loss(
                block
                    .forward(x.squeeze_dim::<3>(0), mask.clone())
                    .unsqueeze(),
            )
        },
        |block, x| {
            let inputs = (x.squeeze_dim::<3>(0), mask.clone());
            let y = grad_checkpoint(block, inputs, |block: &Attention, (x, mask)| {
                block.forward(x, mask)
            });
            loss(y.unsqueeze())
        },
    );
}

#[test]
fn batch_norm_statistics_are_updated_once() {
    let _stream = hold_random_stream();
    let device = test_device();
    let plain = Block::new(4, true, 0.0, &device);
    let checkpointed = plain.valid().train();
    let x = image(4, &device);
    for _ in 0..3 {
        gradients_of(&plain, &x, |block, x| loss(block.forward(x)));
        gradients_of(&checkpointed, &x, |block, x| {
            loss(grad_checkpoint(block, x, forward))
        });
    }
    let statistics = |block: &Block| {
        let norm = block.batch_norm().unwrap();
        (
            norm.running_mean.value_sync().into_data(),
            norm.running_var.value_sync().into_data(),
        )
    };
    assert_eq!(statistics(&checkpointed), statistics(&plain));
    assert_ne!(statistics(&plain).0, TensorData::zeros::<f32, _>([4]));
}

#[test]
fn segments_nest() {
    let _stream = hold_random_stream();
    let device = test_device();
    let blocks: Vec<_> = (0..4).map(|_| Block::new(4, true, 0.0, &device)).collect();
    check_same(
        &blocks,
        &image(4, &device),
        |b: &Vec<Block>, x| plain(b, x),
        |blocks, x| {
            loss(grad_checkpoint(blocks, x, |blocks: &Vec<Block>, x| {
                checkpoint_sequential(blocks, 4, x, forward)
            }))
        },
    );
}

type Several = (Tensor<4>, Tensor<1>, Tensor<1, Int>, Tensor<4, Bool>);

fn several(
    block: &Block,
    (x, scale, index, mask): Several,
) -> (Vec<Tensor<4>>, Tensor<1, Int>, Option<Tensor<1>>) {
    let y = block.forward(x.clone()).mask_fill(mask, 0.5);
    let chosen = y.clone().select(1, index.clone());
    let total = (x * scale.unsqueeze()).sum();
    (vec![y, chosen], index + 1, Some(total))
}

#[test]
fn several_inputs_and_outputs_of_other_kinds_pass() {
    let _stream = hold_random_stream();
    let device = test_device();
    let block = Block::new(4, false, 0.0, &device);
    let inputs = |x: Tensor<4>| -> Several {
        let index = Tensor::from_data([2, 0], &x.device());
        let mask = x.clone().detach().greater_elem(0.9);
        // An input that is no leaf: its gradient goes on to x.
        let scale = x.clone().mean().exp();
        (x, scale, index, mask)
    };
    let total = |(tensors, index, sum): (Vec<Tensor<4>>, Tensor<1, Int>, Option<Tensor<1>>)| {
        let index = index.into_data().convert_dtype(DType::I32);
        assert_eq!(index, TensorData::from([3i32, 1]));
        tensors
            .into_iter()
            .map(loss)
            .fold(sum.unwrap(), |sum, loss| sum + loss)
    };
    check_same(
        &block,
        &image(4, &device),
        |block, x| total(several(block, inputs(x))),
        |block, x| total(grad_checkpoint(block, inputs(x), several)),
    );
}

#[test]
fn unused_outputs_and_ignored_inputs_do_no_harm() {
    let _stream = hold_random_stream();
    let device = test_device();
    let block = Block::new(4, false, 0.0, &device);
    fn two(block: &Block, (x, _ignored): (Tensor<4>, Tensor<4>)) -> (Tensor<4>, Tensor<4>) {
        (block.forward(x.clone()), x.powi_scalar(2))
    }
    check_same(
        &block,
        &image(4, &device),
        |block, x| loss(block.forward(x)),
        |block, x| {
            let ignored = x.clone().exp();
            loss(grad_checkpoint(block, (x, ignored), two).0)
        },
    );
}

#[test]
fn a_module_may_serve_in_two_segments() {
    let _stream = hold_random_stream();
    let device = test_device();
    let block = Block::new(4, false, 0.0, &device);
    check_same(
        &block,
        &image(4, &device),
        |block, x| loss(block.forward(block.forward(x))),
        |block, x| {
            let y = grad_checkpoint(block, x, forward);
            loss(grad_checkpoint(block, y, forward))
        },
    );
}

#[test]
fn parameters_train_below_an_untracked_input() {
    let _stream = hold_random_stream();
    let device = test_device();
    let block = Block::new(4, true, 0.0, &device);
    let x = image(4, &device);
    let constant = |x: Tensor<4>| x.without_autodiff().autodiff();
    let plain = gradients_of(&block, &x, |block, x| loss(block.forward(constant(x))));
    let got = gradients_of(&block, &x, |block, x| {
        loss(grad_checkpoint(block, constant(x), forward))
    });
    assert!(plain.input.is_none());
    assert!(
        plain
            .params
            .iter()
            .filter(|(_, grad)| grad.is_some())
            .count()
            >= 6
    );
    assert_eq!(got, plain);
}

#[test]
fn frozen_parameters_get_no_gradient() {
    let _stream = hold_random_stream();
    let device = test_device();
    let mut block = Block::new(4, false, 0.0, &device);
    block.first = block.first.freeze();
    let x = image(4, &device);
    let got = gradients_of(&block, &x, |block, x| {
        loss(grad_checkpoint(block, x, forward))
    });
    assert_eq!(
        got.params.iter().filter(|(_, grad)| grad.is_none()).count(),
        2
    );
    assert_eq!(
        got,
        gradients_of(&block, &x, |block, x| loss(block.forward(x)))
    );
}

#[test]
fn parameters_that_are_not_leaves_pass_their_gradient_on() {
    let _stream = hold_random_stream();
    let device = test_device();
    let mlp = Mlp::new(8, &device);
    // The view's parameters descend from the module's, as in autocast.
    fn view(mlp: &Mlp) -> Mlp {
        let weight = &mlp.first.weight;
        let mut view = mlp.clone();
        view.first.weight = Param::initialized(weight.id, weight.val() * 3.0);
        view
    }
    check_same(
        &mlp,
        &image(4, &device),
        |mlp, x| loss(view(mlp).forward(x)),
        |mlp, x| {
            loss(grad_checkpoint(&view(mlp), x, |mlp: &Mlp, x: Tensor<4>| {
                mlp.forward(x)
            }))
        },
    );
}

#[test]
#[should_panic(expected = "must take every tracked tensor as an input")]
fn a_captured_tracked_tensor_is_refused() {
    let _stream = hold_random_stream();
    let device = test_device();
    let block = Block::new(4, false, 0.0, &device);
    let captured = image(4, &device).require_grad();
    grad_checkpoint(
        &block,
        image(4, &device),
        move |block: &Block, x: Tensor<4>| block.forward(x) + captured.clone(),
    );
}

#[test]
fn without_anything_tracked_the_closure_simply_runs() {
    let _stream = hold_random_stream();
    let device = inner_device();
    let block = Block::new(4, true, 0.0, &device);
    let x = image(4, &device);
    let y = grad_checkpoint(&block, x.clone(), forward);
    assert_eq!(y.into_data(), block.forward(x).into_data());
}

#[test]
fn burns_balanced_strategy_works_inside_and_outside() {
    let _stream = hold_random_stream();
    let device = test_device().gradient_checkpointing();
    let blocks: Vec<_> = (0..4).map(|_| Block::new(4, true, 0.0, &device)).collect();
    fn bounded(block: &Block, x: Tensor<4>) -> Tensor<4> {
        block.forward(x).tanh() * 2.0
    }
    check_same(
        &blocks,
        &image(4, &device),
        |blocks, x| loss(blocks.iter().fold(x, |x, block| bounded(block, x)).exp()),
        |blocks, x| loss(checkpoint_sequential(blocks, 4, x, bounded).exp()),
    );
}

#[test]
fn a_boundary_on_the_host_is_exact_and_a_rounded_one_close() {
    let _stream = hold_random_stream();
    let device = test_device();
    // Smooth throughout: rounding moves no gradient across a kink.
    let mlp = Mlp::new(8, &device);
    let x = image(4, &device);
    let run = |boundary| {
        let segment = Segment::new().with_boundary(boundary);
        gradients_of(&mlp, &x, |mlp, x| {
            loss(segment.run(mlp, x, |mlp: &Mlp, x: Tensor<4>| mlp.forward(x)))
        })
    };
    let plain = gradients_of(&mlp, &x, |mlp, x| loss(mlp.forward(x)));
    assert_eq!(run(Boundary::Host), plain);

    let rounded = run(Boundary::Half(FloatDType::F16));
    assert_eq!(rounded.loss, plain.loss);
    assert_ne!(rounded, plain);
    rounded.assert_close(&plain, 1e-2);
}

/// Checks that a chain of blocks cut into spans equals the plain path.
#[track_caller]
fn check_spans(num_blocks: usize, spans: &[Span]) {
    let device = test_device();
    let blocks: Vec<_> = (0..num_blocks)
        .map(|_| Block::new(4, true, 0.0, &device))
        .collect();
    check_same(
        &blocks,
        &image(4, &device),
        |b: &Vec<Block>, x| plain(b, x),
        |blocks, x| loss(Chain::new(blocks, forward).run(spans, x)),
    );
}

#[test]
fn spans_with_plain_parts_equal_the_plain_path() {
    let _stream = hold_random_stream();
    let mut spans = Policy::Segments(3).spans(6).unwrap();
    spans[1].recompute = false;
    check_spans(6, &spans);
}

#[test]
fn spans_cut_again_when_they_are_recomputed_equal_the_plain_path() {
    let _stream = hold_random_stream();
    let deepest = vec![Span::recomputed(0..2), Span::plain(2..3)];
    let inner = vec![
        Span::recomputed(0..3).with_inner(deepest),
        Span::recomputed(3..4),
        Span::plain(4..5),
    ];
    let spans = [Span::recomputed(0..5).with_inner(inner), Span::plain(5..7)];
    check_spans(7, &spans);
}

#[test]
fn skips_across_nested_spans_equal_the_plain_path() {
    let _stream = hold_random_stream();
    let device = test_device();
    // Batch normalisation would leave the gradients of biases before it at rounding errors.
    let blocks: Vec<_> = (0..6).map(|_| Block::new(4, false, 0.0, &device)).collect();
    // One skip within a span, one out of it, one read twice, one from a span's last block.
    let skips = vec![(0, 2), (1, 5), (1, 3), (2, 4)];
    let joined = |block: &Block, x: Tensor<4>, skips: Vec<Tensor<4>>| {
        block.forward(skips.into_iter().fold(x, |x, skip| x + skip * 0.5))
    };
    let by_hand = move |blocks: &Vec<Block>, x: Tensor<4>| {
        let y0 = joined(&blocks[0], x, vec![]);
        let y1 = joined(&blocks[1], y0.clone(), vec![]);
        let y2 = joined(&blocks[2], y1.clone(), vec![y0]);
        let y3 = joined(&blocks[3], y2.clone(), vec![y1.clone()]);
        let y4 = joined(&blocks[4], y3, vec![y2]);
        loss(joined(&blocks[5], y4, vec![y1]))
    };
    let inner = vec![Span::recomputed(0..2), Span::plain(2..3)];
    let cuts = [
        vec![Span::plain(0..6)],
        vec![Span::recomputed(0..3).with_inner(inner), Span::plain(3..6)],
        vec![
            Span::recomputed(0..2),
            Span::recomputed(2..5),
            Span::plain(5..6),
        ],
    ];
    let x = image(4, &device);
    let expected = gradients_of(&blocks, &x, by_hand);
    for spans in cuts {
        let got = gradients_of(&blocks, &x, |blocks, x| {
            let chain = Chain::with_skips(blocks, skips.clone(), joined);
            loss(chain.run(&spans[..], x))
        });
        assert_eq!(got.loss, expected.loss);
        // The gradients of a tensor that three operations read are added in another order.
        got.assert_close(&expected, 1e-5);
    }
}

#[test]
fn a_chain_of_no_blocks_returns_its_input() {
    let _stream = hold_random_stream();
    let x = image(2, &test_device());
    let y = checkpoint_sequential(&[] as &[Block], 3, x.clone(), forward);
    assert_eq!(y.into_data(), x.into_data());
}

/// A GPU adds in an order of its own each time: recomputed gradients are as close to plain ones
/// as those of two plain steps are to each other.
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "cuda"))]
#[test]
fn recomputed_gradients_on_a_gpu_are_as_close_as_those_of_two_plain_steps() {
    let _stream = hold_random_stream();
    let Some(device) = blocks::gpu_device() else {
        return;
    };
    let blocks: Vec<_> = (0..6)
        .map(|_| blocks::initialised(Block::new(16, false, 0.0, &device)))
        .collect();
    let x = Tensor::random([2, 16, 48, 48], Distribution::Default, &device);
    let plain_step = |blocks: &Vec<Block>, x| plain(blocks, x);
    let first = gradients_of(&blocks, &x, plain_step);
    let second = gradients_of(&blocks, &x, plain_step);
    let recomputed = gradients_of(&blocks, &x, |blocks, x| {
        loss(Policy::EveryBlock.run(blocks, x, forward))
    });
    let between_plain = second.deviation(&first);
    let deviation = recomputed.deviation(&first);
    println!("two plain steps {between_plain:e}, recomputed {deviation:e}");
    assert!(
        deviation <= (4.0 * between_plain).max(1e-5),
        "{deviation:e} is more than {between_plain:e} explains"
    );
}

/// What a segment keeps on the host is what it was given, whatever is written to that
/// memory of the device later, and it keeps no memory of the device.
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "cuda"))]
#[test]
fn inputs_on_the_host_are_copies_that_free_the_device() {
    let _stream = hold_random_stream();
    let Some(device) = blocks::gpu_device() else {
        return;
    };
    let scale = |scale: &Param<Tensor<1>>, x: Tensor<2>| x.clone() * x * scale.val().unsqueeze();
    let module = Param::from_tensor(Tensor::<1>::from_floats([2.0], &device));
    let leaf = Tensor::<2>::ones([64, 1024], &device).require_grad();
    let bytes = || device.memory_pool_usage().expect("pools").bytes_in_use;

    let x = leaf.clone() * 1.5;
    let segment = Segment::new().with_boundary(Boundary::Host);
    let y = segment.run(&module, x.clone(), scale);
    // The last use of `x`: the device may compute it in place.
    let z = x * 3.0;
    let grad = leaf.grad(&(y + z).sum().backward()).expect("a gradient");
    // (2 (1.5 x)² + 3 (1.5 x))' = 9 x + 4.5
    let grad: Vec<f32> = grad.into_data().iter().collect();
    assert!(grad.iter().all(|&grad| grad == 13.5), "{}", grad[0]);

    let before = bytes();
    let x = leaf.clone() * 1.5;
    let y = segment.run(&module, x, |_: &Param<Tensor<1>>, x: Tensor<2>| {
        x.narrow(1, 0, 1)
    });
    assert!(bytes() - before < 64 * 1024 * 4, "{}", bytes() - before);
    drop(y);
}
