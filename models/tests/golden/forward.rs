//! Forward passes: evaluation with every stored intermediate, then training mode.

use std::collections::HashMap;

use burn::tensor::{Device, Tensor};
use burn_memopt_models::unet::UNet;
use rstest::rstest;

use crate::harness::{Case, Comparison};
use crate::network;

#[rstest]
#[case::bilinear("unet_forward_bilinear")]
#[case::transposed("unet_forward_transposed")]
fn golden_unet_forward(#[case] name: &str) {
    let case = Case::open(name);
    let mut comparison = Comparison::new(&case);

    let device = Device::flex();
    let blocks = block_outputs(
        &network::filled_unet(&case, &device),
        case.tensor("x", &device),
    );
    for stored in case.names("") {
        let (block, part) = stored.split_once('_').unwrap_or((stored, ""));
        if let Some(output) = blocks.get(block).filter(|_| stored != "x") {
            comparison.tensor(stored, cut(output.clone(), part));
        }
    }
    comparison.tensor("logits_eval", blocks["head"].clone());

    let device = device.autodiff();
    let logits = network::filled_unet(&case, &device).forward(case.tensor("x", &device));
    comparison.tensor("logits_train", logits);
    comparison.finish();
}

/// The output of every block by the name the cases use: `x1` to `x5`, `up1` to `up4`, `head`.
fn block_outputs(unet: &UNet, x: Tensor<4>) -> HashMap<String, Tensor<4>> {
    let mut skips = vec![unet.inc.forward(x.clone())];
    for down in &unet.downs {
        skips.push(down.forward(skips[skips.len() - 1].clone()));
    }
    let encoder = skips.iter().zip(1..);
    let mut outputs: HashMap<_, _> = encoder
        .map(|(output, level)| (format!("x{level}"), output.clone()))
        .collect();
    let mut output = skips.pop().expect("a U-Net has levels");
    for (up, level) in unet.ups.iter().zip(1..) {
        output = up.forward(output, skips.pop().expect("a skip a level"));
        outputs.insert(format!("up{level}"), output.clone());
    }
    outputs.insert("head".into(), unet.forward(x));
    outputs
}

/// Cuts a stored part such as `ch0_7`: channels 0 to 7.
fn cut(tensor: Tensor<4>, part: &str) -> Tensor<4> {
    if let Some(channels) = part.strip_prefix("ch") {
        let (first, last) = channels.split_once('_').expect("first_last");
        let [first, last] = [first, last].map(|text| text.parse::<usize>().expect("a channel"));
        let batch = 0..tensor.dims()[0];
        return tensor.slice([batch, first..last + 1]);
    }
    assert!(part.is_empty(), "the part {part} is not known");
    tensor
}
