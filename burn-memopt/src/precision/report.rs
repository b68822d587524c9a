//! What autocast does with a model: the precision of its parameters, and the layers that half precision
//! cannot run.

use std::collections::{HashMap, HashSet};
use std::fmt;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{DType, Tensor};

use super::autocast::running_states;
use super::dtype::is_castable;
use super::policy::{Place, type_name};
use super::{Autocast, AutocastPolicy, Precision};
use crate::memory::Bytes;

/// The precision of each parameter of a model under an [`Autocast`].
///
/// Printed, it is a table with a line of totals. In training the f32 parameters stay in memory with
/// their half-precision copies, so what autocast saves there are activations; the bytes saved here
/// are what each use of a parameter reads less, and what inference on the view alone needs less. A
/// parameter that several layers share has an entry at each of their paths and counts at the first.
///
/// # Example
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::Device;
/// use burn_memopt::precision::{Autocast, Precision};
///
/// let model: Linear = LinearConfig::new(4, 2).init(&Device::flex());
/// let report = Autocast::new(Precision::F16).report(&model);
/// assert_eq!(report.bytes_saved().get(), 20);
/// println!("{report}");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct PrecisionReport {
    /// One entry for each float parameter, in the order of the model.
    pub parameters: Vec<ParameterPrecision>,
}

/// The precision of one parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterPrecision {
    /// Where the parameter is in the model, components joined by dots.
    pub path: String,
    /// The dtype that is stored and that the optimizer updates.
    pub master: DType,
    /// The dtype the forward pass computes in.
    pub compute: DType,
    /// The first path of the parameter, if this is another one.
    pub shared_with: Option<String>,
    /// Bytes of the stored values; zero at another path than the first.
    pub bytes: Bytes,
    /// Bytes of the values the forward pass reads; zero at another path than the first.
    pub compute_bytes: Bytes,
    /// Whether the last gradients of this parameter held an infinity or a NaN.
    pub overflowed: bool,
}

impl PrecisionReport {
    pub(super) fn new<M: Module>(autocast: &Autocast, model: &M) -> Self {
        let mut collector = Collector {
            autocast,
            running: running_states(model),
            place: Place::default(),
            first_paths: HashMap::new(),
            parameters: Vec::new(),
        };
        model.visit(&mut collector);
        Self {
            parameters: collector.parameters,
        }
    }

    /// Marks the parameters whose paths are in `overflowed`, as
    /// [`Unscaled::overflowed`](super::Unscaled::overflowed) gives them.
    #[must_use]
    pub fn with_overflowed(mut self, overflowed: &[String]) -> Self {
        for parameter in &mut self.parameters {
            parameter.overflowed = overflowed.contains(&parameter.path);
        }
        self
    }

    /// Bytes of all stored parameters.
    pub fn bytes(&self) -> Bytes {
        Bytes::new(self.parameters.iter().map(|p| p.bytes.get()).sum())
    }

    /// Bytes the forward pass reads less than without autocast.
    pub fn bytes_saved(&self) -> Bytes {
        Bytes::new(self.parameters.iter().map(|p| p.bytes_saved().get()).sum())
    }
}

impl ParameterPrecision {
    /// Bytes the forward pass reads less than without autocast.
    pub fn bytes_saved(&self) -> Bytes {
        Bytes::new(self.bytes.get().saturating_sub(self.compute_bytes.get()))
    }
}

impl fmt::Display for PrecisionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = self.parameters.iter().map(|p| p.path.len());
        let width = paths.max().unwrap_or(0).max("parameter".len());
        writeln!(
            f,
            "{:<width$}  {:>6}  {:>7}  {:>12}  {:>12}",
            "parameter", "stored", "compute", "bytes", "saved"
        )?;
        for p in &self.parameters {
            let overflow = if p.overflowed { "  overflowed" } else { "" };
            let shared = p.shared_with.as_ref();
            let shared = shared.map_or(String::new(), |path| format!("  shared with {path}"));
            writeln!(
                f,
                "{:<width$}  {:>6}  {:>7}  {:>12}  {:>12}{shared}{overflow}",
                p.path,
                p.master.name(),
                p.compute.name(),
                p.bytes.get(),
                p.bytes_saved().get(),
            )?;
        }
        write!(
            f,
            "{:<width$}  {:>6}  {:>7}  {:>12}  {:>12}",
            "total",
            "",
            "",
            self.bytes().get(),
            self.bytes_saved().get()
        )
    }
}

struct Collector<'a> {
    autocast: &'a Autocast,
    running: HashSet<ParamId>,
    place: Place,
    first_paths: HashMap<ParamId, String>,
    parameters: Vec<ParameterPrecision>,
}

impl ModuleVisitor for Collector<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.place.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.place.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // Reads type and shape only: an operation here would leave a node in
        // the autodiff graph that no backward pass frees.
        let tensor = param.base();
        let master = tensor.dtype();
        let running = self.running.contains(&param.id);
        let compute = match self.autocast.compute_dtype(&self.place, running) {
            Some(dtype) if is_castable(master) => dtype.into(),
            _ => master,
        };
        let path = self.place.path();
        let shared_with = self.first_paths.get(&param.id).cloned();
        let elements = if shared_with.is_some() {
            0
        } else {
            self.first_paths.insert(param.id, path.clone());
            tensor.shape().num_elements()
        };
        self.parameters.push(ParameterPrecision {
            path,
            master,
            compute,
            shared_with,
            bytes: Bytes::new((elements * master.size()) as u64),
            compute_bytes: Bytes::new((elements * compute.size()) as u64),
            overflowed: false,
        });
    }
}

/// burn's layers that fail in half precision in an unedited model: their type, the first of their
/// fields that a visitor enters, and how they can run. The field distinguishes them from types of users
/// with the same name. Measured: `tests/half_precision_layers.rs`
/// tries every layer of burn-nn.
const UNSUPPORTED: &[(&str, &str, Remedy)] = &[
    ("BatchNorm", "gamma", Remedy::BatchNorm),
    ("BiGru", "forward", Remedy::FullPrecision),
    ("BiLstm", "forward", Remedy::FullPrecision),
    ("BiRnn", "forward", Remedy::FullPrecision),
    ("GaussianNoise", "training", Remedy::FullPrecision),
    ("Gru", "update_gate", Remedy::FullPrecision),
    ("Lstm", "input_gate", Remedy::FullPrecision),
    ("PositionalEncoding", "sinusoids", Remedy::FullPrecision),
    ("Rnn", "gate", Remedy::FullPrecision),
    ("RotaryEncoding", "freq_complex", Remedy::FullPrecision),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    BatchNorm,
    FullPrecision,
}

impl Remedy {
    const fn text(self) -> &'static str {
        match self {
            Self::BatchNorm => {
                "call `precision::batch_norm(&layer, x)` instead of `layer.forward(x)`"
            }
            Self::FullPrecision => {
                "call it as `precision::full_precision(&layer, inputs, |layer, inputs| …)`"
            }
        }
    }
}

/// A layer that cannot run in half precision in an unedited model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsupportedLayer {
    /// Where the layer is in the model, components joined by dots; empty for the model itself.
    pub path: String,
    /// Its type.
    pub layer_type: &'static str,
    /// What to write instead of its `forward`.
    pub remedy: &'static str,
}

impl UnsupportedLayer {
    /// Whether a layer at `path` is a part of this one.
    fn holds(&self, path: &str) -> bool {
        let rest = path.strip_prefix(self.path.as_str());
        rest.is_some_and(|rest| self.path.is_empty() || rest.starts_with('.'))
    }
}

/// Layers of a model that cannot run in half precision, as [`Autocast::check`] finds them.
#[derive(thiserror::Error, Debug, Clone, PartialEq, Eq)]
#[error("{precision} cannot run these layers of the model:{}", Listed(.layers))]
#[non_exhaustive]
pub struct UnsupportedLayersError {
    /// The precision asked for.
    pub precision: Precision,
    /// The layers, in the order of the model.
    pub layers: Vec<UnsupportedLayer>,
}

impl UnsupportedLayersError {
    pub(super) fn check<M: Module>(autocast: &Autocast, model: &M) -> Result<(), Self> {
        let precision = autocast.precision();
        if precision == Precision::F32 {
            return Ok(());
        }
        let mut search = Search {
            policy: autocast.policy(),
            place: Place::default(),
            layers: Vec::new(),
        };
        model.visit(&mut search);
        let layers = search.layers;
        if layers.is_empty() {
            Ok(())
        } else {
            Err(Self { precision, layers })
        }
    }
}

/// The layers by type, each type with its remedy.
struct Listed<'a>(&'a [UnsupportedLayer]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut types: Vec<_> = self.0.iter().map(|l| (l.layer_type, l.remedy)).collect();
        types.sort_unstable();
        types.dedup();
        for (layer_type, remedy) in types {
            let of_type = self.0.iter().filter(|l| l.layer_type == layer_type);
            let paths = of_type.map(|l| match l.path.as_str() {
                "" => "the model itself",
                path => path,
            });
            let paths: Vec<_> = paths.collect();
            write!(
                f,
                "\n- {layer_type} ({}): {remedy}, then say so by \
                 `AutocastPolicy::keep_type(\"{layer_type}\")`",
                paths.join(", ")
            )?;
        }
        Ok(())
    }
}

struct Search<'a> {
    policy: &'a AutocastPolicy,
    place: Place,
    layers: Vec<UnsupportedLayer>,
}

impl ModuleVisitor for Search<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        let container = type_name(container_type);
        let found = UNSUPPORTED
            .iter()
            .find(|(layer_type, first_field, _)| (container, name) == (layer_type, first_field));
        let path = self.place.path();
        self.place.enter(name, container_type);
        if let Some(&(layer_type, _, remedy)) = found
            && !self.place.is_named(self.policy)
            && !self.layers.last().is_some_and(|outer| outer.holds(&path))
        {
            self.layers.push(UnsupportedLayer {
                path,
                layer_type,
                remedy: remedy.text(),
            });
        }
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.place.exit();
    }
}
