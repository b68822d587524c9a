//! Slices of a long axis as segments: as exact as the whole, and in the memory of one slice.

use burn::module::Param;
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::{Bool, Device, Distribution, Int, Tensor, TensorData, activation};
use burn_memopt::grad_checkpoint::{
    RandomStreamGuard, Segment, chunked_cross_entropy, hold_random_stream, in_chunks, sum_in_chunks,
};
use burn_memopt::memory::{CountingAllocator, PeakMeter};
use rstest::rstest;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// Peaks and random numbers are the process's, so tests take turns, each from the same seed.
fn turn() -> RandomStreamGuard {
    hold_random_stream().seeded(&Device::flex(), 3)
}

fn device() -> Device {
    Device::flex().autodiff()
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device())
}

/// What gradients may be off: slices add theirs one by one, which rounds more often.
const ROUNDING: f32 = 5e-6;

/// The largest difference as a share of the largest value.
fn relative(got: &TensorData, wanted: &TensorData) -> f32 {
    assert_eq!(got.shape(), wanted.shape());
    let largest = wanted
        .iter::<f32>()
        .fold(0.0, |most: f32, v| most.max(v.abs()));
    let pairs = got.iter::<f32>().zip(wanted.iter::<f32>());
    let most = pairs.fold(0.0, |most: f32, (a, b)| most.max((a - b).abs()));
    assert!(largest > 0.0 && most.is_finite());
    most / largest
}

fn head() -> Vec<Linear> {
    let device = device();
    vec![
        LinearConfig::new(6, 40).init(&device),
        LinearConfig::new(40, 5).init(&device),
    ]
}

#[expect(clippy::ptr_arg, reason = "the type of the module")]
fn forward(head: &Vec<Linear>, x: Tensor<2>) -> Tensor<2> {
    head[1].forward(activation::gelu(head[0].forward(x)))
}

/// Input and parameter gradients of the sum of squares.
fn gradients(head: &[Linear], x: &Tensor<2>, y: Tensor<2>) -> Vec<TensorData> {
    let grads = y.square().sum().backward();
    let mut data = vec![x.grad(&grads).expect("tracked").into_data()];
    for layer in head {
        data.push(
            layer
                .weight
                .val()
                .grad(&grads)
                .expect("tracked")
                .into_data(),
        );
    }
    data
}

#[rstest]
fn joined_slices_equal_the_whole(#[values(1, 7, 32, 100, 1000)] len: usize) {
    let _turn = turn();
    let head = head();
    let x = random([100, 6]).require_grad();
    let whole = forward(&head, x.clone());
    let chunked = in_chunks(&head, x.clone(), 0, len, forward);
    assert_eq!(whole.dims(), chunked.dims());
    assert!(relative(&chunked.to_data(), &whole.to_data()) < 1e-6);
    let wanted = gradients(&head, &x, whole);
    for (got, wanted) in gradients(&head, &x, chunked).iter().zip(&wanted) {
        assert!(relative(got, wanted) < ROUNDING);
    }
}

#[test]
fn any_axis_and_any_kind_of_tensor_is_cut() {
    let _turn = turn();
    let layer = LinearConfig::new(4, 4).init(&device());
    let x = random([2, 9, 4]).require_grad();
    let mask = random([2, 9, 4]).greater_elem(0.0);
    let places = Tensor::<1, Int>::arange(0..18, &device()).reshape([2, 9]);
    type Inputs = (Tensor<3>, Tensor<3, Bool>, Option<Tensor<2, Int>>);
    let forward = |layer: &Linear, (x, mask, places): Inputs| {
        let places = places.expect("given").float().unsqueeze_dim(2);
        (layer.forward(x) * places).mask_fill(mask, 0.0)
    };
    let inputs = || (x.clone(), mask.clone(), Some(places.clone()));
    let whole = forward(&layer, inputs());
    let chunked = in_chunks(&layer, inputs(), 1, 4, forward);
    assert_eq!(chunked.dims(), [2, 9, 4]);
    let grad = |y: Tensor<3>| x.grad(&y.square().sum().backward()).unwrap().into_data();
    assert!(relative(&chunked.to_data(), &whole.to_data()) < 1e-6);
    assert!(relative(&grad(chunked), &grad(whole)) < ROUNDING);
}

#[test]
fn sums_of_slices_are_the_sum_of_the_whole() {
    let _turn = turn();
    let head = head();
    let x = random([50, 6]).require_grad();
    let squares = |head: &Vec<Linear>, x| forward(head, x).square().sum();
    let wanted = squares(&head, x.clone()).backward();
    let got = sum_in_chunks(&head, x.clone(), 0, 8, squares).backward();
    for layer in &head {
        let weight = layer.weight.val();
        let [got, wanted] = [&got, &wanted].map(|grads| weight.grad(grads).unwrap().into_data());
        assert!(relative(&got, &wanted) < ROUNDING);
    }
}

#[test]
fn dropout_in_slices_is_replayed() {
    let _turn = turn();
    let dropout = DropoutConfig::new(0.5).init();
    let x = random([64, 8]).require_grad();
    let y = in_chunks(
        &dropout,
        x.clone(),
        0,
        16,
        |dropout: &Dropout, x: Tensor<2>| dropout.forward(x),
    );
    // A value that was kept has the gradient 2, one that was dropped 0.
    let kept = y.clone().without_autodiff().not_equal_elem(0.0).float() * 2.0;
    let grad = x.grad(&y.sum().backward()).unwrap();
    assert_eq!(grad.into_data(), kept.into_data());
}

#[test]
fn without_a_gradient_slices_simply_run() {
    let _turn = turn();
    let layer = LinearConfig::new(4, 3).init(&Device::flex());
    let x = Tensor::<2>::ones([10, 4], &Device::flex());
    let y = in_chunks(&layer, x.clone(), 0, 3, |layer: &Linear, x: Tensor<2>| {
        layer.forward(x)
    });
    assert_eq!(y.into_data(), layer.forward(x).into_data());
}

/// Hidden states, weight, bias and targets.
fn words(positions: usize, words: usize) -> (Tensor<2>, Tensor<2>, Tensor<1>, Tensor<1, Int>) {
    (
        random([positions, 16]).require_grad(),
        (random([16, words]) * 0.3).detach().require_grad(),
        random([words]).require_grad(),
        Tensor::random(
            [positions],
            Distribution::Uniform(0.0, words as f64),
            &device(),
        ),
    )
}

fn plain_losses(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    bias: Tensor<1>,
    targets: Tensor<1, Int>,
) -> Tensor<1> {
    let logits = hidden.matmul(weight) + bias.unsqueeze();
    let log_probs = activation::log_softmax(logits, 1);
    log_probs
        .gather(1, targets.unsqueeze_dim(1))
        .squeeze_dim::<1>(1)
        .neg()
}

#[rstest]
fn the_cross_entropy_in_slices_has_the_gradients_of_the_whole(#[values(1, 33, 200)] len: usize) {
    let _turn = turn();
    let (hidden, weight, bias, targets) = words(200, 300);
    // A mask as losses of texts have, and weights tied to something else: no leaf.
    let mask = random([200]).greater_elem(0.5).float();
    let tied = || weight.clone().mul_scalar(2.0);
    let whole = plain_losses(hidden.clone(), tied(), bias.clone(), targets.clone());
    let bias_given = Some(bias.clone());
    let chunked = chunked_cross_entropy(hidden.clone(), tied(), bias_given, targets, len);
    assert!(relative(&chunked.to_data(), &whole.to_data()) < 1e-6);
    let grads = |losses: Tensor<1>| {
        let grads = (losses * mask.clone()).sum().backward();
        let bias = bias.grad(&grads).unwrap().into_data();
        [&hidden, &weight]
            .map(|leaf| leaf.grad(&grads).unwrap().into_data())
            .into_iter()
            .chain([bias])
    };
    for (got, wanted) in grads(chunked).zip(grads(whole)) {
        let off = relative(&got, &wanted);
        assert!(off < ROUNDING, "{off:e}");
    }
}

#[test]
fn burns_own_strategy_mixes_with_slices() {
    let _turn = turn();
    let device = Device::flex().autodiff().gradient_checkpointing();
    let layer = LinearConfig::new(4, 3).init(&device);
    let x = Tensor::<2>::ones([10, 4], &device);
    let y = in_chunks(&layer, x, 0, 3, |layer: &Linear, x: Tensor<2>| {
        layer.forward(x)
    });
    let grads = y.sum().backward();
    let grad = layer.weight.val().grad(&grads).unwrap().into_data();
    assert!(grad.iter::<f32>().all(|grad| grad == 10.0));
}

/// The highest bytes above those before.
fn peak<T>(run: impl Fn() -> T) -> f64 {
    drop(run());
    let meter = PeakMeter::start(&device());
    drop(run());
    meter.finish().peak.expect("the allocator counts").get() as f64
}

#[test]
fn logits_are_never_whole() {
    let _turn = turn();
    let (hidden, weight, bias, targets) = words(1024, 4000);
    for is_leaf in [true, false] {
        let inputs = || {
            let weight = match is_leaf {
                true => weight.clone(),
                false => weight.clone().mul_scalar(1.0),
            };
            (hidden.clone(), weight)
        };
        let plain = peak(|| {
            let (hidden, weight) = inputs();
            let losses = plain_losses(hidden, weight, bias.clone(), targets.clone());
            losses.sum().backward()
        });
        let chunked = peak(|| {
            let (hidden, weight) = inputs();
            let bias = Some(bias.clone());
            let losses = chunked_cross_entropy(hidden, weight, bias, targets.clone(), 32);
            losses.sum().backward()
        });
        assert!(chunked < 0.1 * plain, "{chunked} of {plain}");
    }
}

#[test]
fn a_wide_head_keeps_one_slice() {
    let _turn = turn();
    let device = device();
    let head = vec![
        LinearConfig::new(6, 256).init(&device),
        LinearConfig::new(256, 5).init(&device),
    ];
    let x = random([4096, 6]);
    let plain = peak(|| forward(&head, x.clone()).square().sum().backward());
    let joined = peak(|| {
        in_chunks(&head, x.clone(), 0, 128, forward)
            .square()
            .sum()
            .backward()
    });
    let squares = |head: &Vec<Linear>, x| forward(head, x).square().sum();
    let summed = peak(|| sum_in_chunks(&head, x.clone(), 0, 128, squares).backward());
    assert!(
        joined < 0.2 * plain && summed < 0.2 * plain,
        "{joined}, {summed} of {plain}"
    );
}

#[test]
#[should_panic(
    expected = "inputs must have the same length of at least 1 along axis 0, got [10, 9]"
)]
fn inputs_of_different_lengths_are_refused() {
    let _turn = turn();
    let inputs = (random([10, 2]), random([9, 2]));
    let none = Vec::<Param<Tensor<1>>>::new();
    in_chunks(&none, inputs, 0, 4, |_, (x, y): (Tensor<2>, Tensor<2>)| {
        x + y
    });
}

#[test]
#[should_panic(
    expected = "every input must have axis 2, along which it is cut, got one of shape [10, 2]"
)]
fn an_axis_that_an_input_lacks_is_refused() {
    let _turn = turn();
    let none = Vec::<Param<Tensor<1>>>::new();
    in_chunks(&none, random([10, 2]), 2, 4, |_, x: Tensor<2>| x);
}

#[test]
#[should_panic(expected = "a slice must have a length of at least 1, got 0")]
fn slices_of_no_length_are_refused() {
    let _turn = turn();
    let none = Vec::<Param<Tensor<1>>>::new();
    Segment::new().in_chunks(&none, random([10, 2]), 0, 0, |_, x: Tensor<2>| x);
}

#[test]
#[should_panic(expected = "there must be a target for each position, got 9 for 10")]
fn targets_of_another_length_are_refused() {
    let _turn = turn();
    let (hidden, weight, _, targets) = words(10, 5);
    chunked_cross_entropy(hidden, weight, None, targets.narrow(0, 0, 9), 4);
}
