use std::borrow::Cow;

use super::flow::{FlowCompletion, FlowPropagation, PseudoConv3d};
use super::generator::{
    FeaturePropagation, FusionFeedForward, InpaintGenerator, SoftComposition, SoftSplit,
    SparseTransformer,
};
use super::raft::Raft;
use super::training::{Discriminator, SpectralConv3d};
use crate::weights::{StateDict, parameter_name};

/// The names are those of the published flow completion network, such as
/// `feat_prop_module.deform_align.backward_.weight`.
impl StateDict for FlowCompletion {
    fn state_dict_name(path: &str) -> String {
        match parts(path)[..] {
            ["downsample", ref rest @ ..] => joined(&["downsample", "0"], rest),
            [stage @ ("encoder1" | "encoder2"), index, ref rest @ ..] => {
                let layer = PseudoConv3d::state_dict_name(&rest.join("."));
                joined(&[stage, &doubled(index)], &[&layer])
            }
            ["mid_dilation", index, ref rest @ ..] => {
                joined(&["mid_dilation", &doubled(index)], rest)
            }
            ["feat_prop_module", ref rest @ ..] => {
                let inner = FlowPropagation::state_dict_name(&rest.join("."));
                joined(&["feat_prop_module"], &[&inner])
            }
            [
                stage @ ("decoder1" | "decoder2" | "upsample"),
                layer,
                ref rest @ ..,
            ] => {
                let index = if layer == "conv" { "0" } else { "2" };
                joined(&[stage, index], rest)
            }
            ["edge_detector", "out_layer", ref rest @ ..] => {
                joined(&["edgeDetector", "out_layer"], rest)
            }
            ["edge_detector", layer, ref rest @ ..] => joined(&["edgeDetector", layer, "0"], rest),
            _ => path.into(),
        }
    }
}

/// The names are those inside the published flow completion network.
impl StateDict for PseudoConv3d {
    fn state_dict_name(path: &str) -> String {
        match parts(path)[..] {
            [conv, parameter] => joined(&[conv, "0"], &[parameter]),
            _ => path.into(),
        }
    }
}

/// The names are those inside the published flow completion network.
impl StateDict for FlowPropagation {
    fn state_dict_name(path: &str) -> String {
        propagation_name(path, "_")
    }
}

/// The names are those inside the published generator.
impl StateDict for FeaturePropagation {
    fn state_dict_name(path: &str) -> String {
        propagation_name(path, "_1")
    }
}

/// The names are those of the published generator, such as
/// `transformers.transformer.0.attention.query.weight`.
impl StateDict for InpaintGenerator {
    fn state_dict_name(path: &str) -> String {
        match parts(path)[..] {
            ["encoder", "layers", index, ref rest @ ..] => {
                joined(&["encoder", "layers", &doubled(index)], rest)
            }
            ["decoder", layer, ref rest @ ..] => {
                let index = match layer {
                    "up1" => "0",
                    "conv1" => "2",
                    "up2" => "4",
                    _ => "6",
                };
                joined(&["decoder", index], rest)
            }
            ["feat_prop_module", ref rest @ ..] => {
                let inner = FeaturePropagation::state_dict_name(&rest.join("."));
                joined(&["feat_prop_module"], &[&inner])
            }
            ["transformers", ref rest @ ..] => {
                let inner = SparseTransformer::state_dict_name(&rest.join("."));
                joined(&["transformers"], &[&inner])
            }
            _ => path.into(),
        }
    }
}

/// The names are those inside the published generator.
impl StateDict for SparseTransformer {
    fn state_dict_name(path: &str) -> String {
        match parts(path)[..] {
            ["transformer", index, "mlp", ref rest @ ..] => {
                let inner = FusionFeedForward::state_dict_name(&rest.join("."));
                joined(&["transformer", index, "mlp"], &[&inner])
            }
            [ref block @ .., "gamma"] => joined(block, &["weight"]),
            [ref block @ .., "beta"] => joined(block, &["bias"]),
            _ => path.into(),
        }
    }
}

/// The names are those inside the published generator.
impl StateDict for FusionFeedForward {
    fn state_dict_name(path: &str) -> String {
        match parts(path)[..] {
            ["fc1", parameter] => joined(&["fc1", "0"], &[parameter]),
            ["fc2", parameter] => joined(&["fc2", "1"], &[parameter]),
            _ => path.into(),
        }
    }
}

/// The names are those inside the published generator.
impl StateDict for SoftSplit {
    fn state_dict_name(path: &str) -> String {
        path.into()
    }
}

/// The names are those inside the published generator.
impl StateDict for SoftComposition {
    fn state_dict_name(path: &str) -> String {
        path.into()
    }
}

/// The names are those of PyTorch's spectral normalization.
impl StateDict for SpectralConv3d {
    fn state_dict_name(path: &str) -> String {
        path.into()
    }
}

/// The names are those of the published discriminator, such as `conv.0.weight_orig`.
impl StateDict for Discriminator {
    fn state_dict_name(path: &str) -> String {
        match parts(path)[..] {
            ["conv", index, ref rest @ ..] => joined(&["conv", &doubled(index)], rest),
            ["last", ref rest @ ..] => joined(&["conv", "10"], rest),
            _ => path.into(),
        }
    }
}

/// Both directions of a propagation lie within each kind of layer, and are told apart by their
/// names with `suffix`.
fn propagation_name(path: &str, suffix: &str) -> String {
    match parts(path)[..] {
        [direction @ ("backward" | "forward"), kind, ref rest @ ..] => {
            let direction = format!("{direction}{suffix}");
            match *rest {
                ["deform", parameter] => joined(&[kind, &direction], &[parameter]),
                ["conv_offset", index, parameter] => joined(
                    &[kind, &direction, "conv_offset", &doubled(index)],
                    &[parameter],
                ),
                [index, parameter] => joined(&[kind, &direction, &doubled(index)], &[parameter]),
                _ => path.into(),
            }
        }
        ["fuse", index, parameter] => joined(&["fuse", &doubled(index)], &[parameter]),
        _ => path.into(),
    }
}

fn parts(path: &str) -> Vec<&str> {
    path.split('.').collect()
}

fn joined(first: &[&str], rest: &[&str]) -> String {
    [first, rest].concat().join(".")
}

/// Between two layers of a list lies an activation in the state dict.
fn doubled(index: &str) -> String {
    match index.parse::<usize>() {
        Ok(index) => (2 * index).to_string(),
        Err(_) => index.into(),
    }
}

/// The names are those of `raft-things.pth`, without the prefix `module.` that all of them have
/// there. A normalization that the file holds under two names, `norm3` and `downsample.1`, is
/// `downsample.1` here; either of both will do.
impl StateDict for Raft {
    fn state_dict_name(path: &str) -> String {
        let parts: Vec<&str> = path.split('.').collect();
        let named = parts.iter().enumerate().map(|(at, &part)| {
            let before = at.checked_sub(1).map(|at| parts[at]);
            match (before, part) {
                (Some("downsample"), "conv") => "0",
                (Some("downsample"), "norm") => "1",
                (Some("mask"), "conv1") => "0",
                (Some("mask"), "conv2") => "2",
                _ => parameter_name(part),
            }
        });
        named.collect::<Vec<_>>().join(".")
    }

    fn published_name(name: &str) -> Cow<'_, str> {
        let name = name.strip_prefix("module.").unwrap_or(name);
        match name.contains(".norm3.") {
            true => name.replace(".norm3.", ".downsample.1.").into(),
            false => name.into(),
        }
    }
}
