//! The flow completion network.

use burn::tensor::{Device, Tensor};
use burn_memopt_models::propainter::{FlowCompletion, Flows, combine};
use rstest::rstest;

use crate::harness::{Case, Comparison};
use crate::network;

pub fn flows(case: &Case, device: &Device) -> Flows {
    Flows {
        forward: case.tensor("flow_f", device),
        backward: case.tensor("flow_b", device),
    }
}

#[test]
fn golden_flow_completion_stages_and_both_directions() {
    stages_and_both_directions(&Device::flex(), 1.0);
}

pub fn stages_and_both_directions(device: &Device, times: f64) {
    let case = Case::open("flowcomp_bidirect");
    let mut comparison = Comparison::within(&case, times);
    let network = network::filled(FlowCompletion::new(device), &case);
    let (flows, masks) = (flows(&case, device), case.tensor::<5>("mask", device));

    let mask = masks.clone().narrow(1, 0, 4);
    let known = flows.forward.clone() * (mask.ones_like() - mask.clone());
    let x = Tensor::cat(vec![known, mask], 2).swap_dims(1, 2);
    let half = network.halve(x);
    let quarter = network.encode(half.clone());
    let eighth = network.encode_further(quarter.clone());
    let dilated = network.dilate(eighth.clone());
    let propagated = network
        .feat_prop_module
        .forward(dilated.clone().swap_dims(1, 2));
    for (name, map, axis, channels) in [
        ("downsample_ch0_3", half, 1, 4),
        ("encoder1_ch0_7", quarter, 1, 8),
        ("encoder2_ch0_15", eighth, 1, 16),
        ("mid_dilation_ch0_15", dilated, 1, 16),
        ("feat_prop_ch0_15", propagated, 2, 16),
    ] {
        comparison.tensor(name, map.narrow(axis, 0, channels));
    }

    compare_both(&mut comparison, &network, flows, &masks);
    comparison.finish();
}

fn compare_both(
    comparison: &mut Comparison<'_>,
    network: &FlowCompletion,
    flows: Flows,
    masks: &Tensor<5>,
) {
    let predicted = network.predict(flows.clone(), masks);
    comparison.tensor("pred_flow_f", predicted.forward.clone());
    comparison.tensor("pred_flow_b", predicted.backward.clone());
    let combined = combine(predicted, flows, masks);
    comparison.tensor("combined_flow_f", combined.forward);
    comparison.tensor("combined_flow_b", combined.backward);
}

#[rstest]
#[case::inference(Device::flex())]
#[case::training(Device::flex().autodiff())]
fn golden_flow_completion_of_two_frames(#[case] device: Device) {
    two_frames(&device, 1.0);
}

pub fn two_frames(device: &Device, times: f64) {
    let case = Case::open("flowcomp_two_frames");
    let mut comparison = Comparison::within(&case, times);
    let network = network::filled(FlowCompletion::new(device), &case);
    let masks = case.tensor::<5>("mask", device);
    let predicted = network.predict(flows(&case, device), &masks);
    for (direction, flow) in [("f", predicted.forward), ("b", predicted.backward)] {
        let edges = network.edges(flow.clone());
        comparison.tensor(&format!("pred_flow_{direction}"), flow);
        comparison.tensor(&format!("edge_{direction}_train"), edges);
    }
    comparison.finish();
}
