//! Records of optimizers, which are loaded whole or not at all.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use burn::optim::{ModuleOptimizer, OptimizerRecord};
use burn::store::RecordError;
use burn::tensor::Bytes;
use burn_pack::{Reader, Tensor, Writer};

/// Why the state of an optimizer was not loaded.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum LoadOptimizerError {
    /// The file is not there, damaged, or no record.
    #[error("cannot read the optimizer's state in {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: RecordError,
    },
    /// The record is another optimizer's.
    #[error(
        "{} holds the state of {found}, which this optimizer cannot take: load it into that one, or \
         begin without a state",
        .path.display()
    )]
    OtherOptimizer {
        /// The file.
        path: PathBuf,
        /// Whose state it is, as far as its fields tell.
        found: String,
    },
}

/// Loads the state that an optimizer has saved, as [`ModuleOptimizer::load`] does, or refuses it.
///
/// burn's `load` leaves out what an optimizer cannot take, and goes on as at the first step. Here all of the
/// record has to be the optimizer's, or nothing is loaded. A record with no state, of SGD without momentum or from before
/// the first step, suits any. An optimizer in 8 bits takes records of `Adam` and `AdamW`, which take each other's.
///
/// # Errors
/// If the file cannot be read, or is a record of an optimizer with another state: names that.
///
/// # Example
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::optim::{AdamWConfig, GradientsParams, RmsPropConfig};
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::optim::{AdamW8bitConfig, load_optimizer};
///
/// let device = Device::flex().autodiff();
/// let model: Linear = LinearConfig::new(4, 2).init(&device);
/// let loss = model.forward(Tensor::<2>::ones([2, 4], &device)).square().mean();
/// let grads = GradientsParams::from_grads(loss.backward(), &model);
/// let mut adamw = AdamWConfig::new().init();
/// # let _ =
/// adamw.step(0.001, model, grads);
/// # let folder = std::env::temp_dir().join(format!("optimizer-record-{}", std::process::id()));
/// # std::fs::create_dir_all(&folder)?;
/// let path = folder.join("optimizer.bpk");
/// adamw.save(&path)?;
///
/// let eight_bit = load_optimizer(AdamW8bitConfig::new().init(), &path)?;
/// let refused = load_optimizer(RmsPropConfig::new().init(), &path).err().unwrap();
/// assert!(refused.to_string().contains("the state of Adam or AdamW"));
/// # std::fs::remove_dir_all(&folder)?;
/// # let _ = eight_bit;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn load_optimizer(
    optimizer: ModuleOptimizer,
    path: impl AsRef<Path>,
) -> Result<ModuleOptimizer, LoadOptimizerError> {
    let path = path.as_ref();
    let read = |source| LoadOptimizerError::Read {
        path: path.into(),
        source,
    };
    let (outline, names) = outline(path).map_err(read)?;
    let taken = || {
        let outline = OptimizerRecord::from_bytes(outline)?;
        let taken = optimizer.clone().load_record(outline).into_bytes()?;
        Ok(names_in(&Reader::from_bytes(taken)?))
    };
    if taken().map_err(read)? != names {
        return Err(LoadOptimizerError::OtherOptimizer {
            path: path.into(),
            found: owner_of(&names),
        });
    }
    // burn's `load` reads the file when a tensor is used, which may be after it has changed.
    let bytes = fs::read(path).map_err(|error| read(RecordError::Io(error.to_string())))?;
    let bytes = Bytes::from_bytes_vec(bytes);
    optimizer.from_bytes(bytes).map_err(read)
}

/// The record in a file with one value in place of each tensor, and the names of all that it has.
fn outline(path: &Path) -> Result<(Bytes, BTreeSet<String>), RecordError> {
    let reader = Reader::from_file(path)?;
    let names = names_in(&reader);
    let (scalars, metadata) = (reader.scalars().clone(), reader.metadata().clone());
    let tensors = reader.into_tensors()?.into_iter().map(|tensor| {
        let shape = vec![1; tensor.shape.num_dims()];
        let value = Bytes::from_bytes_vec(vec![0; tensor.dtype.size()]);
        Tensor::new(tensor.name, tensor.dtype, shape, tensor.param_id, value)
    });
    let mut writer = Writer::new(tensors.collect());
    for (name, value) in scalars {
        writer = writer.with_scalar(&name, value);
    }
    for (name, value) in metadata {
        writer = writer.with_metadata(&name, &value);
    }
    Ok((writer.into_bytes()?, names))
}

fn names_in(reader: &Reader) -> BTreeSet<String> {
    let scalars = reader.scalars().keys().cloned();
    let tensors = reader.tensor_names().into_iter().map(str::to_owned);
    scalars.chain(tensors).collect()
}

/// A tensor that the state of an optimizer has, behind the parameter's number. The first that is found counts.
const OWNERS: [(&str, &str); 10] = [
    ("momentum.moment_1.words", "Adam8bit or AdamW8bit"),
    ("momentum.moment_1", "Adam or AdamW"),
    ("square_avg.square_avg", "RmsProp"),
    ("momentum.velocity", "Sgd or Muon, with momentum"),
    ("lr_decay.sum", "AdaGrad"),
    ("momentum.exp_avg", "Adan"),
    ("moment_1", "Lamb"),
    ("momentum", "Lion"),
    ("second_moment", "Adafactor"),
    ("history_s.0", "LBFGS"),
];

/// The optimizer whose state has these names.
fn owner_of(names: &BTreeSet<String>) -> String {
    let fields: BTreeSet<&str> = names
        .iter()
        .filter_map(|name| Some(name.split_once('.')?.1))
        .collect();
    match OWNERS.iter().find(|(field, _)| fields.contains(field)) {
        Some((_, owner)) => (*owner).to_owned(),
        None => {
            let fields: Vec<_> = fields.into_iter().collect();
            format!("an optimizer with the fields {}", fields.join(", "))
        }
    }
}
