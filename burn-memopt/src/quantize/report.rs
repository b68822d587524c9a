//! What quantizing a model saved.

use std::collections::HashMap;
use std::fmt;

use burn::module::ParamId;
use burn::tensor::{DType, FloatDType};

use super::choice::{Choices, FloatReason};
use super::pack::Scheme;
use crate::memory::Bytes;

/// The parameters of a model before and after it was quantized.
///
/// Printed, it is a table with a line of totals. A parameter that occurs at several places is listed at the
/// first.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizeReport {
    /// The scheme.
    pub scheme: Scheme,
    /// Each float parameter, in the order of the model, running statistics included.
    pub parameters: Vec<ParameterStorage>,
}

/// How a parameter is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterStorage {
    /// Where it is in the model, components joined by dots.
    pub path: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Bytes before.
    pub before: Bytes,
    /// Bytes after, those of scales included.
    pub after: Bytes,
    /// Values of a block that it is packed in, or why it stays in float.
    pub block: Result<usize, FloatReason>,
}

impl QuantizeReport {
    pub(super) fn new(
        scheme: Scheme,
        choices: &Choices,
        dtypes: &HashMap<ParamId, FloatDType>,
    ) -> Self {
        let parameters = choices.in_order().map(|(id, choice)| {
            let num_values = choice.shape.num_elements();
            let dtype = dtypes.get(id).copied().unwrap_or(FloatDType::F32);
            let before = num_values * DType::from(dtype).size();
            let packed = |block| scheme.num_bytes(num_values, block);
            let after = choice.block.map_or(before, packed);
            ParameterStorage {
                path: choice.path.clone(),
                shape: choice.shape.to_vec(),
                before: Bytes::new(before as u64),
                after: Bytes::new(after as u64),
                block: choice.block,
            }
        });
        Self {
            scheme,
            parameters: parameters.collect(),
        }
    }

    /// Bytes of all parameters before.
    pub fn before(&self) -> Bytes {
        self.parameters.iter().map(|it| it.before).sum()
    }

    /// Bytes of all parameters after.
    pub fn after(&self) -> Bytes {
        self.parameters.iter().map(|it| it.after).sum()
    }

    /// Which share of the bytes is left; 1 for a model without parameters.
    pub fn share(&self) -> f64 {
        self.after().share_of(self.before()).unwrap_or(1.0)
    }

    /// The largest weight that is packed: while it is used, it takes its bytes of before. On a device that
    /// is not the host, making floats of it takes about as many once more.
    pub fn largest_in_use(&self) -> Option<&ParameterStorage> {
        let packed = self.parameters.iter().filter(|it| it.block.is_ok());
        packed.max_by_key(|it| it.before)
    }

    /// Parameters that stay in float: how many for each reason, and their bytes.
    pub fn in_float(&self) -> Vec<(FloatReason, usize, Bytes)> {
        let mut reasons: Vec<(FloatReason, usize, Bytes)> = Vec::new();
        for parameter in &self.parameters {
            let Err(reason) = parameter.block else {
                continue;
            };
            match reasons.iter_mut().find(|(other, ..)| *other == reason) {
                Some((_, count, bytes)) => {
                    *count += 1;
                    *bytes += parameter.after;
                }
                None => reasons.push((reason, 1, parameter.after)),
            }
        }
        reasons.sort_by_key(|&(_, _, bytes)| std::cmp::Reverse(bytes));
        reasons
    }
}

impl fmt::Display for QuantizeReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths = self.parameters.iter().map(|it| it.path.len());
        let width = paths.max().unwrap_or(0).max("parameter".len());
        writeln!(
            f,
            "{:<width$}  {:>12}  {:>12}  stored as",
            "parameter", "bytes before", "after"
        )?;
        for it in &self.parameters {
            write!(
                f,
                "{:<width$}  {:>12}  {:>12}  ",
                it.path,
                it.before.get(),
                it.after.get()
            )?;
            match it.block {
                Ok(block) => writeln!(f, "{} in blocks of {block}", self.scheme)?,
                Err(reason) => writeln!(f, "float: {reason}")?,
            }
        }
        write!(
            f,
            "{:<width$}  {:>12}  {:>12}  {:.3} of before",
            "total",
            self.before().get(),
            self.after().get(),
            self.share()
        )
    }
}
