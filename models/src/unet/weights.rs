use super::model::UNet;
use crate::weights::StateDict;

/// The names are those of milesial's PyTorch U-Net, such as
/// `down1.maxpool_conv.1.double_conv.1.weight`; the entry `mask_values` of published checkpoints
/// is ignored.
impl StateDict for UNet {
    fn state_dict_name(path: &str) -> String {
        let (block, layer) = match path.split('.').collect::<Vec<_>>()[..] {
            ["downs", index, "conv", ref layer @ ..] => {
                (numbered("down", index) + ".maxpool_conv.1", layer.to_vec())
            }
            ["ups", index, ref layer @ ..] => (numbered("up", index), layer.to_vec()),
            ["outc", ref layer @ ..] => ("outc.conv".into(), layer.to_vec()),
            [block, ref layer @ ..] => (block.to_string(), layer.to_vec()),
            [] => Default::default(),
        };
        layer.into_iter().fold(block, |name, part| {
            let part = match part {
                "conv1" => "double_conv.0",
                "norm1" => "double_conv.1",
                "conv2" => "double_conv.3",
                "norm2" => "double_conv.4",
                "gamma" => "weight",
                "beta" => "bias",
                other => other,
            };
            format!("{name}.{part}")
        })
    }

    fn is_bookkeeping(name: &str) -> bool {
        name.ends_with(".num_batches_tracked") || name.split('.').next() == Some("mask_values")
    }
}

/// Lists count from 0 here and from 1 in the state dict.
fn numbered(stem: &str, index: &str) -> String {
    match index.parse::<usize>() {
        Ok(index) => format!("{stem}{}", index + 1),
        Err(_) => format!("{stem}.{index}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_numbered_as_in_the_published_network() {
        assert_eq!(
            UNet::state_dict_name("downs.0.conv.norm1.gamma"),
            "down1.maxpool_conv.1.double_conv.1.weight"
        );
    }
}
