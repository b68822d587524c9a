//! Plans of tiles keep their budgets in real steps of a U-Net.
//!
//! The counts are the process's: one test at a time, in a program of its own.

#[path = "../../burn-memopt/tests/counting/mod.rs"]
mod counting;

use std::ops::ControlFlow;

use burn::optim::SgdConfig;
use burn::tensor::{Device, Tensor};
use burn_memopt::budget::{BudgetError, TOLERANCE, Verified, VerifyError};
use burn_memopt::chunked::{
    TileCost, TilePlan, TilePlanner, TilePolicy, TileSetting, TileShape, TiledStep,
};
use burn_memopt::grad_checkpoint::{Policy, hold_random_stream};
use burn_memopt::memory::estimate::{CalibrateError, peak_of_step};
use burn_memopt::memory::{Bytes, PeakMeter};
use burn_memopt::train::{MicroBatchTrainer, MicroBatchTrainerConfig, MicroLoss};
use burn_memopt_models::GradCheckpoint;
use burn_memopt_models::unet::{NormKind, UNet, UNetConfig};
use counting::turn;

/// What the U-Net of these tests reaches.
const HALO: usize = 20;
const STRIDE: usize = 4;
const SIZE: [usize; 2] = [600, 600];
/// What threads keep for products of matrices, or do not: by chance, in bytes.
const OF_THREADS: f64 = (1 << 20) as f64;

/// What two threads pack of matrices, if they do it at the same time.
const PACKED: Bytes = Bytes::kib(256);

fn unet() -> UNet {
    let device = Device::flex().autodiff();
    let _stream = hold_random_stream().seeded(&device, 7);
    let config = UNetConfig::new(1, 1).with_base_channels(4).with_depth(2);
    let unet = config.with_norm(NormKind::Channel).init(&device);
    let _ = unet.forward(Tensor::ones([1, 1, 8, 8], &device));
    unet
}

fn trainer() -> MicroBatchTrainer {
    MicroBatchTrainerConfig::new().init(SgdConfig::new().init())
}

fn loss(output: Tensor<4>, target: Tensor<4>) -> MicroLoss {
    let num_pixels = output.shape().num_elements() as f64;
    MicroLoss::sum((output - target).square().sum(), num_pixels)
}

/// The peak of the second of two steps on two batches of tiles.
fn run(unet: &UNet, policy: Policy, shape: &TileShape) -> Result<Bytes, CalibrateError> {
    let device = Device::flex().autodiff();
    peak_of_step(&device, step(unet, policy, shape.clone()))
}

fn step(
    unet: &UNet,
    policy: Policy,
    shape: TileShape,
) -> impl FnMut(&PeakMeter) -> Result<(), burn_memopt::chunked::BoxError> + use<> {
    let device = Device::flex().autodiff();
    let mut unet = Some(unet.clone().with_grad_checkpoint(policy));
    let mut train = trainer();
    move |_| {
        let current = unet.take().ok_or("a step failed before")?;
        let plane = |[height, width]: [usize; 2]| [shape.num_tiles(), 1, height, width];
        for _ in 0..2 {
            let pixels = Tensor::ones(plane(shape.read()), &device);
            let target = Tensor::zeros(plane(shape.kept()), &device);
            let forward =
                |unet: &UNet, pixels| unet.forward_tiles_within(shape.windows(pixels), HALO);
            train.micro_batch(&current, pixels, forward, |output| {
                loss(shape.cut(output), target)
            });
        }
        let (next, outcome) = train.flush(current, 1e-3);
        unet = Some(next);
        outcome?;
        Ok(())
    }
}

fn planned(
    unet: &UNet,
    budget: Bytes,
) -> Result<Verified<TilePlan, TileSetting>, VerifyError<CalibrateError>> {
    let device = Device::flex().autodiff();
    let planner = TilePlanner::new(1, SIZE, HALO, STRIDE);
    let policies = [Policy::None, Policy::EveryBlock].map(|policy| {
        let prepare = |shape| step(unet, policy, shape);
        let cost = TileCost::measure(&device, HALO, STRIDE, prepare);
        TilePolicy::new(policy, cost.expect("the allocator is installed"))
    });
    planner.verify(budget, policies.into(), |plan| {
        run(unet, plan.policy, &planner.shape(plan))
    })
}

/// The peak of the second of two steps on a whole image, tile by tile as planned, above what was live before.
fn real_step(unet: &UNet, plan: &TilePlan) -> Bytes {
    let device = Device::flex().autodiff();
    let image = Tensor::<4>::ones([1, 1, SIZE[0], SIZE[1]], &device);
    let target = image.zeros_like();
    let tiles = TiledStep::approximate(plan.core, HALO, STRIDE).with_batch_size(plan.batch_size);
    let tiles = tiles.over(&image, &target).unwrap();
    assert!((tiles.read_share() - plan.read_share).abs() < 1e-12);
    let mut unet = Some(unet.clone().with_grad_checkpoint(plan.policy));
    let mut train = trainer();
    let step = |_: &PeakMeter| {
        let current = unet.take().ok_or("a step failed before")?;
        let forward = |unet: &UNet, tiles| unet.forward_tiles_within(tiles, HALO);
        tiles.accumulate(&mut train, &current, forward, loss, |_| {
            ControlFlow::Continue(())
        })?;
        let (next, outcome) = train.flush(current, 1e-3);
        unet = Some(next);
        outcome?;
        Ok(())
    };
    peak_of_step(&device, step).unwrap()
}

#[test]
fn steps_on_planned_tiles_keep_every_budget_and_a_larger_one_is_never_slower() {
    let _turn = turn();
    let unet = unet();
    let mut last: Option<TilePlan> = None;
    for mib in [6, 16, 48, 1024] {
        let budget = Bytes::mib(mib);
        let found = planned(&unet, budget).unwrap();
        let plan = &found.choice.settings;
        let peak = real_step(&unet, plan);
        println!(
            "{budget}: {plan}, {}, {peak}\n{}",
            found.measured_peak, found.choice
        );
        assert!(peak <= budget + PACKED, "{peak} of {budget}: {plan}");
        let predicted = found.choice.predicted_peak.get() as f64;
        let error = (peak.get() as f64 - predicted).abs();
        assert!(
            error <= (TOLERANCE * predicted).max(OF_THREADS),
            "{peak} instead of {}: {plan}",
            found.choice.predicted_peak
        );
        if let Some(last) = &last {
            assert!(plan.time() <= last.time(), "{plan} after {last}");
        }
        last = Some(plan.clone());
    }
    let last = last.unwrap();
    assert_eq!((last.core, last.policy), (SIZE, Policy::None));
}

#[test]
fn the_least_budget_of_an_error_is_enough() {
    let _turn = turn();
    let unet = unet();
    let Err(VerifyError::Budget(error)) = planned(&unet, Bytes::new(1000)) else {
        panic!("nothing trains within 1000 bytes");
    };
    let BudgetError { least, with, .. } = error;
    let with = with.unwrap();
    let smallest = [
        "tiles of 40×40 pixels, 1 at once",
        "tiles of 48×48 pixels, 1 at once",
    ];
    assert!(
        smallest.iter().any(|tiles| with.starts_with(tiles)),
        "{with}"
    );
    let found = planned(&unet, least + PACKED).unwrap();
    // Not far above the smallest: what threads keep differs from one measurement to the next.
    let core = found.choice.settings.core;
    assert!(core.iter().all(|side| (40..=64).contains(side)), "{core:?}");
}
