//! The gradient of DECODE's network on tiles of frames against that on whole frames.

mod gradients;

use std::ops::ControlFlow;

use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt::chunked::{TiledStep, measure_training_reach};
use burn_memopt::grad_checkpoint::{Policy, hold_random_stream};
use burn_memopt::train::{MicroLoss, draw_parameters};
use burn_memopt_models::GradCheckpoint;
use burn_memopt_models::decode::{
    Attribute, Emitter, EmitterTargets, Interpolation, MUNetConfig, OutputScale, SigmaMUNet,
    SigmaMUNetConfig,
};
use burn_memopt_models::loss::{MixtureLoss, MixtureLossConfig};
use rstest::rstest;

use gradients::{Gradients, furthest, take, trainer};

const FRAMES: usize = 3;

/// A network, its windows, and the emitters in each.
struct Case {
    network: SigmaMUNet,
    windows: Tensor<4>,
    targets: EmitterTargets,
}

impl Case {
    /// Frames of which one has many emitters, one has few, and one has none.
    fn new(depth: usize, [height, width]: [usize; 2], disabled: &[Attribute]) -> Self {
        let device = Device::flex().autodiff();
        let _stream = hold_random_stream().seeded(&device, 11);
        let network = SigmaMUNetConfig::new()
            .with_core(core(depth))
            .with_disabled(disabled.to_vec())
            .init(&device);
        draw_parameters(&network);
        let shape = [3, FRAMES, height, width];
        let emitter = |number: usize| Emitter {
            x: (number * 37 % width) as f32 + 0.3,
            y: (number * 23 % height) as f32 - 0.4,
            z: 0.1 * (number % 7) as f32 - 0.3,
            photons: 300.0 + 50.0 * number as f32,
        };
        let emitters = [9, 0, 2].map(|count| (0..count).map(emitter).collect());
        let scale = OutputScale::new(1500.0, 50.0);
        let backgrounds = [20.0, 30.0, 10.0];
        Self {
            network,
            windows: Tensor::random(shape, Distribution::Normal(0.3, 1.0), &device),
            targets: EmitterTargets::new(&emitters, &backgrounds, [height, width], &scale, &device),
        }
    }

    fn whole(&self, loss: &MixtureLoss) -> (f64, Gradients) {
        let mut train = trainer();
        let windows = self.windows.clone();
        train.micro_batch(&self.network, windows, SigmaMUNet::forward, |output| {
            let loss = loss.forward_sum(output, &self.targets);
            MicroLoss::sum(loss.sum, loss.weight)
        });
        let grads = take(&mut train, &self.network);
        (train.last_loss().expect("a loss"), grads)
    }

    fn tiled(&self, loss: &MixtureLoss, step: &TiledStep) -> (f64, Gradients) {
        let mut train = trainer();
        let loss = loss.on_tiles(&self.targets);
        let tiles = step.over(&self.windows, &loss).expect("of one size");
        assert!(tiles.num_tiles() > 3);
        let forward = SigmaMUNet::forward_tiles;
        let go_on = |_| ControlFlow::Continue(());
        let ran = tiles.accumulate_sums(&mut train, &self.network, forward, &loss, go_on);
        ran.expect("nothing fails");
        let grads = take(&mut train, &self.network);
        (train.last_loss().expect("a loss"), grads)
    }

    fn step(&self, depth: usize, tile: usize) -> TiledStep {
        let _stream = hold_random_stream().seeded(&Device::flex(), 3);
        let (stride, side) = (1 << depth, 64 << (depth - 1));
        let reach = measure_training_reach(
            &self.network,
            [FRAMES, side, side],
            stride,
            SigmaMUNet::forward_tiles,
        );
        TiledStep::new([tile; 2], &reach).expect("a limited reach")
    }

    /// How far the gradients on tiles are off, and the loss, in shares.
    fn off(&self, loss: &MixtureLoss, step: &TiledStep) -> [f64; 2] {
        let (wanted, got) = (self.whole(loss), self.tiled(loss, step));
        let off = (wanted.0 - got.0).abs() / wanted.0.abs();
        [furthest(&got.1, &wanted.1), off]
    }
}

fn core(depth: usize) -> MUNetConfig {
    MUNetConfig::new()
        .with_num_frames(FRAMES)
        .with_depth_shared(depth)
        .with_depth_union(depth)
        .with_initial_features(4)
        .with_inter_features(4)
}

#[rstest]
#[case::plain(1, [76, 90], 44, MixtureLossConfig::new())]
#[case::parts(1, [76, 90], 50, MixtureLossConfig::new().with_targets_at_once(4))]
#[case::empty_frames_count(1, [76, 90], 44, MixtureLossConfig::new().with_least_count_weight(1.0))]
#[case::weights(1, [90, 76], 46, MixtureLossConfig::new().with_channel_weights([1.0, 0.25]))]
#[case::deeper(2, [148, 164], 100, MixtureLossConfig::new())]
fn tiles_have_the_gradient_of_whole_frames(
    #[case] depth: usize,
    #[case] size: [usize; 2],
    #[case] tile: usize,
    #[case] loss: MixtureLossConfig,
    #[values(1, 2)] batch_size: usize,
) {
    let case = Case::new(depth, size, &[Attribute::Photons]);
    let step = case.step(depth, tile).with_batch_size(batch_size);
    let off = case.off(&loss.init(), &step);
    println!("margin {} off {off:?}", step.margin());
    assert!(off[0] <= 1e-5 && off[1] <= 1e-5, "{off:?}");
}

#[test]
fn a_margin_that_is_too_small_is_off() {
    let case = Case::new(1, [76, 90], &[]);
    let loss = MixtureLossConfig::new().init();
    let enough = case.step(1, 44);
    // Tiles start at multiples of 2.
    let margins = [0, 2, 4, 6, 8];
    let offs = margins.map(|less| {
        let step = TiledStep::approximate([44; 2], enough.margin() - less, 2);
        case.off(&loss, &step)[0]
    });
    println!("{} {offs:?}", enough.margin());
    // Next to rounding, which differs from one processor to the next, the outermost pixels count little.
    assert!(offs[2] > 3.0 * offs[0], "{offs:?}");
}

#[test]
fn recomputed_tiles_have_the_same_gradient() {
    let case = Case::new(1, [76, 90], &[]);
    let loss = MixtureLossConfig::new().init();
    let step = case.step(1, 44);
    let plain = case.tiled(&loss, &step);
    let cut = Case {
        network: case
            .network
            .clone()
            .with_grad_checkpoint(Policy::EveryBlock),
        ..case
    };
    let recomputed = cut.tiled(&loss, &step);
    assert_eq!(furthest(&recomputed.1, &plain.1), 0.0);
}

#[test]
fn an_emitter_that_no_tile_can_explain_has_finite_gradients() {
    let mut case = Case::new(1, [76, 90], &[]);
    // Thousands of standard deviations from every pixel.
    case.targets.params = case.targets.params * 300.0;
    let loss = MixtureLossConfig::new().init();
    let off = case.off(&loss, &case.step(1, 44));
    assert!(off[0] < 1e-2 && off[1] < 1e-5, "{off:?}");
}

#[test]
#[should_panic(expected = "tiles need a network with Interpolation::Nearest")]
fn an_interpolation_by_the_size_of_the_frame_is_refused() {
    let device = Device::flex();
    let network = SigmaMUNetConfig::new()
        .with_core(core(1).with_interpolation(Interpolation::Bilinear))
        .init(&device);
    measure_training_reach(&network, [FRAMES, 64, 64], 2, SigmaMUNet::forward_tiles);
}
