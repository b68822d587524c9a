//! The published weights: their files, and what the tensors of each network are called in them.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use burn::store::{ModuleSnapshot, bridge};
use burn::tensor::{Device, TensorData};

use super::flow::{FlowCompletion, FlowPropagation, PseudoConv3d};
use super::generator::{
    FeaturePropagation, FusionFeedForward, InpaintGenerator, InpaintGeneratorConfig,
    SparseTransformer,
};
use super::raft::{Raft, RaftConfig};
use super::training::Discriminator;
use crate::weights::{StateDict, WeightsError, parameter_name};

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

/// A network whose weights were published with ProPainter, under a file name of their own.
///
/// # Example
/// ```no_run
/// use burn::tensor::Device;
/// use burn_memopt_models::propainter::{FlowCompletion, Published};
///
/// // weights/recurrent_flow_completion.safetensors, or else .pth
/// let network = FlowCompletion::load_published("weights", &Device::flex())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Published: StateDict {
    /// The name of its file, without extension.
    const FILE: &'static str;

    /// Builds it in the published size, with random parameters.
    fn published_size(device: &Device) -> Self;

    /// Makes its weights up from their names, as [`ProPainter::procedural`](super::ProPainter::procedural)
    /// does.
    fn procedural(device: &Device) -> Self;

    /// Loads it out of the folder of all: `.safetensors`, or else `.pth`.
    ///
    /// # Errors
    /// If there is no such file or it cannot be read, or a tensor is missing, unexpected or of
    /// another shape.
    fn load_published(folder: impl AsRef<Path>, device: &Device) -> Result<Self, WeightsError> {
        let (folder, name) = (folder.as_ref(), Self::FILE);
        let file = |extension: &str| -> Option<PathBuf> {
            let file = folder.join(format!("{name}.{extension}"));
            file.exists().then_some(file)
        };
        let network = Self::published_size(device);
        match (file("safetensors"), file("pth")) {
            (Some(file), _) => network.load_safetensors(file),
            (None, Some(file)) => network.load_pytorch(file),
            (None, None) => {
                let folder = folder.to_owned();
                Err(WeightsError::NotFound { folder, name })
            }
        }
    }
}

impl Published for Raft {
    const FILE: &'static str = "raft-things";

    fn published_size(device: &Device) -> Self {
        RaftConfig::new().init(device)
    }

    fn procedural(device: &Device) -> Self {
        procedural(Self::published_size(device), |name| match name {
            name if name.contains("flow_head.conv2.") => 1.0 / 64.0,
            _ => 1.25,
        })
    }
}

impl Published for FlowCompletion {
    const FILE: &'static str = "recurrent_flow_completion";

    fn published_size(device: &Device) -> Self {
        Self::new(device)
    }

    fn procedural(device: &Device) -> Self {
        procedural(Self::published_size(device), |name| match name {
            name if name.starts_with("upsample.2.") => 0.5,
            name if name.starts_with("feat_prop_module.") => 1.0,
            _ => 1.5,
        })
    }
}

impl Published for InpaintGenerator {
    const FILE: &'static str = "ProPainter";

    fn published_size(device: &Device) -> Self {
        InpaintGeneratorConfig::new().init(device)
    }

    fn procedural(device: &Device) -> Self {
        procedural(Self::published_size(device), |name| match name {
            name if name.starts_with("encoder.") => 1.5,
            name if name.starts_with("sc.") => 0.5,
            _ => 1.0,
        })
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Makes up every parameter of a network from its name in the state dict: weights uniform around
/// zero, as wide as keeps the size of what passes through times `gain`; no bias; statistics that
/// change nothing. Integers are constants and stay.
fn procedural<M: StateDict>(network: M, gain: impl Fn(&str) -> f32) -> M {
    let made_up = network.collect(None, None, true).into_iter().map(|tensor| {
        let name = M::state_dict_name(&tensor.name);
        let shape = tensor.shape.to_vec();
        let data = if tensor.dtype.is_float() {
            TensorData::new(values(&name, &shape, gain(&name)), shape)
        } else {
            bridge::to_data(&tensor).expect("invariant: a new network is at hand")
        };
        (name, data)
    });
    let made_up: Vec<_> = made_up.collect();
    network
        .load_state_dict(made_up)
        .expect("invariant: names and shapes are the network's own")
}

fn values(name: &str, shape: &[usize], gain: f32) -> Vec<f32> {
    let len = shape.iter().product();
    let is_one = name.ends_with(".running_var") || name.ends_with(".weight");
    let Some((_, inputs)) = shape.split_first().filter(|(_, inputs)| !inputs.is_empty()) else {
        return vec![f32::from(u8::from(is_one)); len];
    };
    let fan: usize = inputs.iter().product();
    let reach = gain * (3.0 / fan as f32).sqrt();
    let seed = name.bytes().fold(FNV_OFFSET, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)
    });
    (0..len as u64)
        .map(|index| reach * (2.0 * uniform(seed, index) - 1.0))
        .collect()
}

/// Output `index` of splitmix64 (Steele, Lea and Flood 2014) as a number from 0 to 1.
fn uniform(seed: u64, index: u64) -> f32 {
    let z = seed.wrapping_add((index + 1).wrapping_mul(GOLDEN_GAMMA));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / 16_777_216.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_follow_from_the_name_and_keep_the_size_of_what_passes() {
        let weight = values("a.weight", &[64, 100], 1.0);
        assert_eq!(weight, values("a.weight", &[64, 100], 1.0));
        assert_ne!(weight, values("b.weight", &[64, 100], 1.0));
        let variance = weight.iter().map(|value| value * value).sum::<f32>() / 6400.0;
        assert!((variance * 100.0 - 1.0).abs() < 0.1, "{variance}");
        assert_eq!(values("a.bias", &[2], 1.0), [0.0; 2]);
        assert_eq!(values("a.running_var", &[2], 1.0), [1.0; 2]);
    }
}
