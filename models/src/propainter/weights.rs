//! What the tensors of each network are called in the published weights.

use std::borrow::Cow;

use super::flow::{FlowCompletion, FlowPropagation, PseudoConv3d};
use super::generator::{
    FeaturePropagation, FusionFeedForward, InpaintGenerator, SparseTransformer,
};
use super::raft::Raft;
use super::training::Discriminator;
use crate::weights::{StateDict, parameter_name};

/// `path` with its beginning renamed by the first rule that fits, and parameters of normalizations
/// as PyTorch calls them.
///
/// In a rule, `*` is any name, and `#` is the place of a layer in a list, which is doubled because
/// the state dict counts the activations between layers too; each `$` is the next of these.
fn renamed(path: &str, rules: &[(&str, &str)]) -> String {
    let mut parts: Vec<&str> = path.split('.').collect();
    if let Some(parameter) = parts.last_mut() {
        *parameter = parameter_name(parameter);
    }
    let mut fitting = rules.iter().filter_map(|rule| by_rule(&parts, *rule));
    fitting.next().unwrap_or_else(|| parts.join("."))
}

fn by_rule(parts: &[&str], (from, to): (&str, &str)) -> Option<String> {
    let mut parts = parts.iter();
    let mut captures = Vec::new();
    for wanted in from.split('.') {
        let part = *parts.next()?;
        match wanted {
            "*" => captures.push(part.to_owned()),
            "#" => captures.push((2 * part.parse::<usize>().ok()?).to_string()),
            _ if wanted != part => return None,
            _ => {}
        }
    }
    let mut captures = captures.into_iter();
    let renamed = to.split('.').map(|part| match part {
        "$" => captures.next().expect("invariant: as many $ as * and #"),
        _ => part.to_owned(),
    });
    let rest = parts.map(|part| (*part).to_owned());
    Some(renamed.chain(rest).collect::<Vec<_>>().join("."))
}

/// The name of a tensor that is below `field` in `M`, if `path` is.
fn within<M: StateDict>(path: &str, field: &str) -> Option<String> {
    let inner = path.strip_prefix(field)?.strip_prefix('.')?;
    Some(format!("{field}.{}", M::state_dict_name(inner)))
}

/// The names are those of `raft-things.pth`, without the prefix `module.` that all of them have
/// there. A normalization that the file holds under two names, `norm3` and `downsample.1`, is
/// `downsample.1` here; either of both will do.
impl StateDict for Raft {
    fn state_dict_name(path: &str) -> String {
        renamed(
            path,
            &[
                ("*.*.*.downsample.conv", "$.$.$.downsample.0"),
                ("*.*.*.downsample.norm", "$.$.$.downsample.1"),
                ("update_block.mask.conv1", "update_block.mask.0"),
                ("update_block.mask.conv2", "update_block.mask.2"),
            ],
        )
    }

    fn published_name(name: &str) -> Cow<'_, str> {
        let name = name.strip_prefix("module.").unwrap_or(name);
        if name.contains(".norm3.") {
            name.replace(".norm3.", ".downsample.1.").into()
        } else {
            name.into()
        }
    }
}

/// The names are those of the published flow completion network, such as
/// `feat_prop_module.deform_align.backward_.weight`.
impl StateDict for FlowCompletion {
    fn state_dict_name(path: &str) -> String {
        let propagation = within::<FlowPropagation>(path, "feat_prop_module");
        propagation.unwrap_or_else(|| {
            renamed(
                path,
                &[
                    ("downsample", "downsample.0"),
                    ("encoder1.#.*", "encoder1.$.$.0"),
                    ("encoder2.#.*", "encoder2.$.$.0"),
                    ("mid_dilation.#", "mid_dilation.$"),
                    ("decoder2.conv", "decoder2.0"),
                    ("decoder2.up", "decoder2.2"),
                    ("decoder1.conv", "decoder1.0"),
                    ("decoder1.up", "decoder1.2"),
                    ("upsample.conv", "upsample.0"),
                    ("upsample.up", "upsample.2"),
                    ("edge_detector.out_layer", "edgeDetector.out_layer"),
                    ("edge_detector.*", "edgeDetector.$.0"),
                ],
            )
        })
    }
}

/// The names are those inside the published flow completion network.
impl StateDict for PseudoConv3d {
    fn state_dict_name(path: &str) -> String {
        renamed(path, &[("*", "$.0")])
    }
}

/// The names are those inside the published flow completion network.
impl StateDict for FlowPropagation {
    fn state_dict_name(path: &str) -> String {
        renamed(
            path,
            &[
                ("backward.*.deform", "$.backward_"),
                ("backward.*.conv_offset.#", "$.backward_.conv_offset.$"),
                ("backward.*.#", "$.backward_.$"),
                ("forward.*.deform", "$.forward_"),
                ("forward.*.conv_offset.#", "$.forward_.conv_offset.$"),
                ("forward.*.#", "$.forward_.$"),
            ],
        )
    }
}

/// The names are those inside the published generator.
impl StateDict for FeaturePropagation {
    fn state_dict_name(path: &str) -> String {
        renamed(
            path,
            &[
                ("backward.*.deform", "$.backward_1"),
                ("backward.*.conv_offset.#", "$.backward_1.conv_offset.$"),
                ("backward.*.#", "$.backward_1.$"),
                ("forward.*.deform", "$.forward_1"),
                ("forward.*.conv_offset.#", "$.forward_1.conv_offset.$"),
                ("forward.*.#", "$.forward_1.$"),
                ("fuse.#", "fuse.$"),
            ],
        )
    }
}

/// The names are those of the published generator, such as
/// `transformers.transformer.0.attention.query.weight`.
impl StateDict for InpaintGenerator {
    fn state_dict_name(path: &str) -> String {
        let inner = within::<FeaturePropagation>(path, "feat_prop_module")
            .or_else(|| within::<SparseTransformer>(path, "transformers"));
        inner.unwrap_or_else(|| {
            renamed(
                path,
                &[
                    ("encoder.layers.#", "encoder.layers.$"),
                    ("decoder.up1", "decoder.0"),
                    ("decoder.conv1", "decoder.2"),
                    ("decoder.up2", "decoder.4"),
                    ("decoder.conv2", "decoder.6"),
                ],
            )
        })
    }
}

/// The names are those inside the published generator.
impl StateDict for SparseTransformer {
    fn state_dict_name(path: &str) -> String {
        renamed(
            path,
            &[
                ("transformer.*.mlp.fc1", "transformer.$.mlp.fc1.0"),
                ("transformer.*.mlp.fc2", "transformer.$.mlp.fc2.1"),
            ],
        )
    }
}

/// The names are those inside the published generator.
impl StateDict for FusionFeedForward {
    fn state_dict_name(path: &str) -> String {
        renamed(path, &[("fc1", "fc1.0"), ("fc2", "fc2.1")])
    }
}

/// The names are those of the published discriminator, such as `conv.0.weight_orig`.
impl StateDict for Discriminator {
    fn state_dict_name(path: &str) -> String {
        renamed(path, &[("conv.#", "conv.$"), ("last", "conv.10")])
    }
}
