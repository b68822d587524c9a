//! Weights in files, by the names that PyTorch gives them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::store::burn_pack::Tensor as StoredTensor;
use burn::store::{
    ApplyError, FloatCastAdapter, ModuleAdapter, ModuleContext, ModuleSnapshot, ModuleStore,
    PytorchStore, SafetensorsStore, bridge,
};
use burn::tensor::{DType, TensorData};

/// What can go wrong between a network and a file of weights.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum WeightsError {
    /// The file is not there or is no such container.
    #[error("{path}: cannot read the weights; give a {format} file of tensors by name")]
    Read {
        /// The file.
        path: PathBuf,
        /// The container that was expected.
        format: &'static str,
        /// What the reader says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file of a network is not in the folder, in either container.
    #[error(
        "{folder}: neither {name}.safetensors nor {name}.pth is there; the folder must hold a file of \
         weights for every network, by that name"
    )]
    NotFound {
        /// Where it was looked for.
        folder: PathBuf,
        /// Its name without extension.
        name: &'static str,
    },
    /// The names or shapes are not those of the network.
    #[error(
        "{origin}: the weights do not fit this network; give its own, and choose the settings they \
         were trained with:{mismatch}"
    )]
    Mismatch {
        /// The file, or "state dict".
        origin: String,
        /// Every difference.
        mismatch: Mismatch,
    },
    /// Several state dicts of a file have the names of the network.
    #[error(
        "{origin}: {} fit this network; save one of them in a file of its own",
        .prefixes.join(" and ")
    )]
    Ambiguous {
        /// The file, or "state dict".
        origin: String,
        /// What the names of each begin with.
        prefixes: Vec<String>,
    },
    /// A tensor of the right name and shape cannot be used.
    #[error("{origin}: cannot use a tensor")]
    Tensor {
        /// The file, or "state dict".
        origin: String,
        /// Which tensor, and why.
        #[source]
        source: Box<ApplyError>,
    },
    /// The weights cannot be written.
    #[error("{path}: cannot write the weights; check that the folder exists and has room")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the writer says.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Every difference between a network and a state dict, by state-dict name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mismatch {
    /// Tensors the network needs and the state dict lacks.
    pub missing: Vec<String>,
    /// Tensors of the state dict that the network does not have.
    pub unexpected: Vec<String>,
    /// Tensors of another shape: name, shape in the network, shape in the state dict.
    pub reshaped: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl Mismatch {
    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.reshaped.is_empty()
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, names) in [("missing", &self.missing), ("unexpected", &self.unexpected)] {
            if !names.is_empty() {
                write!(f, "\n  {what} ({}): {}", names.len(), names.join(", "))?;
            }
        }
        for (name, wanted, found) in &self.reshaped {
            write!(f, "\n  {name}: shape must be {wanted:?}, got {found:?}")?;
        }
        Ok(())
    }
}

/// A network whose tensors have names in a PyTorch state dict, so that it loads and saves files
/// of weights.
///
/// # Example
/// ```
/// use burn::tensor::Device;
/// use burn_memopt_models::unet::UNetConfig;
/// use burn_memopt_models::weights::StateDict;
///
/// let config = UNetConfig::new(1, 1).with_base_channels(4).with_depth(1);
/// let unet = config.init(&Device::flex());
/// let path = std::env::temp_dir().join(format!("unet-{}.safetensors", std::process::id()));
/// unet.save_safetensors(&path)?;
/// let again = config.init(&Device::flex()).load_safetensors(&path)?;
/// assert_eq!(unet.outc.weight.to_data(), again.outc.weight.to_data());
/// # std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait StateDict: Module {
    /// Returns the state-dict name of the tensor at `path` in the module; names of enum variants
    /// are not part of `path`.
    fn state_dict_name(path: &str) -> String;

    /// Whether an entry of a published checkpoint is no tensor of the network, and ignored.
    ///
    /// The default ignores PyTorch's counters of training batches, which burn does not keep.
    fn is_bookkeeping(name: &str) -> bool {
        name.ends_with(".num_batches_tracked")
    }

    /// The state-dict name of an entry of a published checkpoint, whose names may have a prefix or
    /// stand for the same tensor. An entry that has the name itself goes before one that is renamed.
    ///
    /// The default is that names are published as they are.
    fn published_name(name: &str) -> Cow<'_, str> {
        name.into()
    }

    /// Loads a PyTorch checkpoint (`.pth`, `.pt`): a state dict, or a dict with a state dict in it.
    ///
    /// Half-precision tensors are widened to f32. Names may have a prefix such as `module.`, and the
    /// state dict may be in another one, for example as `state_dict` next to an optimizer's state.
    ///
    /// # Errors
    /// If the file cannot be read, or any tensor is missing, unexpected or of another shape:
    /// the error lists them all. The file is never loaded in part. If several state dicts in it fit.
    fn load_pytorch(self, path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        let mut store = PytorchStore::from_file(path).map_indices_contiguous(false);
        let tensors = store.get_all_tensors();
        let tensors = tensors.map_err(|source| WeightsError::Read {
            path: path.into(),
            format: "PyTorch",
            source: source.into(),
        })?;
        let tensors = tensors.values().cloned().collect();
        load_tensors(self, &path.display().to_string(), tensors)
    }

    /// Loads a safetensors file with the same names as [`load_pytorch`](Self::load_pytorch).
    ///
    /// # Errors
    /// As for [`load_pytorch`](Self::load_pytorch).
    fn load_safetensors(self, path: impl AsRef<Path>) -> Result<Self, WeightsError> {
        let path = path.as_ref();
        let mut store = SafetensorsStore::from_file(path);
        let tensors = store.get_all_tensors();
        let tensors = tensors.map_err(|source| WeightsError::Read {
            path: path.into(),
            format: "safetensors",
            source: source.into(),
        })?;
        let tensors = tensors.values().cloned().collect();
        load_tensors(self, &path.display().to_string(), tensors)
    }

    /// Loads tensors given by state-dict name, under the same rules as the files.
    ///
    /// # Errors
    /// As for [`load_pytorch`](Self::load_pytorch).
    fn load_state_dict(
        self,
        tensors: impl IntoIterator<Item = (String, TensorData)>,
    ) -> Result<Self, WeightsError> {
        let tensors = tensors
            .into_iter()
            .map(|(name, data)| bridge::from_data(data, name, None))
            .collect();
        load_tensors(self, "state dict", tensors)
    }

    /// Writes a safetensors file with the state-dict names, which PyTorch reads too.
    ///
    /// An existing file is replaced once the new one is complete. Packed weights are written as the
    /// floats that they stand for.
    ///
    /// # Errors
    /// If the file cannot be written.
    fn save_safetensors(&self, path: impl AsRef<Path>) -> Result<(), WeightsError> {
        let path = path.as_ref();
        let mut store = SafetensorsStore::from_file(path)
            .skip_enum_variants(true)
            .overwrite(true)
            .with_to_adapter(StateDictNames(Self::state_dict_name));
        // Running statistics lag one update behind until the module is read as a whole.
        self.valid()
            .materialize()
            .save_into(&mut store)
            .map_err(|source| WeightsError::Write {
                path: path.into(),
                source: source.into(),
            })
    }
}

/// Checks all names and shapes, then loads.
fn load_tensors<M: StateDict>(
    mut model: M,
    origin: &str,
    tensors: Vec<StoredTensor>,
) -> Result<M, WeightsError> {
    // Settles pending updates of running statistics, which would replace the loaded ones.
    drop(model.valid());
    let own = model.collect(None, None, true);
    let names = own.iter().map(|own| M::state_dict_name(&own.name));
    let names: Vec<_> = names.collect();
    let mut given = by_name::<M>(unwrapped::<M>(&names, origin, tensors)?);
    let mut mismatch = Mismatch::default();
    let mut matched = Vec::new();
    for (own, name) in own.into_iter().zip(names) {
        match given.remove(&name) {
            None => mismatch.missing.push(name),
            Some(tensor) if tensor.shape != own.shape => {
                let shapes = (own.shape.to_vec(), tensor.shape.to_vec());
                mismatch.reshaped.push((name, shapes.0, shapes.1));
            }
            Some(mut tensor) => {
                tensor.name = own.name;
                matched.push(tensor);
            }
        }
    }
    mismatch.unexpected = given.into_keys().collect();
    if !mismatch.is_empty() {
        return Err(WeightsError::Mismatch {
            origin: origin.into(),
            mismatch,
        });
    }
    let widen = Box::new(FloatCastAdapter::to(DType::F32));
    let applied = model.apply(matched, None, Some(widen), true);
    match applied.errors.into_iter().next() {
        None => Ok(model),
        Some(source) => Err(WeightsError::Tensor {
            origin: origin.into(),
            source: Box::new(source),
        }),
    }
}

/// The name in PyTorch of a layer's parameter; those of a normalization have others in burn.
pub(crate) fn parameter_name(parameter: &str) -> &str {
    match parameter {
        "gamma" => "weight",
        "beta" => "bias",
        other => other,
    }
}

/// Names tensors as the state dict does when they are saved.
#[derive(Clone)]
struct StateDictNames(fn(&str) -> String);

impl ModuleAdapter for StateDictNames {
    fn adapt(&self, mut tensor: StoredTensor, _: ModuleContext<'_>) -> StoredTensor {
        tensor.name = (self.0)(&tensor.name);
        tensor
    }

    fn clone_box(&self) -> Box<dyn ModuleAdapter> {
        Box::new(self.clone())
    }
}

/// The tensors of the state dict that has the names of a network, named as in it: what a file has
/// around it is left out, such as the prefix `module.` or the state of an optimizer next to it.
///
/// # Errors
/// If several state dicts have all the names.
fn unwrapped<M: StateDict>(
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
fn by_name<M: StateDict>(tensors: Vec<StoredTensor>) -> BTreeMap<String, StoredTensor> {
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
