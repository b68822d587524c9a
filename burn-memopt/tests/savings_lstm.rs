//! What an LSTM takes in half precision, in chunks of its sequence, against plain f32.

use burn::nn::{Lstm, LstmConfig, LstmState};
use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt::memory::{CountingAllocator, PeakMeter, PeakMethod};
use burn_memopt::precision::{Autocast, AutocastPolicy, Precision, full_precision};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

// Large enough that tensors outweigh autodiff's own records of the many small operations.
const BATCH_SIZE: usize = 64;
const LEN: usize = 128;
const FEATURES: usize = 64;
const HIDDEN: usize = 128;

/// An LSTM over a sequence in chunks of `chunk_len` steps, each an f32 island.
fn in_chunks(lstm: &Lstm, x: Tensor<3>, chunk_len: usize) -> Tensor<3> {
    let (mut outputs, mut state) = (Vec::new(), None);
    for chunk in x.split(chunk_len, 1) {
        let forward =
            |lstm: &Lstm, (x, state): (Tensor<3>, Option<LstmState<2>>)| lstm.forward(x, state);
        let (y, after) = full_precision(lstm, (chunk, state), forward);
        outputs.push(y);
        state = Some(after);
    }
    Tensor::cat(outputs, 1)
}

/// The peak of a forward and backward pass in bytes, and the gradient of one weight.
fn step(
    lstm: &Lstm,
    x: &Tensor<3>,
    run: impl FnOnce(&Lstm, Tensor<3>) -> Tensor<3>,
) -> (u64, Vec<f32>) {
    let meter = PeakMeter::start(&x.device());
    let grads = run(lstm, x.clone()).square().mean().backward();
    let reading = meter.finish();
    assert_eq!(reading.method, PeakMethod::Exact);
    let weight = &lstm.input_gate.input_transform.weight;
    let grad = weight.grad(&grads).expect("trained").into_data();
    let peak = reading.peak.expect("the allocator is installed").get();
    (peak, grad.try_to_vec().expect("f32"))
}

#[test]
fn an_lstm_in_time_chunks_in_half_precision_stays_below_the_plain_peak() {
    let device = Device::flex().autodiff();
    let lstm: Lstm = LstmConfig::new(FEATURES, HIDDEN, true).init(&device);
    let x = Tensor::<3>::random([BATCH_SIZE, LEN, FEATURES], Distribution::Default, &device);
    let policy = AutocastPolicy::default().keep_type("Lstm");
    let autocast = Autocast::new(Precision::F16).with_policy(policy);

    let plain = |lstm: &Lstm, x: Tensor<3>| lstm.forward(x, None).0;
    let _ = step(&lstm, &x, plain);
    let (plain_peak, plain_grad) = step(&lstm, &x, plain);
    for (chunk_len, at_most) in [(32, 0.45), (8, 0.37)] {
        let half =
            |lstm: &Lstm, x| autocast.run(lstm, x, |lstm: &Lstm, x| in_chunks(lstm, x, chunk_len));
        let (peak, grad) = step(&lstm, &x, half);
        let ratio = peak as f64 / plain_peak as f64;
        println!("{chunk_len} steps: {peak} of {plain_peak} bytes, {ratio:.3}");
        assert!(ratio <= at_most, "{chunk_len} steps: {ratio:.3}");

        let largest = plain_grad.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        for (half, plain) in grad.iter().zip(&plain_grad) {
            assert!(
                (half - plain).abs() <= 0.02 * largest,
                "{half} against {plain}"
            );
        }
    }
}
