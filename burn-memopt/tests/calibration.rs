//! Peaks of steps, predicted from steps on shorter sequences.

mod blocks;
mod counting;

use blocks::{Attention, test_device};
use burn::tensor::{Bool, Device, Distribution, Tensor};
use burn_memopt::chunked::BoxError;
use burn_memopt::grad_checkpoint::{Chain, Policy, Segment};
use burn_memopt::memory::PeakMeter;
use burn_memopt::memory::estimate::{PeakFit, Workload, calibrate, peak_of_step};
use counting::turn;

const NUM_BLOCKS: usize = 4;
const WIDTH: usize = 16;

/// A small transformer, whose attention keeps maps of all pairs of tokens.
struct Transformer {
    blocks: Vec<Attention>,
    policy: Policy,
    device: Device,
}

impl Transformer {
    fn new(policy: Policy) -> Self {
        let device = test_device();
        let blocks = (0..NUM_BLOCKS).map(|_| Attention::new(WIDTH, &device));
        Self {
            blocks: blocks.collect(),
            policy,
            device,
        }
    }

    /// A training step on sequences.
    fn step(&self, workload: Workload) -> impl FnMut(&PeakMeter) -> Result<(), BoxError> {
        let Workload {
            batch_size,
            size: [_, len],
        } = workload;
        let shape = [batch_size, len, WIDTH];
        let x = Tensor::<3>::random(shape, Distribution::Default, &self.device);
        let mask = Tensor::<2, Bool>::zeros([batch_size, len], &self.device);
        move |_| {
            let forward = |block: &Attention, (x, mask): (Tensor<3>, Tensor<2, Bool>)| {
                (block.forward(x, mask.clone()), mask)
            };
            let chain =
                Chain::new(&self.blocks, forward).with_segment(Segment::new().without_randomness());
            let (y, _) = chain.run(self.policy, (x.clone(), mask.clone()));
            y.square().mean().backward();
            Ok(())
        }
    }

    fn fit(&self, workloads: &[Workload]) -> PeakFit {
        calibrate(&self.device, workloads, |workload| self.step(workload)).unwrap()
    }

    #[track_caller]
    fn assert_predicted(&self, fit: &PeakFit, workload: Workload, deviation: f64) {
        let measured = peak_of_step(&self.device, self.step(workload)).unwrap();
        let ratio = fit.at(workload).get() as f64 / measured.get() as f64;
        println!(
            "{workload}: {} predicted, {measured} measured",
            fit.at(workload)
        );
        assert!(
            (ratio - 1.0).abs() <= deviation,
            "{workload}: {ratio:.3} of {measured}"
        );
    }
}

#[test]
fn the_peak_on_long_sequences_is_predicted_from_three_short_lengths() {
    let _turn = turn();
    for policy in [Policy::None, Policy::EveryBlock] {
        let transformer = Transformer::new(policy);
        let long = Workload::sequences(2, 512);
        let fit = transformer.fit(&long.calibration(32, 1));
        for batch_size in [1, 2, 4] {
            let workload = Workload::sequences(batch_size, 512);
            transformer.assert_predicted(&fit, workload, 0.03);
        }
        let workload = Workload::sequences(2, 384);
        transformer.assert_predicted(&fit, workload, 0.03);
    }
}

#[test]
fn a_larger_batch_stands_for_a_third_length() {
    let _turn = turn();
    let transformer = Transformer::new(Policy::None);
    let workloads = [(1, 64), (2, 64), (2, 128)].map(|(n, len)| Workload::sequences(n, len));
    let fit = transformer.fit(&workloads);
    transformer.assert_predicted(&fit, Workload::sequences(2, 512), 0.05);
}

#[test]
fn the_peak_of_a_larger_batch_is_predicted_from_two_of_the_same_length() {
    let _turn = turn();
    let transformer = Transformer::new(Policy::None);
    let fit = transformer.fit(&[1, 2].map(|n| Workload::sequences(n, 128)));
    transformer.assert_predicted(&fit, Workload::sequences(8, 128), 0.03);
}

#[test]
#[should_panic(expected = "got 2×64, 2×128: measure a third length")]
fn two_lengths_foretell_no_third_and_are_refused_before_they_run() {
    // A panic's backtrace takes megabytes.
    let _turn = turn();
    let device = test_device();
    let workloads = [64, 128].map(|len| Workload::sequences(2, len));
    let _ = calibrate(&device, &workloads, |_| {
        |_: &PeakMeter| -> Result<(), BoxError> { unreachable!("it was run") }
    });
}
