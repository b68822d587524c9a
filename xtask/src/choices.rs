//! Values of flags that are one of a few words.
//!
//! They are plain words here, so that the front end checks them without
//! compiling burn; the program turns them into the library's types.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize, Serializer};

use crate::cli::{OptimizerChoice, OptimizerStateChoice};

/// Writes a choice the way it is given on the command line.
macro_rules! display_as_given {
    ($($choice:ty),*) => {$(
        impl fmt::Display for $choice {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let value = self.to_possible_value().expect("invariant: no choice is hidden");
                f.write_str(value.get_name())
            }
        }
    )*};
}
display_as_given!(
    BlendChoice,
    InpaintMode,
    InpaintPreset,
    LossChoice,
    NetworkChoice,
    NormChoice,
    OptLevelChoice,
    OptimizerChoice,
    OptimizerStateChoice,
    PrecisionChoice,
    SchemeChoice,
    TrainPrecisionChoice,
    UpsamplingChoice
);

/// How overlapping windows are put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlendChoice {
    /// All pixels of a window count alike.
    Constant,
    /// Pixels count less towards the border of a window, where the model sees less around them.
    #[default]
    Gaussian,
}

/// The side of a window in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChunkSizeChoice {
    /// As large as memory allows.
    #[default]
    Auto,
    /// This many pixels.
    Pixels(usize),
}

impl FromStr for ChunkSizeChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            (_, Ok(side)) if side > 0 => Ok(Self::Pixels(side)),
            _ => Err(format!(
                "must be auto or a whole number of at least 1, got {text}"
            )),
        }
    }
}

impl fmt::Display for ChunkSizeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Pixels(side) => write!(f, "{side}"),
        }
    }
}

impl Serialize for ChunkSizeChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Pixels(side) => side.serialize(serializer),
        }
    }
}

/// Rays that are rendered at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RayChunkChoice {
    /// As many as fit into a bound.
    #[default]
    Auto,
    /// All.
    All,
    /// This many.
    Rays(usize),
}

impl FromStr for RayChunkChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            ("none", _) => Ok(Self::All),
            (_, Ok(rays)) if rays > 0 => Ok(Self::Rays(rays)),
            _ => Err(format!(
                "must be auto, none or a whole number of at least 1, got {text}"
            )),
        }
    }
}

impl fmt::Display for RayChunkChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::All => f.write_str("none"),
            Self::Rays(rays) => write!(f, "{rays}"),
        }
    }
}

impl Serialize for RayChunkChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The arithmetic of the forward and backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PrecisionChoice {
    /// Single precision everywhere.
    #[default]
    F32,
    /// Half precision with dynamic loss scaling; parameters stay f32.
    F16,
    /// Brain float; parameters stay f32. Needs a device that has it.
    Bf16,
}

/// Bits of a packed weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SchemeChoice {
    /// 8 bits: about 0.26 of the bytes in f32.
    Q8,
    /// 4 bits: about 0.15 of the bytes in f32.
    Q4,
}

/// The arithmetic of a training step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrainPrecisionChoice {
    /// On a GPU the best of bf16 and f16 that all devices compute in, else f32.
    #[default]
    Auto,
    /// Single precision everywhere.
    F32,
    /// Half precision with loss scaling; parameters stay f32.
    F16,
    /// Brain float; parameters stay f32. Needs devices that have it.
    Bf16,
}

/// What computes in half precision, by the names that NVIDIA's Apex gave to such levels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
pub enum OptLevelChoice {
    /// Whatever is exact enough in it: all but batch normalization.
    #[default]
    #[value(name = "O1")]
    O1,
    /// All but norms of any kind, which compute in f32.
    #[value(name = "O2")]
    O2,
}

/// What a loss is multiplied by in f16.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum LossScaleChoice {
    /// As large as gradients allow.
    #[default]
    Dynamic,
    /// Always this.
    Fixed(f64),
}

impl FromStr for LossScaleChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse::<f64>()) {
            ("dynamic", _) => Ok(Self::Dynamic),
            (_, Ok(scale)) if scale > 0.0 && (scale as f32).is_normal() => Ok(Self::Fixed(scale)),
            _ => Err(format!(
                "must be dynamic or a number above 0 that f32 can be, got {text}"
            )),
        }
    }
}

impl fmt::Display for LossScaleChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dynamic => f.write_str("dynamic"),
            Self::Fixed(scale) => write!(f, "{scale}"),
        }
    }
}

impl Serialize for LossScaleChoice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A network of ProPainter, by the name of its published weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NetworkChoice {
    /// RAFT, the optical flow between frames.
    #[value(name = "raft-things")]
    Raft,
    /// The flow inside holes.
    #[value(name = "recurrent_flow_completion")]
    FlowCompletion,
    /// What makes up pixels that no frame shows.
    #[value(name = "ProPainter")]
    Generator,
}

/// What the network is trained to make small.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossChoice {
    /// Density map whose sum is the number of emitters in a frame.
    #[default]
    Count,
    /// Binary cross-entropy plus Dice, for masks.
    BceDice,
    /// Cross-entropy over two classes, background and object, for masks.
    CrossEntropy,
}

/// The normalisation after each convolution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormChoice {
    /// Over the micro-batch, with running statistics.
    Batch,
    /// Over groups of channels of each image; independent of the batch size.
    #[default]
    Group,
    /// Over the channels of each pixel: tiles of an image are exact. Less accurate than group.
    Channel,
    /// None: tiles of an image are exact. Less accurate than group.
    None,
}

/// How the decoder enlarges its input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpsamplingChoice {
    /// Bilinear interpolation; no parameters.
    #[default]
    Bilinear,
    /// Transposed convolution.
    Transposed,
}

/// What of a video is completed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InpaintMode {
    /// What masks mark.
    #[default]
    Inpaint,
    /// What is around the frames.
    Outpaint,
}

/// Settings of video inpainting, named after a GPU's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum InpaintPreset {
    /// 4 GB: 320×240, 20 frames a sub-video, 3 neighbours, every 30th frame as reference.
    #[value(name = "4g")]
    Gb4,
    /// 6 GB: 480×360, 40 frames a sub-video, 5 neighbours, every 20th frame as reference.
    #[value(name = "6g")]
    Gb6,
    /// 8 GB: 640×480, 50 frames a sub-video, 8 neighbours, every 15th frame as reference.
    #[value(name = "8g")]
    Gb8,
    /// 12 GB: 1280×720, 80 frames a sub-video, 10 neighbours, every 10th frame as reference.
    #[value(name = "12g")]
    Gb12,
}

/// Checks the form of what is kept for the backward pass: `none`, `block`, `segments=N`, `least` or
/// `budget=SIZE`. The program reads the size.
///
/// # Errors
/// If it is none of these; the message names them all.
pub fn checkpoint(text: &str) -> Result<String, String> {
    let is_known = match text.split_once('=') {
        None => matches!(text, "none" | "block" | "least"),
        Some(("segments", number)) => number.parse::<usize>().is_ok_and(|number| number > 0),
        Some(("budget", size)) => size.starts_with(|first: char| first.is_ascii_digit()),
        Some(_) => false,
    };
    if is_known {
        Ok(text.into())
    } else {
        Err(format!(
            "must be none, block, segments=N with N of 1 or more, least, or budget=SIZE as in \
             budget=6GiB, got {text:?}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_checkpointing_are_read() {
        for text in [
            "none",
            "block",
            "segments=6",
            "least",
            "budget=6GiB",
            "budget=512MiB",
        ] {
            assert_eq!(checkpoint(text).unwrap(), text);
        }
    }

    #[test]
    fn other_forms_are_refused_and_named() {
        for text in [
            "",
            "all",
            "segments=0",
            "segments=",
            "segments",
            "budget=",
            "budget=big",
            "x=1",
        ] {
            let error = checkpoint(text).unwrap_err();
            assert!(error.contains(&format!("{text:?}")), "{error}");
        }
    }

    #[test]
    fn choices_are_saved_as_they_are_given() {
        let saved = serde_json::to_string(&(LossChoice::BceDice, PrecisionChoice::Bf16)).unwrap();
        assert_eq!(saved, r#"["bce-dice","bf16"]"#);
        assert_eq!(LossChoice::BceDice.to_string(), "bce-dice");
    }
}
