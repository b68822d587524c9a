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

    // The forward flow of a pair belongs to its first frame.
    let num_pairs = flows.forward.dims()[1];
    let mask = masks.clone().narrow(1, 0, num_pairs);
    let known = flows.forward.clone() * (mask.ones_like() - mask.clone());
    let x = Tensor::cat(vec![known, mask], 2).swap_dims(1, 2);
    let half = network.halve(x);
    let quarter = network.encode(half.clone());
    let eighth = network.encode_further(quarter.clone());
    let dilated = network.dilate(eighth.clone());
    let propagated = network
        .feat_prop_module
        .forward(dilated.clone().swap_dims(1, 2));
    for (name, map, axis) in [
        ("downsample", half, 1),
        ("encoder1", quarter, 1),
        ("encoder2", eighth, 1),
        ("mid_dilation", dilated, 1),
        ("feat_prop", propagated, 2),
    ] {
        comparison.channels(name, &map, axis);
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
