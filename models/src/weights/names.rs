//! Which tensors of a file are those of a network.

use std::collections::{BTreeMap, BTreeSet};

use burn::store::burn_pack::Tensor as StoredTensor;

use super::{StateDict, WeightsError};

/// The tensors of the state dict that has the names of a network, named as in it: what a file has
/// around it is left out, such as the prefix `module.` or the state of an optimizer next to it.
///
/// # Errors
/// If several state dicts have all the names.
pub(super) fn unwrapped<M: StateDict>(
    names: &[String],
    origin: &str,
    tensors: Vec<StoredTensor>,
) -> Result<Vec<StoredTensor>, WeightsError> {
    // For each prefix, which names of the network are behind it.
    let mut found: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let published = tensors.iter().map(|tensor| M::published_name(&tensor.name));
    for given in published {
        for name in names {
            let prefix = given.strip_suffix(name.as_str());
            if let Some(prefix) = prefix.filter(|it| it.is_empty() || it.ends_with('.')) {
                found.entry(prefix.into()).or_default().insert(name);
            }
        }
    }
    let whole = found
        .iter()
        .filter(|(_, behind)| behind.len() == names.len());
    let whole: Vec<_> = whole.map(|(prefix, _)| prefix.clone()).collect();
    if whole.len() > 1 && !whole[0].is_empty() {
        return Err(WeightsError::Ambiguous {
            origin: origin.into(),
            prefixes: whole,
        });
    }
    // Names that fit by chance are few.
    let most = found.into_iter().max_by_key(|(prefix, behind)| {
        let is_plain = prefix.is_empty();
        (behind.len(), is_plain)
    });
    let prefix = match most {
        Some((prefix, behind)) if 2 * behind.len() > names.len() => prefix,
        _ => String::new(),
    };
    let inside = tensors.into_iter().filter_map(|mut tensor| {
        tensor.name = tensor.name.strip_prefix(&prefix)?.to_owned();
        Some(tensor)
    });
    Ok(inside.collect())
}

/// The tensors of a file by their names in the state dict.
pub(super) fn by_name<M: StateDict>(tensors: Vec<StoredTensor>) -> BTreeMap<String, StoredTensor> {
    let tensors = tensors.into_iter();
    let mut tensors: Vec<_> = tensors
        .map(|tensor| (M::published_name(&tensor.name).into_owned(), tensor))
        .filter(|(name, _)| !M::is_bookkeeping(name))
        .collect();
    // The last one of a name stays: those that have it themselves.
    tensors.sort_by_key(|(name, tensor)| tensor.name.ends_with(name.as_str()));
    tensors.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use burn::store::{ModuleSnapshot, bridge};
    use burn::tensor::{Device, TensorData};
    use rstest::rstest;

    use super::*;
    use crate::unet::{UNet, UNetConfig};

    fn tiny() -> UNet {
        let config = UNetConfig::new(1, 2).with_base_channels(4).with_depth(1);
        config.init(&Device::flex())
    }

    /// Every tensor by its name in PyTorch.
    fn state(unet: &UNet) -> Vec<(String, TensorData)> {
        let tensors = unet.collect(None, None, true);
        let named = tensors.iter().map(|tensor| {
            let data = bridge::to_data(tensor).expect("the data is at hand");
            (UNet::state_dict_name(&tensor.name), data)
        });
        named.collect()
    }

    /// Trained on several devices, and saved with the state of its optimizer.
    #[test]
    fn a_state_dict_in_a_checkpoint_loads() {
        let load = |file: &str| {
            let path = format!("{}/tests/{file}", env!("CARGO_MANIFEST_DIR"));
            let config = UNetConfig::new(1, 1).with_base_channels(2).with_depth(1);
            state(&config.init(&Device::flex()).load_pytorch(path).unwrap())
        };
        let plain = load("golden/tiny_unet.pth");
        assert_eq!(load("weights/wrapped_unet.pth"), plain);
    }

    #[rstest]
    #[case::on_several_devices("module.")]
    #[case::compiled("_orig_mod.")]
    #[case::lightning("state_dict.model.net.")]
    #[case::next_to_its_average("params.")]
    #[case::of_two_networks("generator.")]
    fn weights_with_a_prefix_load(#[case] prefix: &str) {
        let plain = state(&tiny());
        let named = |(name, data): &(String, TensorData)| (format!("{prefix}{name}"), data.clone());
        let mut wrapped: Vec<_> = plain.iter().map(named).collect();
        for other in ["optimizer.state.0.exp_avg", "discriminator.conv.bias"] {
            wrapped.push((other.into(), TensorData::from([1.0f32])));
        }
        let loaded = tiny().load_state_dict(wrapped.clone());
        assert_eq!(state(&loaded.unwrap()), plain);

        // What is missing is named as in the network.
        wrapped.remove(0);
        let error = tiny().load_state_dict(wrapped);
        let Err(WeightsError::Mismatch { mismatch, .. }) = error else {
            panic!("the state dict does not fit");
        };
        assert_eq!(mismatch.missing, [plain[0].0.clone()]);
        assert_eq!(mismatch.unexpected, [] as [&str; 0]);
    }

    #[test]
    fn two_state_dicts_that_fit_are_refused() {
        let plain = state(&tiny());
        let mut both = Vec::new();
        for prefix in ["params.", "params_ema."] {
            let named =
                |(name, data): &(String, TensorData)| (format!("{prefix}{name}"), data.clone());
            both.extend(plain.iter().map(named));
        }
        let error = tiny().load_state_dict(both);
        let text = error.unwrap_err().to_string();
        assert!(text.contains("params. and params_ema. fit"), "{text}");
    }
}
