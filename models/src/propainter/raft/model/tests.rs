use burn::tensor::{Distribution, Tolerance};
use rstest::rstest;

use super::*;
use crate::propainter::raft::Norm;

fn frames(num_frames: usize, [height, width]: [usize; 2]) -> Tensor<4> {
    let shape = [num_frames, 3, height, width];
    Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), &Device::flex())
}

#[test]
fn frames_of_a_batch_do_not_see_each_other() {
    let raft = RaftConfig::new().init(&Device::flex());
    let (first, second) = (frames(2, [64, 64]), frames(2, [64, 64]));
    let together = raft.forward(first.clone(), second.clone(), 2);
    let alone = raft.forward(first.narrow(0, 1, 1), second.narrow(0, 1, 1), 2);
    let tolerance = Tolerance::<f32>::rel_abs(1e-4, 1e-4);
    let full = together.full.narrow(0, 1, 1).into_data();
    full.assert_approx_eq::<f32>(&alone.full.into_data(), tolerance);
}

#[test]
fn statistics_stay_as_they_are_on_a_device_with_autodiff() {
    let device = Device::flex().autodiff();
    let raft = RaftConfig::new().init(&device);
    let frames = Tensor::random([1, 3, 64, 64], Distribution::Default, &device);
    let Norm::Batch(norm) = &raft.cnet.norm1 else {
        panic!("the context encoder has batch normalization");
    };
    let before = norm.running_mean.value().into_data();
    drop(raft.context(frames));
    drop(raft.valid());
    assert_eq!(norm.running_mean.value().into_data(), before);
}

#[rstest]
#[case::height([60, 64])]
#[case::width([64, 60])]
#[should_panic(expected = "multiples of 8, got")]
fn other_sides_are_refused(#[case] size: [usize; 2]) {
    RaftConfig::new()
        .init(&Device::flex())
        .features(frames(1, size));
}

#[test]
#[should_panic(expected = "at least 8 cells, got 7×8")]
fn frames_without_a_coarsest_level_are_refused() {
    let raft = RaftConfig::new().init(&Device::flex());
    raft.forward(frames(1, [56, 64]), frames(1, [56, 64]), 1);
}
