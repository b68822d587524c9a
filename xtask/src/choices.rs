//! Values of flags that are one of a few words.
//!
//! They are plain words here, so that the front end checks them without
//! compiling burn; the runner turns them into the library's types.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

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
    PrecisionChoice,
    UpsamplingChoice
);

/// How overlapping windows are put together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlendChoice {
    /// All pixels of a window count alike.
    Constant,
    /// Pixels count less towards the border of a window, where the model sees less around them.
    #[default]
    Gaussian,
}

/// The side of a window in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "NumberOrWord", into = "NumberOrWord")]
pub enum ChunkSizeChoice {
    /// As large as memory allows.
    #[default]
    Auto,
    /// This many pixels.
    Pixels(usize),
}

/// How a number is written that may be a word instead.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum NumberOrWord {
    Number(usize),
    Word(String),
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

impl TryFrom<NumberOrWord> for ChunkSizeChoice {
    type Error = String;

    fn try_from(given: NumberOrWord) -> Result<Self, String> {
        match given {
            NumberOrWord::Number(side) => side.to_string().parse(),
            NumberOrWord::Word(word) => word.parse(),
        }
    }
}

impl From<ChunkSizeChoice> for NumberOrWord {
    fn from(choice: ChunkSizeChoice) -> Self {
        match choice {
            ChunkSizeChoice::Auto => Self::Word("auto".into()),
            ChunkSizeChoice::Pixels(side) => Self::Number(side),
        }
    }
}

/// The arithmetic of the forward and backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormChoice {
    /// Over the micro-batch, with running statistics.
    Batch,
    /// Over groups of channels of each image; independent of the batch size.
    #[default]
    Group,
}

/// How the decoder enlarges its input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
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
    /// What lies around the frames.
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

/// `none`, `block`, `segments=N`, `least` or `budget=SIZE`: what is kept for the backward pass.
///
/// Only the form is checked here; the runner reads the size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CheckpointChoice(String);

impl CheckpointChoice {
    /// The choice as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for CheckpointChoice {
    fn default() -> Self {
        Self("none".into())
    }
}

impl FromStr for CheckpointChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = match text.split_once('=') {
            None => matches!(text, "none" | "block" | "least"),
            Some(("segments", number)) => number.parse::<usize>().is_ok_and(|number| number > 0),
            Some(("budget", size)) => size.starts_with(|first: char| first.is_ascii_digit()),
            Some(_) => false,
        };
        if !known {
            return Err(format!(
                "gradient checkpointing must be none, block, segments=N with N of 1 or more, \
                 least, or budget=SIZE as in budget=6GiB, got {text:?}"
            ));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for CheckpointChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for CheckpointChoice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<CheckpointChoice> for String {
    fn from(choice: CheckpointChoice) -> Self {
        choice.0
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
            assert_eq!(text.parse::<CheckpointChoice>().unwrap().as_str(), text);
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
            let error = text.parse::<CheckpointChoice>().unwrap_err();
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
