//! Training on tiles: the gradient of the whole image, in memory that does not grow with it, or an error.

mod counting;

use std::ops::{ControlFlow, Range};
use std::sync::Mutex;

use burn::module::{Module, ModuleVisitor, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{
    BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig, PaddingConfig2d,
};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::activation::{log_softmax, relu, sigmoid};
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use burn_memopt::chunked::{
    BoxError, ChunkedError, ImageSource, Reach, SumLoss, TiledError, TiledStep, Windows,
    measure_training_reach,
};
use burn_memopt::grad_checkpoint::{grad_checkpoint, hold_random_stream};
use burn_memopt::memory::PeakMeter;
use burn_memopt::precision::{AutocastPolicy, Precision, batch_norm};
use burn_memopt::train::{
    DataParallel, MicroBatchTrainer, MicroBatchTrainerConfig, MicroBatches, MicroLoss, StepOutcome,
    draw_parameters, freeze_statistics,
};
use counting::turn;
use rstest::rstest;

fn device() -> Device {
    Device::flex().autodiff()
}

/// A pixel reaches 2 + 1 pixels.
#[derive(Module, Debug)]
struct Net {
    wide: Conv2d,
    norm: BatchNorm,
    narrow: Conv2d,
    dropout: Dropout,
    classes: Linear,
}

const FEATURES: usize = 6;
const CLASSES: usize = 3;

fn conv(channels: [usize; 2], side: usize) -> Conv2d {
    let border = side / 2;
    let padding = PaddingConfig2d::Explicit(border, border, border, border);
    Conv2dConfig::new(channels, [side, side])
        .with_padding(padding)
        .init(&device())
}

impl Net {
    fn new(dropout: f64) -> Self {
        let _stream = hold_random_stream().seeded(&device(), 3);
        let net = Self {
            wide: conv([2, FEATURES], 5),
            norm: BatchNormConfig::new(FEATURES).init(&device()),
            narrow: conv([FEATURES, FEATURES], 3),
            dropout: DropoutConfig::new(dropout).init(),
            classes: LinearConfig::new(FEATURES, CLASSES).init(&device()),
        };
        // burn draws weights when they are first used.
        draw_parameters(&net);
        net
    }

    /// Batch norm is frozen, and there is no dropout.
    fn exact() -> Self {
        freeze_statistics(Self::new(0.0))
    }

    fn features(&self, tiles: Windows) -> Tensor<4> {
        let x = relu(batch_norm(&self.norm, self.wide.forward(tiles.pixels)));
        self.dropout.forward(self.narrow.forward(x))
    }

    fn mask(&self, tiles: Windows) -> Tensor<4> {
        self.features(tiles).narrow(1, 0, 1)
    }

    fn of_pixels(&self, pixels: Tensor<4>) -> Tensor<4> {
        self.mask(whole_window(pixels))
    }

    /// The mask, of a segment that draws.
    fn recomputed_mask(&self, tiles: Windows) -> Tensor<4> {
        grad_checkpoint(self, tiles.pixels, Self::of_pixels)
    }

    /// Half of the resolution.
    fn pooled(&self, tiles: Windows) -> Tensor<4> {
        max_pool2d(self.features(tiles), MaxPoolOptions::new([2, 2]))
    }
}

fn random(shape: [usize; 4]) -> Tensor<4> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device())
}

fn images(num: usize, [height, width]: [usize; 2]) -> [Tensor<4>; 2] {
    let image = random([num, 2, height, width]);
    let target = random([num, 1, height, width]).greater_elem(0.3).float();
    [image, target]
}

fn trainer() -> MicroBatchTrainer {
    MicroBatchTrainerConfig::new().init(SgdConfig::new().init())
}

fn go_on(_: burn_memopt::chunked::Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn squares(output: Tensor<4>, target: Tensor<4>) -> MicroLoss {
    let num_pixels = output.shape().num_elements() as f64;
    MicroLoss::sum((output - target).square().sum(), num_pixels)
}

fn whole_window(pixels: Tensor<4>) -> Windows {
    let [num, _, height, width] = pixels.dims();
    let place = |image| burn_memopt::chunked::WindowPlace {
        image,
        row: 0,
        column: 0,
    };
    Windows {
        pixels,
        places: (0..num).map(place).collect(),
        image_size: [height, width],
    }
}

fn whole(net: &Net, image: &Tensor<4>, loss: impl Fn(&Net, Windows) -> MicroLoss) -> Grads {
    let mut train = trainer();
    let tiles = whole_window(image.clone());
    train.begin(net);
    train.backward(net, loss(net, tiles));
    take(&mut train, net)
}

type Grads = (f64, GradientsParams);

fn take(train: &mut MicroBatchTrainer, net: &Net) -> Grads {
    let grads = train
        .take_gradients(net)
        .expect("finite")
        .expect("accumulated");
    (train.last_loss().expect("a loss"), grads)
}

/// The largest difference of any gradient, in shares of the largest value of its parameter.
fn furthest(net: &Net, got: &GradientsParams, wanted: &GradientsParams) -> f32 {
    struct Compare<'a>([&'a GradientsParams; 2], f32, usize);
    impl ModuleVisitor for Compare<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let [got, wanted] = self.0.map(|grads| grads.get::<D>(param.id));
            assert_eq!(got.is_some(), wanted.is_some());
            if let (Some(got), Some(wanted)) = (got, wanted) {
                let largest: f32 = wanted.clone().abs().max().into_scalar();
                let off: f32 = (got - wanted).abs().max().into_scalar();
                assert!(off.is_finite());
                self.1 = self.1.max(off / largest.max(1e-20));
                self.2 += 1;
            }
        }
    }
    let mut compare = Compare([got, wanted], 0.0, 0);
    net.visit(&mut compare);
    assert!(compare.2 >= 4);
    compare.1
}

#[track_caller]
fn assert_close(net: &Net, got: Grads, wanted: Grads) {
    let off = furthest(net, &got.1, &wanted.1);
    assert!(off <= 1e-5, "gradients are off by {off:e}");
    assert!(
        (got.0 - wanted.0).abs() <= 1e-5 * wanted.0.abs(),
        "{} {}",
        got.0,
        wanted.0
    );
}

fn tiled(step: &TiledStep, net: &Net, [image, target]: [&dyn ImageSource; 2]) -> Grads {
    let mut train = trainer();
    let tiles = step.over(image, target).expect("of one size");
    let ran = tiles.accumulate(&mut train, net, Net::mask, squares, go_on);
    ran.expect("nothing fails");
    take(&mut train, net)
}

fn tiled_sums(
    step: &TiledStep,
    net: &Net,
    [image, target]: [&dyn ImageSource; 2],
    forward: impl Fn(&Net, Windows) -> Tensor<4>,
    loss: &impl SumLoss<Net>,
) -> Grads {
    let mut train = trainer();
    let tiles = step.over(image, target).expect("of one size");
    let ran = tiles.accumulate_sums(&mut train, net, forward, loss, go_on);
    ran.expect("nothing fails");
    take(&mut train, net)
}

#[test]
fn the_margin_is_the_reach_and_one_pixel_less_is_too_small() {
    let _turn = turn();
    let net = Net::exact();
    let reach = measure_training_reach(&net, [2, 32, 32], 1, Net::mask);
    assert_eq!(reach.halo(), Some(3));
    let [image, target] = images(1, [61, 83]);
    let wanted = || {
        whole(&net, &image, |net, tiles| {
            squares(net.mask(tiles), target.clone())
        })
    };
    let exact = TiledStep::new([16, 16], &reach).expect("a limited reach");
    assert_close(&net, tiled(&exact, &net, [&image, &target]), wanted());
    let small = TiledStep::approximate([16, 16], 2, 1);
    let got = tiled(&small, &net, [&image, &target]);
    assert!(furthest(&net, &got.1, &wanted().1) > 1e-4);
}

#[test]
fn what_a_model_begins_with_hides_no_reach() {
    let _turn = turn();
    let reach_of = |net: &Net, forward: fn(&Net, Windows) -> Tensor<4>, stride: usize| {
        measure_training_reach(net, [2, 32, 32], stride, forward).halo()
    };
    // A last layer of zeros, as densities often begin with.
    let mut net = Net::exact();
    net.narrow.weight = net.narrow.weight.map(|weight| weight.zeros_like());
    assert_eq!(reach_of(&net, Net::mask, 1), Some(3));
    let dropout = freeze_statistics(Net::new(0.5));
    assert_eq!(reach_of(&dropout, Net::mask, 1), Some(3));
    // In pixels of the image, where the output has fewer.
    let halo = reach_of(&Net::exact(), Net::pooled, 2).expect("a limited reach");
    assert!((2..=4).contains(&halo), "{halo}");
}

#[test]
#[should_panic(expected = "the output must change with the image")]
fn an_output_that_never_changes_has_no_reach() {
    Reach::measure([1, 16, 16], 1, &Device::flex(), |image| image.zeros_like());
}

#[test]
#[should_panic(expected = "the output must be finite")]
fn an_output_of_nan_has_no_reach() {
    Reach::measure([1, 16, 16], 1, &Device::flex(), |image| image * f32::NAN);
}

#[test]
fn batches_and_tiles_of_any_size_give_the_same() {
    let _turn = turn();
    let net = Net::exact();
    let [image, target] = images(2, [50, 37]);
    let wanted = || {
        whole(&net, &image, |net, tiles| {
            squares(net.mask(tiles), target.clone())
        })
    };
    for (core, batch_size) in [([7, 11], 1), ([8, 8], 100), ([50, 9], 3), ([64, 64], 2)] {
        let step = TiledStep::approximate(core, 3, 1).with_batch_size(batch_size);
        assert_close(&net, tiled(&step, &net, [&image, &target]), wanted());
    }
    let step = TiledStep::approximate([10, 10], 3, 1);
    let tiles = step.over(&image, &target).expect("of one size");
    assert_eq!(tiles.num_tiles(), 2 * 5 * 4);
    assert!(
        (1.5..2.5).contains(&tiles.read_share()),
        "{}",
        tiles.read_share()
    );
}

/// The class of an image by the mean of its features.
struct Class {
    labels: Vec<usize>,
}

impl SumLoss<Net> for Class {
    fn sums(&self, output: Tensor<4>, _: Tensor<4>) -> Tensor<2> {
        let num_pixels = (output.dims()[2] * output.dims()[3]) as f64;
        let sums = output.flatten::<3>(2, 3).sum_dim(2).squeeze_dim::<2>(2);
        let pixels = sums.clone().narrow(1, 0, 1).full_like(num_pixels);
        Tensor::cat(vec![sums, pixels], 1)
    }

    fn loss(&self, net: &Net, sums: Tensor<2>) -> MicroLoss {
        let [num_images, _] = sums.dims();
        let pixels = sums.clone().narrow(1, FEATURES, 1);
        let logits = net.classes.forward(sums.narrow(1, 0, FEATURES) / pixels);
        let losses = log_softmax(logits, 1).neg();
        let chosen = self.labels.iter().enumerate();
        let chosen = chosen.map(|(image, &label)| {
            let row = losses.clone().narrow(0, image, 1);
            row.narrow(1, label, 1)
        });
        let loss = Tensor::cat(chosen.collect(), 0).mean();
        MicroLoss::mean(loss, num_images as f64)
    }
}

#[rstest]
#[case::full_resolution(Net::features, 1)]
#[case::half_resolution(Net::pooled, 2)]
fn a_classifier_of_whole_images_learns_its_head_too(
    #[case] forward: fn(&Net, Windows) -> Tensor<4>,
    #[case] stride: usize,
    #[values([40, 52], [41, 53], [33, 49])] size: [usize; 2],
) {
    let _turn = turn();
    let net = Net::exact();
    let [image, _] = images(2, size);
    let class = Class { labels: vec![2, 0] };
    let wanted = whole(&net, &image, |net, tiles| {
        let output = forward(net, tiles);
        class.loss(net, class.sums(output.clone(), output))
    });
    assert!(wanted.1.get::<2>(net.classes.weight.id).is_some());
    let step = TiledStep::approximate([16, 16], 4, stride).with_batch_size(2);
    let got = tiled_sums(&step, &net, [&image, &image], forward, &class);
    assert_close(&net, got, wanted);
}

/// A loss of a user: the deviation of the mean from that of the target, and a variance.
struct Moments;

impl<M> SumLoss<M> for Moments {
    fn sums(&self, output: Tensor<4>, target: Tensor<4>) -> Tensor<2> {
        let sum = |map: Tensor<4>| map.flatten::<2>(1, 3).sum_dim(1);
        let output = sigmoid(output);
        let sums = [target.ones_like(), output.clone(), output.square(), target];
        Tensor::cat(sums.map(sum).into(), 1)
    }

    fn loss(&self, _: &M, sums: Tensor<2>) -> MicroLoss {
        let mean = |number| sums.clone().narrow(1, number, 1) / sums.clone().narrow(1, 0, 1);
        let variance = mean(2) - mean(1).square();
        let loss = (mean(1) - mean(3)).square() * 10.0 + variance.sqrt();
        MicroLoss::sum(loss.sum(), sums.dims()[0] as f64)
    }
}

#[test]
fn a_loss_of_ones_own_is_differentiated_by_its_sums() {
    let _turn = turn();
    let net = Net::exact();
    let [image, target] = images(3, [33, 47]);
    let loss_of = |net: &Net, tiles: Windows| {
        let sums = SumLoss::<Net>::sums(&Moments, net.mask(tiles), target.clone());
        Moments.loss(net, sums)
    };
    let wanted = whole(&net, &image, loss_of);
    let step = TiledStep::approximate([12, 12], 3, 1).with_batch_size(4);
    let got = tiled_sums(&step, &net, [&image, &target], Net::mask, &Moments);
    assert_close(&net, got, wanted);
}

/// How likely the target's pixels are under all pixels' values: `ln Σ exp` over the pixels that the target has, once
/// far above what f32 can hold and once below, and the number of them.
struct LogSums;

impl LogSums {
    fn log_sum(values: Tensor<4>, is_in: &Tensor<4>) -> Tensor<2> {
        let values = values.flatten::<2>(1, 3);
        let is_in = is_in.clone().flatten::<2>(1, 3);
        let largest = values.clone().detach().max_dim(1);
        let sum = ((values - largest.clone()).exp() * is_in.clone()).sum_dim(1);
        let is_empty = is_in.sum_dim(1).equal_scalar(0.0);
        let log = sum.clamp_min(1e-30).log() + largest;
        log.mask_fill(is_empty, f32::NEG_INFINITY)
    }
}

impl<M> SumLoss<M> for LogSums {
    fn sums(&self, output: Tensor<4>, target: Tensor<4>) -> Tensor<2> {
        let is_in = target.greater_elem(0.0).float();
        let number = is_in.clone().flatten::<2>(1, 3).sum_dim(1);
        let logs = [(6.0, 100.0), (-4.0, -100.0), (20.0, 0.0)]
            .map(|(factor, offset)| Self::log_sum(output.clone() * factor + offset, &is_in));
        Tensor::cat([vec![number], logs.into()].concat(), 1)
    }

    fn num_log_sums(&self) -> usize {
        3
    }

    fn loss(&self, _: &M, sums: Tensor<2>) -> MicroLoss {
        let log = |number| sums.clone().narrow(1, number, 1);
        let loss = log(1).square() / 100.0 + log(2) * log(0).log() + log(3);
        MicroLoss::sum(loss.sum(), sums.dims()[0] as f64)
    }
}

#[test]
fn logarithms_of_sums_are_added_up_as_such() {
    let _turn = turn();
    let net = Net::exact();
    let [image, target] = images(2, [40, 44]);
    // Some tiles have no pixel.
    let nothing = target.clone().slice([0..2, 0..1, 0..40, 0..24]) * 0.0;
    let target = target
        .abs()
        .slice_assign([0..2, 0..1, 0..40, 0..24], nothing);
    let loss_of = |net: &Net, tiles: Windows| {
        let sums = SumLoss::<Net>::sums(&LogSums, net.mask(tiles), target.clone());
        LogSums.loss(net, sums)
    };
    for batch_size in [1, 3] {
        let wanted = whole(&net, &image, loss_of);
        let step = TiledStep::approximate([12, 12], 3, 1).with_batch_size(batch_size);
        let got = tiled_sums(&step, &net, [&image, &target], Net::mask, &LogSums);
        assert_close(&net, got, wanted);
    }
}

/// Remembers the sums it was asked for.
#[derive(Default)]
struct Remembers(Mutex<Vec<TensorData>>);

impl<M> SumLoss<M> for Remembers {
    fn sums(&self, output: Tensor<4>, target: Tensor<4>) -> Tensor<2> {
        let sums = SumLoss::<M>::sums(&Moments, output, target);
        self.0.lock().unwrap().push(sums.to_data());
        sums
    }

    fn loss(&self, model: &M, sums: Tensor<2>) -> MicroLoss {
        Moments.loss(model, sums)
    }
}

#[rstest]
#[case::plain(Net::mask)]
#[case::recomputed(Net::recomputed_mask)]
fn dropout_is_the_same_in_both_passes_and_statistics_move_once(
    #[case] mask: fn(&Net, Windows) -> Tensor<4>,
) {
    let _turn = turn();
    let _stream = hold_random_stream();
    let net = Net::new(0.5);
    let [image, target] = images(1, [32, 32]);
    let step = TiledStep::approximate([16, 16], 3, 1);
    let mean = || net.norm.running_mean.value_sync().into_data();

    let once = Net::new(0.5);
    tiled(&step, &once, [&image, &target]);
    let remembers = Remembers::default();
    tiled_sums(&step, &net, [&image, &target], mask, &remembers);
    assert_eq!(mean(), once.norm.running_mean.value_sync().into_data());

    let sums = remembers.0.into_inner().unwrap();
    // The first tile and its halves, and the other three; then all four again.
    assert_eq!(sums.len(), 3 + 3 + 4);
    let first: Vec<_> = [0, 3, 4, 5].map(|number| sums[number].clone()).into();
    let off = |(a, b): (&TensorData, &TensorData)| {
        let pairs = a.iter::<f32>().zip(b.iter::<f32>());
        pairs.fold(0.0, |most: f32, (a, b)| most.max((a - b).abs()))
    };
    assert!(
        first.iter().zip(&sums[6..]).map(off).all(|off| off < 1e-4),
        "{sums:?}"
    );
}

#[test]
fn half_precision_with_a_scaled_loss_is_close() {
    let _turn = turn();
    let net = Net::exact();
    let [image, target] = images(1, [32, 32]);
    let step = TiledStep::approximate([16, 16], 3, 1);
    let config = MicroBatchTrainerConfig::new()
        .with_precision(Precision::F16)
        .with_policy(AutocastPolicy::default().keep_type("BatchNorm"));
    let mut train = config.init(SgdConfig::new().init());
    let tiles = step.over(&image, &target).expect("of one size");
    let ran = tiles.accumulate_sums(&mut train, &net, Net::mask, &Moments, go_on);
    ran.expect("nothing fails");
    let grads = train
        .take_gradients(&net)
        .expect("finite")
        .expect("accumulated");
    let plain = tiled_sums(&step, &net, [&image, &target], Net::mask, &Moments);
    let off = furthest(&net, &grads, &plain.1);
    assert!(off > 0.0 && off < 2e-2, "{off:e}");
}

#[test]
fn sums_over_many_pixels_do_not_overflow_in_half_precision() {
    let _turn = turn();
    let net = Net::exact();
    let [image, target] = images(1, [64, 80]);
    // The gradient of a bias is a sum of 5120 values of about 20, more than f16 has.
    let target = target + 10.0;
    let grads = |precision: Precision| {
        let config = MicroBatchTrainerConfig::new()
            .with_precision(precision)
            .with_policy(AutocastPolicy::default().keep_type("BatchNorm"));
        let mut train = config.init(SgdConfig::new().init());
        // The first scales are too large.
        for _ in 0..20 {
            train.micro_batch(&net, image.clone(), Net::of_pixels, |output| {
                squares(output, target.clone())
            });
            let grads = train.take_gradients(&net);
            if let Some(grads) = grads.expect("not at the lowest scale") {
                return grads;
            }
        }
        panic!("no scale is low enough");
    };
    // burn adds up the gradient of a bias in f16.
    let off = furthest(&net, &grads(Precision::F16), &grads(Precision::F32));
    assert!(off < 0.1, "{off:e}");
}

#[test]
fn an_image_is_one_micro_batch() {
    let _turn = turn();
    let net = Net::exact();
    let config = MicroBatchTrainerConfig::new().with_accumulation_steps(2);
    let mut train = config.init(SgdConfig::new().init());
    let step = TiledStep::approximate([16, 16], 3, 1);
    let [image, target] = images(1, [40, 40]);
    let accumulate = |train: &mut MicroBatchTrainer, net: &Net| {
        let tiles = step.over(&image, &target).expect("of one size");
        tiles
            .accumulate(train, net, Net::mask, squares, go_on)
            .expect("nothing fails");
    };
    accumulate(&mut train, &net);
    let (net, outcome) = train.step(net, 0.1);
    let outcome = outcome.expect("finite");
    assert!(
        matches!(outcome, StepOutcome::Accumulating { micro_batches: 1 }),
        "{outcome:?}"
    );
    accumulate(&mut train, &net);
    let (_, outcome) = train.step(net, 0.1);
    assert!(matches!(outcome, Ok(StepOutcome::Stepped { .. })));
}

#[rstest]
#[case::one_pass(false)]
#[case::two_passes(true)]
fn several_devices_learn_what_one_learns_bit_for_bit(#[case] has_sums: bool) {
    let _turn = turn();
    let step = TiledStep::approximate([16, 16], 3, 1).with_batch_size(2);
    let pairs: Vec<_> = (0..3).map(|_| images(1, [40, 30])).collect();
    let net = freeze_statistics(Net::new(0.5));
    let gradients = |num_devices: usize| {
        device().seed(5);
        let mut train = trainer();
        let mut parallel = DataParallel::new(&vec![device(); num_devices], trainer).unwrap();
        let run = |train: &mut MicroBatchTrainer, net: &Net, [image, target]: [Tensor<4>; 2]| {
            let tiles = step.over(&image, &target).expect("of one size");
            let ran = match has_sums {
                true => tiles.accumulate_sums(train, net, Net::mask, &Moments, go_on),
                false => tiles.accumulate(train, net, Net::mask, squares, go_on),
            };
            ran.expect("nothing fails");
        };
        let ran = parallel.micro_batches(&mut train, &net, pairs.clone(), run);
        ran.expect("no replica fails");
        take(&mut train, &net)
    };
    let (loss, wanted) = gradients(1);
    for num_devices in [2, 3] {
        let (other, got) = gradients(num_devices);
        assert_eq!(other, loss);
        assert_eq!(furthest(&net, &got, &wanted), 0.0);
    }
}

#[test]
fn lack_of_memory_makes_batches_of_tiles_smaller() {
    let _turn = turn();
    let net = Net::exact();
    let [image, target] = images(1, [80, 80]);
    let config = MicroBatchTrainerConfig::new().with_undo_updates(true);
    let mut train = config.init(SgdConfig::new().init());
    let mut parts = MicroBatches::new(8, 1);
    let (_, outcome) = train.step_in_parts(net, 0.1, &mut parts, |train, net, batch_size| {
        let step = TiledStep::approximate([16, 16], 3, 1).with_batch_size(batch_size);
        let forward = |net: &Net, tiles: Windows| {
            // As a small device would say.
            assert!(tiles.places.len() <= 2, "can't allocate buffer of size: 64");
            net.mask(tiles)
        };
        step.over(&image, &target)?
            .accumulate(train, net, forward, squares, go_on)
    });
    assert!(matches!(
        outcome.expect("it fits"),
        StepOutcome::Stepped { .. }
    ));
    assert_eq!((parts.tried(), parts.size()), (&[8, 4][..], 2));
}

/// Noise that is made when it is asked for, and what fails from some read on.
struct Generated {
    dims: [usize; 4],
    fails_after: Mutex<usize>,
}

impl Generated {
    fn new(dims: [usize; 4]) -> Self {
        Self {
            dims,
            fails_after: Mutex::new(usize::MAX),
        }
    }
}

impl ImageSource for Generated {
    fn dims(&self) -> [usize; 4] {
        self.dims
    }

    fn read(
        &self,
        _: usize,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Result<Tensor<4>, BoxError> {
        let mut left = self.fails_after.lock().unwrap();
        *left = left.checked_sub(1).ok_or("the file ends here")?;
        let channels = self.dims[1];
        let value = |number: usize| {
            let (line, column) = (
                number / columns.len(),
                columns.start + number % columns.len(),
            );
            let row = rows.start + line % rows.len();
            ((row * 31 + column * 17) % 97) as f32 / 97.0
        };
        let len = channels * rows.len() * columns.len();
        let data = TensorData::new(
            (0..len).map(value).collect(),
            [1, channels, rows.len(), columns.len()],
        );
        Ok(Tensor::from_data(data, &Device::flex()))
    }
}

#[test]
fn a_source_that_fails_in_the_middle_changes_nothing() {
    let _turn = turn();
    // Batch norm that trains, so that there are statistics to put back.
    let net = Net::new(0.0);
    let [image, target] = images(1, [32, 32]);
    tiled(
        &TiledStep::approximate([16, 16], 3, 1),
        &net,
        [&image, &target],
    );
    let statistics = || net.norm.running_mean.value_sync().into_data();
    let before = statistics();
    let step = TiledStep::approximate([16, 16], 3, 1);
    // In the only pass, in the first and in the second of two.
    for (two_passes, reads) in [(false, 2), (true, 2), (true, 6)] {
        let source = Generated::new([1, 2, 32, 32]);
        *source.fails_after.lock().unwrap() = reads;
        let mut train = trainer();
        let tiles = step.over(&source, &target).expect("of one size");
        let ran = if two_passes {
            tiles.accumulate_sums(&mut train, &net, Net::mask, &Moments, go_on)
        } else {
            tiles.accumulate(&mut train, &net, Net::mask, squares, go_on)
        };
        let error = ran.expect_err("the source fails");
        assert!(
            matches!(&error, TiledError::Chunked(ChunkedError::Read { .. })),
            "{error}"
        );
        assert_eq!(statistics(), before);
        let (_, outcome) = train.flush(net.clone(), 0.1);
        assert_eq!(outcome.expect("nothing to do"), StepOutcome::Empty);
    }
}

#[test]
fn a_step_stops_where_the_caller_asks() {
    let _turn = turn();
    let net = Net::exact();
    let [image, target] = images(1, [32, 32]);
    let step = TiledStep::approximate([16, 16], 3, 1);
    let tiles = step.over(&image, &target).expect("of one size");
    let mut train = trainer();
    let mut seen = Vec::new();
    let ran = tiles.accumulate_sums(&mut train, &net, Net::mask, &Moments, |progress| {
        seen.push((progress.done, progress.total));
        match progress.done {
            5 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    let error = ran.expect_err("it was asked to stop").to_string();
    assert_eq!(error, "stopped by request after 5 of 8 windows");
    assert_eq!(seen, [(1, 8), (2, 8), (3, 8), (4, 8), (5, 8)]);
    let (_, outcome) = train.flush(net, 0.1);
    assert_eq!(outcome.expect("nothing to do"), StepOutcome::Empty);
}

#[test]
fn memory_does_not_grow_with_the_image() {
    let _turn = turn();
    let net = Net::exact();
    let step = TiledStep::approximate([64, 64], 3, 1);
    let peak = |side: usize, two_passes: bool| {
        let source = Generated::new([1, 2, side, side]);
        let target = Generated::new([1, 1, side, side]);
        let run = || {
            if two_passes {
                tiled_sums(&step, &net, [&source, &target], Net::mask, &Moments)
            } else {
                tiled(&step, &net, [&source, &target])
            }
        };
        run();
        let meter = PeakMeter::start(&device());
        run();
        meter.finish().peak.expect("the allocator counts").get() as f64
    };
    for two_passes in [false, true] {
        let [small, large] = [256, 1024].map(|side| peak(side, two_passes));
        assert!(large <= 1.02 * small, "{large} of {small}");
    }
}

/// The error of training on tiles with a loss.
fn refusal(loss: impl Fn(Tensor<4>, Tensor<4>) -> MicroLoss) -> String {
    let net = Net::exact();
    let [image, target] = images(1, [32, 40]);
    let step = TiledStep::approximate([16, 16], 3, 1);
    let tiles = step.over(&image, &target).expect("of one size");
    let ran = tiles.accumulate(&mut trainer(), &net, Net::mask, loss, go_on);
    ran.expect_err("it is refused").to_string()
}

#[test]
fn losses_that_are_no_sums_are_refused() {
    let _turn = turn();
    let mean = refusal(|output, target| MicroLoss::mean((output - target).square().mean(), 1.0));
    assert!(mean.contains("got a mean (`MicroLoss::mean`)"), "{mean}");
    let hidden = refusal(|output, target| MicroLoss::sum((output - target).square().mean(), 1.0));
    assert!(hidden.contains("the loss of the first tile is"), "{hidden}");
    let weight = refusal(|output, target| MicroLoss::sum((output - target).square().sum(), 1.0));
    assert!(
        weight.contains("the weight of the first tile is 1, but 1 and 1"),
        "{weight}"
    );

    struct Largest;
    impl SumLoss<Net> for Largest {
        fn sums(&self, output: Tensor<4>, _: Tensor<4>) -> Tensor<2> {
            output.flatten::<2>(1, 3).max_dim(1)
        }

        fn loss(&self, _: &Net, sums: Tensor<2>) -> MicroLoss {
            MicroLoss::sum(sums.sum(), 1.0)
        }
    }
    let [image, target] = images(1, [32, 40]);
    let step = TiledStep::approximate([16, 16], 3, 1);
    let tiles = step.over(&image, &target).expect("of one size");
    let net = Net::exact();
    let ran = tiles.accumulate_sums(&mut trainer(), &net, Net::mask, &Largest, go_on);
    let error = ran.expect_err("it is refused").to_string();
    assert!(error.contains("sum 0 of the first tile is"), "{error}");

    // A logarithm of a mean.
    struct LogMean;
    impl SumLoss<Net> for LogMean {
        fn sums(&self, output: Tensor<4>, _: Tensor<4>) -> Tensor<2> {
            output.exp().flatten::<2>(1, 3).mean_dim(1).log()
        }

        fn num_log_sums(&self) -> usize {
            1
        }

        fn loss(&self, _: &Net, sums: Tensor<2>) -> MicroLoss {
            MicroLoss::sum(sums.sum(), 1.0)
        }
    }
    let ran = tiles.accumulate_sums(&mut trainer(), &net, Net::mask, &LogMean, go_on);
    let error = ran.expect_err("it is refused").to_string();
    assert!(error.contains("sum 0 of the first tile is"), "{error}");
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let _turn = turn();
    let net = Net::exact();
    let reach = measure_training_reach(&net, [2, 32, 32], 1, Net::mask);
    let error = TiledStep::new([16, 5], &reach).expect_err("smaller than twice the margin");
    assert_eq!(
        error.to_string(),
        "a tile must keep at least twice its margin, which is 6 pixels for a margin of 3, got 16×5; \
         choose larger tiles, or a network that reaches less far"
    );

    let step = TiledStep::new([16, 16], &reach).expect("a limited reach");
    let [image, _] = images(1, [32, 40]);
    let [_, target] = images(1, [32, 41]);
    let error = step
        .over(&image, &target)
        .expect_err("of another width")
        .to_string();
    assert!(
        error.contains("got 1 targets of 32×41 for 1 images of 32×40"),
        "{error}"
    );

    let [image, target] = images(1, [32, 40]);
    let tiles = step.over(&image, &target).expect("of one size");
    let ran = tiles.accumulate(&mut trainer(), &net, Net::pooled, squares, go_on);
    let error = ran
        .expect_err("half of the resolution at a stride of 1")
        .to_string();
    assert!(error.contains("a divisor of the stride, 1, got"), "{error}");
}

#[test]
fn a_model_that_sees_the_whole_image_is_refused() {
    let _turn = turn();
    let net = Net::exact();
    // As attention does, without a layer that is known for it.
    let forward = |net: &Net, tiles: Windows| {
        let output = net.mask(tiles);
        output.clone() - output.mean_dim(2).mean_dim(3)
    };
    let reach = measure_training_reach(&net, [2, 32, 32], 1, forward);
    let error = TiledStep::new([16, 16], &reach)
        .expect_err("no limited reach")
        .to_string();
    assert!(
        error.contains("the model sees all of it: a pixel in the middle changes the border by"),
        "{error}"
    );

    let trains = Net::new(0.0);
    let reach = measure_training_reach(&trains, [2, 32, 32], 1, Net::mask);
    assert_eq!(reach.halo(), None);
    let [image, target] = images(1, [32, 40]);
    let reach = measure_training_reach(&net, [2, 32, 32], 1, Net::mask);
    let step = TiledStep::new([16, 16], &reach).expect("a limited reach");
    let tiles = step.over(&image, &target).expect("of one size");
    let ran = tiles.accumulate(&mut trainer(), &trains, Net::mask, squares, go_on);
    let error = ran.expect_err("batch statistics").to_string();
    assert!(error.contains("norm (BatchNorm in training)"), "{error}");
    // An image that is a single tile is whole.
    let step = TiledStep::new([64, 64], &reach).expect("a limited reach");
    let tiles = step.over(&image, &target).expect("of one size");
    let ran = tiles.accumulate(&mut trainer(), &trains, Net::mask, squares, go_on);
    ran.expect("the whole image is one tile");
}
