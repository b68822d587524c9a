use std::fmt;

use burn::module::{Module, ModuleVisitor};

use super::policy::{Place, type_name};
use super::{Autocast, AutocastPolicy, Precision};

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
