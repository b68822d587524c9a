//! Packed models in files.

use std::path::Path;

use burn::module::{Flag, Module, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::store::ModuleRecord;
use burn::tensor::{Bool, Int, Tensor};

use super::choice::choose;
use super::{Borrowed, HashMap, Packer, QuantizeConfig, QuantizeError, Source};
use crate::files;
use crate::precision::Place;

/// Writes a quantized model as a burnpack file, with its packed weights as they are.
///
/// The path should end in `.bpk`. An earlier file is replaced once the new one is complete.
/// [`QuantizeConfig::load`] reads it; the settings are not in the file.
///
/// # Errors
/// If the file cannot be written.
///
/// # Panics
/// If the weights of `model` are streamed.
///
/// # Example
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::Device;
/// use burn_memopt::quantize::{self, QuantizeConfig, Scheme};
///
/// let device = Device::flex();
/// let config = QuantizeConfig::new(Scheme::Q4).with_kept([]);
/// let (packed, _) = config.quantize::<Linear>(&LinearConfig::new(64, 64).init(&device))?;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("model.bpk");
/// quantize::save(&packed, &path)?;
/// // The random values of this one are never computed.
/// let again: Linear = config.load(LinearConfig::new(64, 64).init(&device), &path)?;
/// assert_eq!(again.weight.val().into_data(), packed.weight.val().into_data());
/// # Ok::<(), quantize::QuantizeError>(())
/// ```
pub fn save<M: Module>(model: &M, path: impl AsRef<Path>) -> Result<(), QuantizeError> {
    // The snapshot has all updates of running statistics in it.
    let model = model.valid();
    let stand_ins = Places::of(&model).stand_ins;
    let record =
        model.into_record_group(ParamGroup::all().exclude(ParamGroup::from_ids(stand_ins)));
    files::write_with_path(path, |path| Ok(record.save(path)?))
}

/// Whether some weights of `model` are packed or streamed, or have adapters.
pub fn is_packed<M: Module>(model: &M) -> bool {
    !Places::of(model).stand_ins.is_empty()
}

/// Refuses a model with weights that are packed or streamed, or that have adapters.
pub(super) fn check_plain<M: Module>(model: &M) -> Result<(), QuantizeError> {
    match Places::of(model).first_stand_in {
        Some(path) => Err(QuantizeError::Reparameterized { path }),
        None => Ok(()),
    }
}

impl QuantizeConfig {
    /// Loads what [`save`] wrote, for inference. `model` gives the layers; where weights are packed, its own
    /// are not initialised if they were not before.
    ///
    /// # Errors
    /// If the file cannot be read, or is not of this model quantized with these settings.
    pub fn load<M: Module>(&self, model: M, path: impl AsRef<Path>) -> Result<M, QuantizeError> {
        let choices = choose(&model, self)?;
        let mut packer = Packer {
            choices: &choices,
            source: Source::Record,
            scheme: self.scheme,
            packed: HashMap::new(),
            dtypes: HashMap::new(),
            error: None,
        };
        let model = model.apply_reparameterization(Borrowed(&mut packer));
        let record = ModuleRecord::load(path)?;
        let (found, places) = (record.len(), Places::of(&model));
        let needed = places.num_tensors - places.stand_ins.len();
        if found != needed {
            return Err(QuantizeError::Incomplete { found, needed });
        }
        // Stand-ins are missing in the record. That nothing else is, the numbers say: what is in the
        // record must be in the model.
        let record = record.allow_partial(true).allow_unused(false);
        Ok(model.try_load_record(record)?.valid())
    }
}

/// The tensors of a model, and those that stand for weights kept elsewhere.
#[derive(Default)]
struct Places {
    num_tensors: usize,
    stand_ins: Vec<ParamId>,
    /// The path of the first of them.
    first_stand_in: Option<String>,
    last: Option<ParamId>,
    place: Place,
}

impl Places {
    fn of<M: Module>(model: &M) -> Self {
        let mut places = Self::default();
        model.visit(&mut places);
        places
    }
}

impl ModuleVisitor for Places {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        // burn visits the parameter, then what it is reparameterized by.
        if container_type == "Reparameterization" {
            self.stand_ins.extend(self.last);
            self.first_stand_in.get_or_insert(self.place.path());
        }
        self.place.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.place.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.num_tensors += 1;
        self.last = Some(param.id);
    }

    fn visit_int<const D: usize>(&mut self, _: &Param<Tensor<D, Int>>) {
        self.num_tensors += 1;
    }

    fn visit_bool<const D: usize>(&mut self, _: &Param<Tensor<D, Bool>>) {
        self.num_tensors += 1;
    }

    fn visit_flag(&mut self, _: &Param<Flag>) {}
}
