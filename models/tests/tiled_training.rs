//! The gradient of a U-Net on tiles of an image against that on the whole image.

mod gradients;

use std::ops::ControlFlow;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, Distribution, Int, Tensor};
use burn_memopt::chunked::{SumLoss, TiledError, TiledStep, measure_training_reach};
use burn_memopt::grad_checkpoint::{Policy, hold_random_stream};
use burn_memopt::train::{MicroLoss, freeze_statistics};
use burn_memopt_models::GradCheckpoint;
use burn_memopt_models::loss::{
    BceDiceLoss, BceLoss, CountLoss, CountLossConfig, CrossEntropyDiceLoss, CrossEntropyLoss,
    LossSum,
};
use burn_memopt_models::unet::{NormKind, UNet, UNetConfig, Upsample};
use rstest::rstest;

use gradients::{Gradients, furthest, listed, take, trainer};

const CHANNELS: usize = 3;
const DEPTH: usize = 2;
/// Height and width: no tile divides the sides, and neither does the stride.
const SIZE: [usize; 2] = [175, 225];

fn unet(norm: NormKind, upsample: Upsample, outputs: usize, depth: usize) -> UNet {
    let device = Device::flex().autodiff();
    let _stream = hold_random_stream().seeded(&device, 7);
    let config = UNetConfig::new(CHANNELS, outputs)
        .with_base_channels(4)
        .with_depth(depth)
        .with_norm(norm)
        .with_upsample(upsample);
    let unet = config.init(&device);
    let seen = Tensor::random(
        [2, CHANNELS, 64, 64],
        Distribution::Normal(0.5, 2.0),
        &device,
    );
    unet.forward(seen);
    match norm {
        NormKind::Batch => freeze_statistics(unet),
        _ => unet,
    }
}

fn random(seed: u64, shape: [usize; 4], distribution: Distribution) -> Tensor<4> {
    let device = Device::flex().autodiff();
    let _stream = hold_random_stream().seeded(&device, seed);
    Tensor::random(shape, distribution, &device)
}

fn image(seed: u64, num: usize, [height, width]: [usize; 2]) -> Tensor<4> {
    let shape = [num, CHANNELS, height, width];
    random(seed, shape, Distribution::Normal(0.0, 1.0))
}

/// Numbers from 0 to below `classes`, more zeros on the left.
fn target(seed: u64, num: usize, classes: usize, [height, width]: [usize; 2]) -> Tensor<4> {
    let most = Distribution::Uniform(0.0, classes as f64);
    let values = random(seed + 100, [num, 1, height, width], most);
    let ramp = Tensor::<1, Int>::arange(0..width as i64, &values.device()).float() / width as f64;
    (values * ramp.reshape([1, 1, 1, width])).floor()
}

fn micro(loss: LossSum) -> MicroLoss {
    MicroLoss::sum(loss.sum, loss.weight)
}

/// Of a plain step on all images.
fn whole(unet: &UNet, image: &Tensor<4>, loss: impl Fn(Tensor<4>) -> LossSum) -> (f64, Gradients) {
    let mut train = trainer();
    train.micro_batch(unet, image.clone(), UNet::forward, |output| {
        micro(loss(output))
    });
    let grads = take(&mut train, unet);
    (train.last_loss().expect("a loss"), grads)
}

fn step(unet: &UNet, tile: usize) -> TiledStep {
    let _stream = hold_random_stream().seeded(&Device::flex(), 3);
    let stride = 1 << unet.downs.len();
    let shape = [CHANNELS, 24 * stride, 24 * stride];
    let reach = measure_training_reach(unet, shape, stride, UNet::forward_tiles);
    let halo = reach.halo().expect("a limited reach");
    assert!((4 * stride..=8 * stride).contains(&halo), "{reach:?}");
    TiledStep::new([tile; 2], &reach).expect("a limited reach")
}

/// As [`whole`] in f64: what both should be.
fn exact(unet: UNet, image: &Tensor<4>, loss: impl Fn(Tensor<4>) -> LossSum) -> Gradients {
    struct InF64;
    impl ModuleMapper for InF64 {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let (id, tensor, _) = param.consume();
            let data = tensor.into_data().convert::<f64>();
            let device = Device::flex().autodiff();
            let tensor = Tensor::from_data(data, (&device, DType::F64));
            Param::initialized(id, tensor.require_grad())
        }
    }
    let unet = unet.map(&mut InF64);
    let output = unet.forward(image.clone().cast(DType::F64));
    let loss = loss(output.cast(DType::F32));
    let grads = loss.mean().backward();
    listed(&unet, &GradientsParams::from_grads(grads, &unet))
}

/// The difference of all gradients together, in shares of the gradient.
fn together(got: &Gradients, wanted: &Gradients) -> f64 {
    assert_eq!(got.len(), wanted.len());
    let squares =
        |values: &mut dyn Iterator<Item = f64>| values.map(|value| value.powi(2)).sum::<f64>();
    let pairs = got.iter().flatten().zip(wanted.iter().flatten());
    let off = squares(&mut pairs.map(|(got, wanted)| got - wanted));
    (off / squares(&mut wanted.iter().flatten().copied())).sqrt()
}

fn pixel_sums(
    step: &TiledStep,
    unet: &UNet,
    [image, target]: [&Tensor<4>; 2],
    loss: impl Fn(Tensor<4>, Tensor<4>) -> LossSum,
) -> (f64, Gradients) {
    let mut train = trainer();
    let tiled = step.over(image, target).expect("of one size");
    let go_on = |_| ControlFlow::Continue(());
    let forward = |unet: &UNet, tiles| unet.forward_tiles_within(tiles, tiled.margin());
    let loss = |output, target| micro(loss(output, target));
    let ran = tiled.accumulate(&mut train, unet, forward, loss, go_on);
    ran.expect("nothing fails");
    let grads = take(&mut train, unet);
    (train.last_loss().expect("a loss"), grads)
}

fn global_sums(
    step: &TiledStep,
    unet: &UNet,
    [image, target]: [&Tensor<4>; 2],
    loss: &impl SumLoss<UNet>,
) -> (f64, Gradients) {
    let mut train = trainer();
    let tiled = step.over(image, target).expect("of one size");
    let go_on = |_| ControlFlow::Continue(());
    let forward = |unet: &UNet, tiles| unet.forward_tiles_within(tiles, tiled.margin());
    let ran = tiled.accumulate_sums(&mut train, unet, forward, loss, go_on);
    ran.expect("nothing fails");
    let grads = take(&mut train, unet);
    (train.last_loss().expect("a loss"), grads)
}

fn bce(output: Tensor<4>, target: Tensor<4>) -> LossSum {
    BceLoss.forward_sum(output, target, None)
}

fn micro_bce(output: Tensor<4>, target: Tensor<4>) -> MicroLoss {
    micro(bce(output, target))
}

fn cross_entropy(output: Tensor<4>, target: Tensor<4>) -> LossSum {
    CrossEntropyLoss.forward_sum(output, target.squeeze_dim::<3>(1).int(), None)
}

fn squares(output: Tensor<4>, target: Tensor<4>) -> LossSum {
    let weight = output.shape().num_elements() as f64;
    let sum = (output - target).square().sum();
    LossSum { sum, weight }
}

fn bce_dice(output: Tensor<4>, target: Tensor<4>) -> LossSum {
    let sum = BceDiceLoss::default().forward(output, target, None);
    LossSum { sum, weight: 1.0 }
}

fn cross_entropy_dice(output: Tensor<4>, target: Tensor<4>) -> LossSum {
    let labels = target.squeeze_dim::<3>(1).int();
    let sum = CrossEntropyDiceLoss::default().forward(output, labels, None);
    LossSum { sum, weight: 1.0 }
}

fn of_density() -> CountLoss {
    let config = CountLossConfig::new().with_density_scale(1.0);
    config.with_count_weight(0.0).init()
}

fn of_count() -> CountLoss {
    CountLossConfig::new().with_density_scale(1.0).init()
}

fn density(output: Tensor<4>, target: Tensor<4>) -> LossSum {
    of_density().forward_sum(output, target * 0.01, None)
}

fn count(output: Tensor<4>, target: Tensor<4>) -> LossSum {
    of_count().forward_sum(output, target * 0.01, None)
}

/// A loss on whole images, and how its gradient is taken on tiles of them.
struct Case {
    name: &'static str,
    /// Channels that the network has for it; the target has as many classes, or two.
    outputs: usize,
    whole: fn(Tensor<4>, Tensor<4>) -> LossSum,
    tiled: fn(&TiledStep, &UNet, [&Tensor<4>; 2]) -> (f64, Gradients),
}

const CASES: [Case; 7] = [
    Case {
        name: "binary cross-entropy",
        outputs: 1,
        whole: bce,
        tiled: |step, unet, data| pixel_sums(step, unet, data, bce),
    },
    Case {
        name: "squares",
        outputs: 1,
        whole: squares,
        tiled: |step, unet, data| pixel_sums(step, unet, data, squares),
    },
    Case {
        name: "cross-entropy",
        outputs: 3,
        whole: cross_entropy,
        tiled: |step, unet, data| pixel_sums(step, unet, data, cross_entropy),
    },
    Case {
        name: "binary cross-entropy and Dice",
        outputs: 1,
        whole: bce_dice,
        tiled: |step, unet, data| global_sums(step, unet, data, &BceDiceLoss::default()),
    },
    Case {
        name: "cross-entropy and Dice",
        outputs: 3,
        whole: cross_entropy_dice,
        tiled: |step, unet, data| global_sums(step, unet, data, &CrossEntropyDiceLoss::default()),
    },
    Case {
        name: "density",
        outputs: 1,
        whole: density,
        tiled: |step, unet, [image, target]| {
            global_sums(step, unet, [image, &(target.clone() * 0.01)], &of_density())
        },
    },
    Case {
        name: "count",
        outputs: 1,
        whole: count,
        tiled: |step, unet, [image, target]| {
            global_sums(step, unet, [image, &(target.clone() * 0.01)], &of_count())
        },
    },
];

impl Case {
    fn data(&self, seed: u64, num: usize, size: [usize; 2]) -> [Tensor<4>; 2] {
        [
            image(seed, num, size),
            target(seed, num, self.outputs.max(2), size),
        ]
    }

    /// Whether `is_near` holds for an image. One of millions of values may be at the kink of its ReLU to rounding,
    /// and fall on its other side where it is computed in another order, which adds or drops the gradient of a pixel: not
    /// so in the next image.
    #[track_caller]
    fn assert_near<D: std::fmt::Debug>(
        &self,
        off: impl Fn(u64) -> D,
        is_near: impl Fn(&D) -> bool,
    ) {
        let mut far = Vec::new();
        for seed in 1..=3 {
            far.push(off(seed));
            if far.last().is_some_and(&is_near) {
                return;
            }
        }
        panic!("{}: the gradient is off by {far:?}", self.name);
    }
}

#[rstest]
fn the_gradient_is_that_of_the_whole_image(
    #[values(NormKind::None, NormKind::Channel, NormKind::Batch)] norm: NormKind,
    #[values(Upsample::Bilinear, Upsample::Transposed)] upsample: Upsample,
    #[values([64, 3, 1], [96, 3, 1], [64, 2, 2])] tiles: [usize; 3],
) {
    let [tile, batch_size, num] = tiles;
    for case in CASES {
        let unet = unet(norm, upsample, case.outputs, DEPTH);
        let step = step(&unet, tile).with_batch_size(batch_size);
        let off = |seed| {
            let [image, target] = case.data(seed, num, SIZE);
            let wanted = whole(&unet, &image, |output| (case.whole)(output, target.clone()));
            let got = (case.tiled)(&step, &unet, [&image, &target]);
            let off = (got.0 - wanted.0).abs() / wanted.0.abs();
            assert!(off <= 1e-5, "{}: the loss is off by {off:e}", case.name);
            furthest(&got.1, &wanted.1)
        };
        case.assert_near(off, |off| *off <= 1e-5);
    }
}

/// Of all parameters together; and no parameter is further from the gradient in f32 than that is from the
/// gradient in f64.
fn check_large(cases: &[Case], norm: NormKind, upsample: Upsample, tile: usize) {
    for case in cases {
        let unet = || unet(norm, upsample, case.outputs, 3);
        let step = step(&unet(), tile);
        let off = |seed| {
            let (unet, [image, target]) = (unet(), case.data(seed, 1, [700, 900]));
            let loss = |output| (case.whole)(output, target.clone());
            let (_, plain) = whole(&unet, &image, loss);
            let (_, tiled) = (case.tiled)(&step, &unet, [&image, &target]);
            let exact = exact(unet, &image, loss);
            let off = [
                together(&tiled, &plain),
                furthest(&tiled, &plain),
                furthest(&plain, &exact),
            ];
            println!(
                "{} {norm:?} {upsample:?} {tile}: {off:.1?}",
                case.name,
                off = off.map(|off| format!("{off:.1e}"))
            );
            off
        };
        let is_near = |[together, furthest, rounding]: &[f64; 3]| {
            *together <= 1e-5 && *furthest <= rounding.max(1e-5)
        };
        case.assert_near(off, is_near);
    }
}

#[test]
fn a_large_image_has_the_gradient_of_the_whole() {
    // A loss of one pass over tiles, and one of two.
    check_large(&CASES[2..4], NormKind::Channel, Upsample::Bilinear, 256);
}

#[rstest]
#[ignore = "takes minutes: the same for all norms, upsamplings and tiles"]
fn large_images_have_the_gradient_of_the_whole(
    #[values(NormKind::None, NormKind::Channel, NormKind::Batch)] norm: NormKind,
    #[values(Upsample::Bilinear, Upsample::Transposed)] upsample: Upsample,
    #[values(128, 256)] tile: usize,
) {
    check_large(&CASES, norm, upsample, tile);
}

#[rstest]
fn a_margin_that_the_network_is_told_changes_nothing(
    #[values(Upsample::Bilinear, Upsample::Transposed)] upsample: Upsample,
) {
    let (image, mask) = (image(1, 1, SIZE), target(1, 1, 2, SIZE));
    let unet = unet(NormKind::Channel, upsample, 1, DEPTH);
    let step = step(&unet, 64);
    let within = pixel_sums(&step, &unet, [&image, &mask], bce);
    let mut train = trainer();
    let tiled = step.over(&image, &mask).expect("of one size");
    let go_on = |_| ControlFlow::Continue(());
    let ran = tiled.accumulate(&mut train, &unet, UNet::forward_tiles, micro_bce, go_on);
    ran.expect("nothing fails");
    let off = furthest(&within.1, &take(&mut train, &unet));
    assert!(off < 1e-5, "{off:e}");
}

#[test]
fn recomputed_tiles_have_the_same_gradient() {
    let (image, mask) = (image(1, 1, SIZE), target(1, 1, 2, SIZE));
    let unet = unet(NormKind::Channel, Upsample::Bilinear, 1, DEPTH);
    let step = step(&unet, 64);
    let plain = pixel_sums(&step, &unet, [&image, &mask], bce);
    let cut = unet.clone().with_grad_checkpoint(Policy::EveryBlock);
    let recomputed = pixel_sums(&step, &cut, [&image, &mask], bce);
    assert_eq!(furthest(&recomputed.1, &plain.1), 0.0);
}

#[rstest]
fn a_margin_that_is_too_small_is_off(
    #[values(Upsample::Bilinear, Upsample::Transposed)] upsample: Upsample,
) {
    let (image, mask) = (image(1, 1, SIZE), target(1, 1, 2, SIZE));
    let unet = unet(NormKind::None, upsample, 1, DEPTH);
    let enough = step(&unet, 64);
    // Tiles start at multiples of the stride: the next smaller margin.
    let stride = 1 << DEPTH;
    let small = TiledStep::approximate([64; 2], enough.margin() - stride, stride);
    let wanted = whole(&unet, &image, |output| bce(output, mask.clone()));
    let off = [enough, small].map(|step| {
        let got = pixel_sums(&step, &unet, [&image, &mask], bce);
        furthest(&got.1, &wanted.1)
    });
    assert!(off[1] > 3.0 * off[0], "{off:?}");
}

#[rstest]
#[case::group(NormKind::Group { groups: 2 }, "GroupNorm")]
#[case::batch(NormKind::Batch, "BatchNorm in training")]
fn norms_that_see_the_whole_image_are_named(#[case] norm: NormKind, #[case] name: &str) {
    let device = Device::flex().autodiff();
    let unet = UNetConfig::new(3, 1)
        .with_base_channels(4)
        .with_depth(DEPTH)
        .with_norm(norm)
        .init(&device);
    let reach = measure_training_reach(&unet, [3, 96, 96], 4, UNet::forward_tiles);
    let error = TiledStep::new([64; 2], &reach).expect_err("no limited reach");
    assert!(
        matches!(error, TiledError::WholeImage { share, .. } if share > 0.0),
        "{error}"
    );

    // A reach that was measured without training does not help.
    let frozen = freeze_statistics(unet.clone());
    let reach = measure_training_reach(&frozen, [3, 96, 96], 4, UNet::forward_tiles);
    let (image, mask) = (image(1, 1, SIZE), target(1, 1, 2, SIZE));
    let approximate = TiledStep::approximate([64; 2], 24, 4);
    let step = match TiledStep::new([64; 2], &reach) {
        Ok(step) => step,
        Err(_) => {
            assert_eq!(name, "GroupNorm");
            let got = pixel_sums(&approximate, &unet, [&image, &mask], bce);
            assert!(got.0.is_finite());
            return;
        }
    };
    let tiled = step.over(&image, &mask).expect("of one size");
    let mut train = trainer();
    let go_on = |_| ControlFlow::Continue(());
    let ran = tiled.accumulate(&mut train, &unet, UNet::forward_tiles, micro_bce, go_on);
    let error = ran.expect_err("statistics of the batch").to_string();
    assert!(
        error.contains(name) && error.contains("inc.norm1"),
        "{error}"
    );
}
