//! RAFT: its pieces, its encoders, every correction and the flow.

use burn::tensor::{Device, Tensor};
use burn_memopt_models::propainter::raft::{
    Correlation, CorrelationField, MotionEncoder, Raft, RaftConfig, SepConvGru, upsample_flow,
};
use rstest::rstest;

use crate::harness::{Case, Comparison};
use crate::{network, part};

#[test]
fn golden_raft_correlation_lookup() {
    lookups(&Device::flex(), 1.0);
}

/// Both ways to look values up, and the levels where they are kept, within `times` the tolerances.
pub fn lookups(device: &Device, times: f64) {
    let case = Case::open("prim_raft_corr_lookup");
    let mut comparison = Comparison::within(&case, times);
    let field = |correlation| {
        let [first, second] = ["fmap1", "fmap2"].map(|name| case.tensor::<4>(name, device));
        CorrelationField::new(first, second, correlation)
    };
    let coords = || case.tensor::<4>("coords", device);
    let all_pairs = field(Correlation::AllPairs);
    let level = |level| all_pairs.level(level).expect("levels are kept");
    let first_queries = case.shape("level1_first_queries")[0];
    let queries = level(1).narrow(0, 0, first_queries);
    comparison.tensor("level1_first_queries", queries);
    comparison.tensor("level3", level(3));
    comparison.tensor("lookup", all_pairs.lookup(coords()));
    comparison.tensor("lookup", field(Correlation::ON_DEMAND).lookup(coords()));
    comparison.finish();
}

#[test]
fn golden_raft_convex_upsampling_with_gradients() {
    let case = Case::open("prim_raft_convex_upsample");
    let mut comparison = Comparison::new(&case);
    let device = Device::flex().autodiff();
    let [flow, mask] = ["flow", "mask"].map(|name| case.tensor::<4>(name, &device).require_grad());
    let upsampled = upsample_flow(flow.clone(), mask.clone());
    comparison.tensor("flow_up", upsampled.clone());
    let grads = (upsampled * case.tensor("cotangent", &device))
        .sum()
        .backward();
    comparison.tensor("grad_flow", flow.grad(&grads).expect("a gradient"));
    let grad = mask.grad(&grads).expect("a gradient");
    comparison.channels("grad_mask", &grad, 1);
    comparison.finish();
}

#[test]
fn golden_raft_cell_and_motion_encoder() {
    cell_and_motion_encoder(&Device::flex(), 1.0);
}

/// The recurrent cell and the motion encoder, within `times` the tolerances.
pub fn cell_and_motion_encoder(device: &Device, times: f64) {
    let case = Case::open("prim_raft_gru_motion");
    let mut comparison = Comparison::within(&case, times);
    let input = |name| case.tensor::<4>(name, device);
    let [hidden, inputs] = ["h", "x"].map(|name| case.shape(name)[1]);
    let gru = part::filled(SepConvGru::new(hidden, inputs, device), &case);
    comparison.tensor("gru", gru.forward(input("h"), input("x")));
    let motion = part::filled(MotionEncoder::new(device), &case);
    comparison.tensor("motion", motion.forward(input("flow"), input("corr")));
    comparison.finish();
}

#[rstest]
#[case::all_pairs(Correlation::AllPairs)]
#[case::on_demand(Correlation::ON_DEMAND)]
fn golden_raft_encoders_and_every_correction(#[case] correlation: Correlation) {
    let case = Case::open("raft_iters4");
    let mut comparison = Comparison::new(&case);
    let raft = filled_raft(&case, correlation, &Device::flex());
    let [first, second] = frames(&case, &Device::flex());
    let features = [&first, &second].map(|frame| raft.features(frame.clone()));
    for (name, features) in ["fnet_frame1", "fnet_frame2"].iter().zip(&features) {
        comparison.channels(name, features, 1);
    }
    let context = raft.cnet.forward(first.clone());
    comparison.channels("cnet", &context, 1);

    let [first_features, second_features] = features;
    let mut steps = raft.steps(first_features, second_features, raft.context(first));
    for iteration in 0..case.require("iters") as usize {
        steps.step();
        let stored = format!("flow_up_iter{iteration}");
        if !case.names(&format!("{stored}_")).is_empty() {
            comparison.strided(&stored, &steps.flow().full);
        }
    }
    let flow = steps.flow();
    comparison.tensor("flow_low", flow.low);
    comparison.tensor("flow_up", flow.full);
    comparison.finish();
}

#[test]
fn golden_raft_flow_to_and_fro() {
    let case = Case::open("raft_iters20");
    let mut comparison = Comparison::new(&case);
    let device = Device::flex();
    let raft = filled_raft(&case, Correlation::AllPairs, &device);
    let iterations = case.require("iters") as usize;
    let [first, second] = frames(&case, &device);
    let forward = raft.forward(first.clone(), second.clone(), iterations);
    comparison.tensor("flow_low", forward.low);
    comparison.tensor("flow_up", forward.full);
    let backward = raft.forward(second, first, iterations);
    comparison.tensor("flow_low_backward", backward.low);
    comparison.finish();
}

/// The flow after four corrections on demand, within `times` the tolerances.
#[cfg(feature = "wgpu")]
pub fn flow(device: &Device, times: f64) {
    let case = Case::open("raft_iters4");
    let mut comparison = Comparison::within(&case, times);
    let raft = filled_raft(&case, Correlation::ON_DEMAND, device);
    let [first, second] = frames(&case, device);
    let flow = raft.forward(first, second, case.require("iters") as usize);
    comparison.tensor("flow_low", flow.low);
    comparison.tensor("flow_up", flow.full);
    comparison.finish();
}

fn filled_raft(case: &Case, correlation: Correlation, device: &Device) -> Raft {
    let config = RaftConfig::new().with_correlation(correlation);
    network::filled(config.init(device), case)
}

/// The two frames as the network takes them.
fn frames(case: &Case, device: &Device) -> [Tensor<4>; 2] {
    let clip = case.clip("frames_u8", device);
    [0, 1].map(|frame| clip.clone().narrow(1, frame, 1).squeeze_dim(1))
}
