//! Which parameters of a model are packed, and why the others are not.

use std::collections::{HashMap, HashSet};
use std::fmt;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::{Shape, Tensor};

use super::record::check_plain;
use super::{QuantizeConfig, QuantizeError};
use crate::precision::{Place, names_path, running_states};

/// Why a parameter stays in float.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FloatReason {
    /// A bias, or the scale or shift of a normalization: one dimension.
    OneDimension,
    /// A running statistic.
    Statistic,
    /// Part of an embedding, whose rows are read one by one.
    Embedding,
    /// Not called `weight`, so that it is unknown what it does.
    NotAWeight,
    /// The last weight of the model, which is taken for its head.
    Head,
    /// Named by [`QuantizeConfig::with_kept`].
    Kept,
    /// No block of the scheme divides its number of values.
    NoBlock,
}

impl fmt::Display for FloatReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OneDimension => "bias or norm",
            Self::Statistic => "running statistic",
            Self::Embedding => "embedding",
            Self::NotAWeight => "not called weight",
            Self::Head => "head",
            Self::Kept => "kept by name",
            Self::NoBlock => "no block divides its values",
        })
    }
}

/// What is known of a parameter before it is read.
#[derive(Debug, Clone)]
pub(super) struct Choice {
    pub(super) path: String,
    pub(super) shape: Shape,
    /// The block that it is packed in.
    pub(super) block: Result<usize, FloatReason>,
}

/// The choices for all float parameters of `model`, by identifier, and the identifiers in the order of
/// the model.
///
/// # Errors
/// If a parameter is reparameterized already, or a pattern names no weight.
pub(super) fn choose<M: Module>(
    model: &M,
    config: &QuantizeConfig,
) -> Result<Choices, QuantizeError> {
    check_plain(model)?;
    let mut chooser = Chooser {
        config,
        running: running_states(model),
        place: Place::default(),
        choices: Choices::default(),
        last: None,
        named: vec![false; config.kept.as_ref().map_or(0, Vec::len)],
    };
    model.visit(&mut chooser);
    if let Some(patterns) = &config.kept
        && let Some(unknown) = chooser.named.iter().position(|named| !named)
    {
        let weights = chooser.choices.in_order();
        let weights = weights.filter(|(_, choice)| {
            matches!(
                choice.block,
                Ok(_) | Err(FloatReason::NoBlock | FloatReason::Kept)
            )
        });
        return Err(QuantizeError::UnknownName {
            pattern: patterns[unknown].clone(),
            weights: weights.map(|(_, choice)| choice.path.clone()).collect(),
        });
    }
    let mut choices = chooser.choices;
    if config.kept.is_none()
        && let Some(head) = chooser.last.and_then(|id| choices.by_id.get_mut(&id))
    {
        head.block = Err(FloatReason::Head);
    }
    Ok(choices)
}

/// A choice for each parameter.
#[derive(Debug, Default)]
pub(super) struct Choices {
    pub(super) by_id: HashMap<ParamId, Choice>,
    order: Vec<ParamId>,
}

impl Choices {
    /// The choices in the order of the model.
    pub(super) fn in_order(&self) -> impl Iterator<Item = (&ParamId, &Choice)> {
        self.order.iter().map(|id| (id, &self.by_id[id]))
    }
}

struct Chooser<'a> {
    config: &'a QuantizeConfig,
    running: HashSet<ParamId>,
    place: Place,
    choices: Choices,
    /// The last weight.
    last: Option<ParamId>,
    /// Which patterns named a weight.
    named: Vec<bool>,
}

impl Chooser<'_> {
    fn block(&mut self, id: ParamId, path: &str, shape: &Shape) -> Result<usize, FloatReason> {
        if self.running.contains(&id) {
            return Err(FloatReason::Statistic);
        }
        if shape.num_dims() < 2 {
            return Err(FloatReason::OneDimension);
        }
        if self.place.is_in("Embedding") {
            return Err(FloatReason::Embedding);
        }
        if path.rsplit('.').next() != Some("weight") {
            return Err(FloatReason::NotAWeight);
        }
        self.last = Some(id);
        let mut is_kept = false;
        for (pattern, named) in self.config.kept.iter().flatten().zip(&mut self.named) {
            if names_path(pattern, path) {
                (*named, is_kept) = (true, true);
            }
        }
        if is_kept {
            return Err(FloatReason::Kept);
        }
        let block = self.config.scheme.block(shape.num_elements());
        block.ok_or(FloatReason::NoBlock)
    }
}

impl ModuleVisitor for Chooser<'_> {
    fn enter_module(&mut self, name: &str, container_type: &str) {
        self.place.enter(name, container_type);
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.place.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // A layer that occurs twice is one.
        if self.choices.by_id.contains_key(&param.id) {
            return;
        }
        let (path, shape) = (self.place.path(), param.lazy_shape());
        let choice = Choice {
            block: self.block(param.id, &path, &shape),
            path,
            shape,
        };
        self.choices.order.push(param.id);
        self.choices.by_id.insert(param.id, choice);
    }
}
