use std::fmt;
use std::str::FromStr;

use burn::tensor::{DType, Device, FloatDType};
use serde::{Deserialize, Serialize};

/// The precision a model computes in.
///
/// Written `f32`, `f16` or `bf16`, on the command line and in files. The default is `f32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits: full precision.
    #[default]
    F32,
    /// 16 bits with 11 bits of significand, largest value 65504. Needs loss scaling.
    F16,
    /// 16 bits with f32's range and 8 bits of significand. Needs no loss scaling.
    Bf16,
}

impl Precision {
    /// Every precision, widest first.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// The tensor dtype of this precision.
    pub const fn dtype(self) -> FloatDType {
        match self {
            Self::F32 => FloatDType::F32,
            Self::F16 => FloatDType::F16,
            Self::Bf16 => FloatDType::BF16,
        }
    }

    /// Bytes of one element.
    pub const fn num_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// Whether gradients vanish in this precision unless the loss is scaled.
    pub(crate) const fn needs_loss_scaling(self) -> bool {
        matches!(self, Self::F16)
    }

    /// Asks `device` whether it computes in this precision.
    ///
    /// Storing and converting a type is not enough: bf16 on Vulkan often can do only that.
    ///
    /// # Errors
    /// If the device lacks the precision; names those it has.
    ///
    /// # Example
    /// ```
    /// use burn::tensor::Device;
    /// use burn_memopt::precision::Precision;
    ///
    /// assert!(Precision::F16.check(&Device::flex()).is_ok());
    /// ```
    pub fn check(self, device: &Device) -> Result<(), PrecisionError> {
        let supported = |precision: &Self| device.supports_dtype(precision.dtype());
        if supported(&self) {
            return Ok(());
        }
        Err(PrecisionError {
            precision: self,
            device: format!("{device:?}"),
            alternatives: Self::ALL.into_iter().filter(supported).collect(),
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Precision {
    type Err = ParsePrecisionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|precision| precision.name() == text)
            .ok_or_else(|| ParsePrecisionError(text.to_string()))
    }
}

/// A precision that is none of `f32`, `f16` and `bf16`.
#[derive(thiserror::Error, Debug, Clone, PartialEq, Eq)]
#[error("the precision must be f32, f16 or bf16, got {0:?}")]
pub struct ParsePrecisionError(String);

/// A precision that the device does not compute in.
#[derive(thiserror::Error, Debug, Clone, PartialEq, Eq)]
#[error(
    "{device} does not compute in {precision}; choose {}",
    join(.alternatives)
)]
#[non_exhaustive]
pub struct PrecisionError {
    /// What was asked for.
    pub precision: Precision,
    /// The device that lacks it.
    pub device: String,
    /// What the device has.
    pub alternatives: Vec<Precision>,
}

fn join(alternatives: &[Precision]) -> String {
    match alternatives {
        [] => "another device".to_string(),
        some => some
            .iter()
            .map(|p| p.name())
            .collect::<Vec<_>>()
            .join(" or "),
    }
}

/// Whether `dtype` is a half-precision float.
pub(crate) fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// Whether `dtype` is a float that can be cast (packed, quantized ones cannot).
pub(crate) fn is_castable(dtype: DType) -> bool {
    matches!(
        dtype,
        DType::F64 | DType::F32 | DType::Flex32 | DType::F16 | DType::BF16
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written_alike() {
        for precision in Precision::ALL {
            assert_eq!(precision.to_string().parse(), Ok(precision));
            let json = serde_json::to_string(&precision).expect("serializes");
            assert_eq!(json, format!("\"{precision}\""));
        }
    }

    #[test]
    fn an_unknown_precision_is_refused_with_the_choices() {
        let error = "fp16".parse::<Precision>().expect_err("not a precision");
        let message = error.to_string();
        assert_eq!(
            message,
            "the precision must be f32, f16 or bf16, got \"fp16\""
        );
    }

    #[test]
    fn a_missing_precision_names_what_the_device_has() {
        let error = PrecisionError {
            precision: Precision::Bf16,
            device: "Device<Vulkan(0)>".to_string(),
            alternatives: vec![Precision::F32, Precision::F16],
        };
        let message = error.to_string();
        assert_eq!(
            message,
            "Device<Vulkan(0)> does not compute in bf16; choose f32 or f16"
        );
    }
}
