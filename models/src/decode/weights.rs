use super::double_munet::DoubleMUNet;
use super::sigma_munet::SigmaMUNet;
use super::unet2d::UNet2d;
use crate::weights::StateDict;

/// The names are those of DECODE, such as `encoder.0.2.weight`.
impl StateDict for UNet2d {
    fn state_dict_name(path: &str) -> String {
        decode_name(path)
    }
}

/// The names are those of DECODE, such as `unet_shared.encoder.0.2.weight`.
impl StateDict for SigmaMUNet {
    fn state_dict_name(path: &str) -> String {
        decode_name(path)
    }
}

/// The names are those of DECODE, such as `unet_shared.encoder.0.2.weight`.
impl StateDict for DoubleMUNet {
    fn state_dict_name(path: &str) -> String {
        decode_name(path)
    }
}

/// Leaves out the fields that DECODE does not have, and calls the parameters of a normalization
/// as PyTorch does.
fn decode_name(path: &str) -> String {
    let parts = path
        .split('.')
        .filter(|part| !["net", "layers"].contains(part));
    let named = parts.map(|part| match part {
        "gamma" => "weight",
        "beta" => "bias",
        other => other,
    });
    named.collect::<Vec<_>>().join(".")
}
