//! Models whose weights do not fit: packed in 8 or 4 bits, or streamed from the host.
//!
//! | | weights on the device | each use of a weight | exact? |
//! |---|---|---|---|
//! | [`QuantizeConfig::quantize`] | 0.26 (8 bits) or 0.13 (4 bits) of those in f32, and the one in use in float | makes floats of it on the device | no |
//! | [`StreamedWeights`] | the one in use, and what is small | sends it from host memory | bit-equal |
//!
//! Both save memory of weights and no time: burn computes in float, so a layer's floats are made when
//! its [`Param::val`](burn::module::Param::val) is called, and dropped after it. Both work with any burn
//! module without a change to it, and on every backend. For training neither is of use.
//!
//! burn's own quantized tensors are not what is used here. Its CPU backend stores 8 bits whatever the
//! scheme; on a GPU packed dimensions must divide by 4, which a 3×3 kernel's do not; and quantizing a
//! model by [`Module::quantize_weights`] changes running
//! statistics of the original.
//!
//! # Example
//! ```
//! use burn::nn::conv::{Conv2d, Conv2dConfig};
//! use burn::tensor::{Device, Tensor};
//! use burn_memopt::quantize::{QuantizeConfig, Scheme};
//!
//! let device = Device::flex();
//! let layer = || Conv2dConfig::new([32, 32], [3, 3]).init(&device);
//! let model: Vec<Conv2d> = vec![layer(), layer(), layer()];
//! let (packed, report) = QuantizeConfig::new(Scheme::Q8).with_kept([]).quantize(&model)?;
//! println!("{report}");
//! assert!(report.share() < 0.27);
//!
//! let x = Tensor::<4>::ones([1, 32, 8, 8], &device);
//! let difference = packed[0].forward(x.clone()) - model[0].forward(x);
//! assert!(difference.abs().max().into_scalar::<f32>() < 0.02);
//! # Ok::<(), burn_memopt::quantize::QuantizeError>(())
//! ```

mod choice;
mod pack;
mod packed;
mod record;
mod report;
mod streamed;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};

use burn::module::{Module, Param, ParamId, Reparameterizer};
use burn::store::RecordError;
use burn::tensor::{FloatDType, Tensor, TensorReadError};
use serde::{Deserialize, Serialize};

use crate::memory::to_host;

pub use choice::FloatReason;
use choice::{Choices, choose};
pub use pack::{ParseSchemeError, Scheme};
pub use packed::PackedWeight;
use packed::stand_in;
pub use record::{is_packed, save};
pub use report::{ParameterStorage, QuantizeReport};
pub use streamed::{HostWeight, StreamReport, StreamedWeights};

/// What can go wrong when a model is quantized, saved or loaded.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum QuantizeError {
    /// A parameter is packed already, or has an adapter.
    #[error(
        "{path} is reparameterized already, by packing, streaming or an adapter such as LoRA; give the \
         model as it was before, or merge the adapters first by `Module::materialize`"
    )]
    Reparameterized {
        /// Where the parameter is in the model.
        path: String,
    },
    /// A name of what is to be kept in float names nothing.
    #[error("no weight is named {pattern:?}; the weights are {}", .weights.join(", "))]
    UnknownName {
        /// The name.
        pattern: String,
        /// The weights of the model.
        weights: Vec<String>,
    },
    /// A weight has no scale.
    #[error(
        "{path} has values that are not finite; quantize a model that was trained without overflow"
    )]
    NotFinite {
        /// Where the parameter is in the model.
        path: String,
    },
    /// A weight cannot be read from its device.
    #[error("{path} cannot be read from its device")]
    Read {
        /// Where the parameter is in the model.
        path: String,
        /// Why.
        #[source]
        source: TensorReadError,
    },
    /// A file cannot be written.
    #[error("the packed weights cannot be written; check that the folder exists and has room")]
    Write(#[from] std::io::Error),
    /// A file cannot be written or read, or is of another model.
    #[error("the file of packed weights cannot be used")]
    Record(#[from] RecordError),
    /// A file has fewer tensors than the model needs.
    #[error(
        "the file has {found} tensors and the model needs {needed}; give the file of this model, and the \
         settings that it was quantized with"
    )]
    Incomplete {
        /// Tensors in the file.
        found: usize,
        /// Tensors of the model.
        needed: usize,
    },
}

/// How a model is quantized.
///
/// Packed are the weights of linear layers, convolutions and attention: parameters of two or more
/// dimensions that are called `weight` and whose number of values a block of the [`Scheme`] divides.
/// Everything else stays in float, with its [`FloatReason`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizeConfig {
    /// Bits of a weight.
    pub scheme: Scheme,
    /// Weights that stay in float. The default, `None`, is the last weight in the order of the model's
    /// fields, which is taken for its head.
    #[serde(default)]
    pub kept: Option<Vec<String>>,
}

impl QuantizeConfig {
    /// Packs all weights but the head.
    pub fn new(scheme: Scheme) -> Self {
        Self { scheme, kept: None }
    }

    /// Keeps these weights in float, instead of the last one: by runs of whole components of their paths,
    /// with `*` for any characters, as [`AutocastPolicy::keep_path`](crate::precision::AutocastPolicy::keep_path)
    /// takes them. With none of them, every weight is packed.
    #[must_use]
    pub fn with_kept<'a>(mut self, patterns: impl IntoIterator<Item = &'a str>) -> Self {
        self.kept = Some(patterns.into_iter().map(Into::into).collect());
        self
    }

    /// A copy of `model`, for inference, whose weights are packed on their device; and what that saved.
    ///
    /// `model` stays as it is, its running statistics included: the copy shares parameters that stay in
    /// float, but no statistics. One weight at a time is in host memory in float.
    ///
    /// Move the model to its device *before*: what stands for a packed weight takes one number, but on
    /// another device its whole size. A view in half precision is quantized, rather than a quantized
    /// model viewed, for the same reason.
    ///
    /// # Exactness
    /// Approximate, as [`Scheme`] says. The copy's own result does not depend on the device but for
    /// rounding.
    ///
    /// # Errors
    /// If `model` has packed weights or adapters already, a weight is not finite or cannot be read, or a
    /// kept name names nothing.
    pub fn quantize<M: Module>(&self, model: &M) -> Result<(M, QuantizeReport), QuantizeError> {
        // Statistics of its own: mapping changes them in place.
        let copy = model.valid();
        let choices = choose(&copy, self)?;
        let mut packer = Packer {
            choices: &choices,
            source: Source::Model,
            scheme: self.scheme,
            packed: HashMap::new(),
            dtypes: HashMap::new(),
            error: None,
        };
        let copy = copy.apply_reparameterization(Borrowed(&mut packer));
        match packer.error {
            Some(error) => Err(error),
            None => {
                let report = QuantizeReport::new(self.scheme, &choices, &packer.dtypes);
                Ok((copy, report))
            }
        }
    }
}

/// Where the values of packed weights come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The model.
    Model,
    /// A record that is loaded later.
    Record,
}

/// Packs what was chosen.
struct Packer<'a> {
    choices: &'a Choices,
    source: Source,
    scheme: Scheme,
    /// What was packed, by identifier and a hash of the values, for a weight that occurs twice: a moving average of a
    /// model has its identifiers and other values.
    packed: HashMap<(ParamId, u64), PackedWeight>,
    /// The dtype that each parameter had.
    dtypes: HashMap<ParamId, FloatDType>,
    /// The first weight that could not be packed.
    error: Option<QuantizeError>,
}

impl Packer<'_> {
    fn pack<const D: usize>(
        &mut self,
        path: &str,
        param: &Param<Tensor<D>>,
        block: usize,
    ) -> Result<(FloatDType, PackedWeight), QuantizeError> {
        let device = param.lazy_device().without_autodiff();
        if self.source == Source::Record {
            let num_values = param.lazy_shape().num_elements();
            let packed = PackedWeight::empty(num_values, self.scheme, block, &device);
            return Ok((FloatDType::F32, packed));
        }
        let dtype = FloatDType::from(param.base().dtype());
        let data = to_host(param.base().cast(FloatDType::F32));
        let data = data.map_err(|source| QuantizeError::Read {
            path: path.into(),
            source,
        })?;
        let values: &[f32] = data.as_slice().expect("invariant: the tensor is f32");
        if values.iter().any(|value| !value.is_finite()) {
            return Err(QuantizeError::NotFinite { path: path.into() });
        }
        let mut hasher = DefaultHasher::new();
        hasher.write(bytemuck::cast_slice(values));
        let packed = self.packed.entry((param.id, hasher.finish()));
        let packed =
            packed.or_insert_with(|| PackedWeight::new(values, self.scheme, block, &device));
        Ok((dtype, packed.clone()))
    }
}

/// burn takes a reparameterizer and does not return it.
struct Borrowed<'a, 'b>(&'a mut Packer<'b>);

impl Reparameterizer for Borrowed<'_, '_> {
    type Reparam = PackedWeight;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<PackedWeight>) {
        let Self(packer) = self;
        let choice = packer.choices.by_id.get(&param.id);
        let Some(block) = choice.and_then(|choice| choice.block.ok()) else {
            if packer.source == Source::Model {
                let dtype = FloatDType::from(param.base().dtype());
                packer.dtypes.insert(param.id, dtype);
            }
            return (param, None);
        };
        match packer.pack(path, &param, block) {
            Ok((dtype, packed)) => {
                packer.dtypes.insert(param.id, dtype);
                let device = param.lazy_device().without_autodiff();
                let stand_in = stand_in(param.id, param.lazy_shape(), dtype, &device);
                (stand_in, Some(packed))
            }
            Err(error) => {
                packer.error.get_or_insert(error);
                (param, None)
            }
        }
    }
}
