//! The flags of `train`: those of every run, and those of each model.

use std::path::PathBuf;

use clap::{Arg, Args, Subcommand};
use serde::Serialize;

use super::clips::{ClipFlags, ProPainterFlags};
use super::models::{DecodeFlags, UNetFlags, WatermarkFlags};
use super::numbers::{above_zero, at_least_one, share};
use crate::choices::{CheckpointChoice, PrecisionChoice};
use crate::device::DeviceChoice;

/// Arguments of `train`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct TrainArgs {
    /// The model; the default is `unet`.
    #[command(subcommand)]
    model: Option<TrainModel>,
    /// Flags given without naming the model.
    #[command(flatten)]
    unet: Box<ModelFlags<UNetFlags>>,
}

impl TrainArgs {
    /// The model and its flags, whether or not it was named.
    pub fn into_model(self) -> TrainModel {
        self.model.unwrap_or(TrainModel::Unet(self.unet))
    }
}

/// The models that can be trained.
#[derive(Debug, Subcommand)]
pub enum TrainModel {
    /// DECODE on a TIFF stack with emitter positions: localizes emitters, with uncertainties.
    #[command(mut_arg("lr", |flag| with_default(flag, "0.008")))]
    #[command(mut_arg("clip_norm", |flag| with_default(flag, "0.03")))]
    Decode(Box<ModelFlags<DecodeFlags>>),
    /// ProPainter's flow completion: optical flow in the holes of videos.
    #[command(mut_arg("steps", |flag| with_default(flag, "100")))]
    #[command(mut_arg("batch_size", |flag| with_default(flag, "1")))]
    #[command(mut_arg("lr", |flag| stepped(flag, "300000, 400000, 500000 and 600000 to a fifth", "0.00005")))]
    #[command(mut_arg("clip_norm", |flag| with_default(flag, "10000, which shortens none")))]
    FlowCompletion(Box<ModelFlags<ClipFlags>>),
    /// ProPainter's generator, against a discriminator: completes videos.
    #[command(name = "propainter")]
    #[command(mut_arg("steps", |flag| with_default(flag, "60")))]
    #[command(mut_arg("batch_size", |flag| with_default(flag, "1")))]
    #[command(mut_arg("lr", |flag| stepped(flag, "400000 to a tenth", "0.0001")))]
    #[command(mut_arg("clip_norm", |flag| with_default(flag, "10000, which shortens none")))]
    ProPainter(Box<ModelFlags<ProPainterFlags>>),
    /// UNet on a TIFF stack with emitter positions, or on images with masks.
    Unet(Box<ModelFlags<UNetFlags>>),
    /// UNet that finds text watermarks, on generated images or on images with masks.
    #[command(mut_arg("base_channels", |flag| with_default(flag, "8")))]
    #[command(mut_arg("steps", |flag| with_default(flag, "500")))]
    #[command(mut_arg("batch_size", |flag| with_default(flag, "8")))]
    #[command(mut_arg("lr", |flag| with_default(flag, "0.005")))]
    Watermark(Box<ModelFlags<WatermarkFlags>>),
}

impl TrainModel {
    /// The flags that every run has.
    pub fn run(&self) -> &RunFlags {
        match self {
            Self::Decode(flags) => &flags.run,
            Self::FlowCompletion(flags) => &flags.run,
            Self::ProPainter(flags) => &flags.run,
            Self::Unet(flags) => &flags.run,
            Self::Watermark(flags) => &flags.run,
        }
    }
}

/// The flags of one model and those of every run.
///
/// Serialized they are flat, as settings files are.
#[derive(Clone, Debug, Default, Args, Serialize)]
pub struct ModelFlags<F: Args> {
    /// What this model has.
    #[command(flatten)]
    #[serde(flatten)]
    pub model: F,
    /// What every run has.
    #[command(flatten)]
    #[serde(flatten)]
    pub run: RunFlags,
}

/// Flags of every run.
#[derive(Clone, Debug, Default, Args, Serialize)]
pub struct RunFlags {
    /// Share of the data, taken from its end, that is kept for evaluation. The default is 0.2.
    #[arg(long, value_name = "SHARE", help_heading = "Data", value_parser = share)]
    #[arg(allow_negative_numbers = true)]
    pub holdout: Option<f64>,

    /// Optimizer steps from the beginning of the run, resumed or not. The default is 300.
    #[arg(
        long,
        value_name = "N",
        help_heading = "Training",
        conflicts_with = "epochs"
    )]
    #[arg(value_parser = at_least_one)]
    pub steps: Option<u64>,
    /// Passes over the training data, instead of --steps.
    #[arg(long, value_name = "N", help_heading = "Training", value_parser = at_least_one)]
    pub epochs: Option<u64>,
    /// Images in one forward and backward pass, a micro-batch. The default is 4.
    #[arg(long, value_name = "N", help_heading = "Training", value_parser = at_least_one)]
    pub batch_size: Option<u64>,
    /// Highest learning rate of AdamW; it rises over the first 10 steps and falls as one over the
    /// step from step 60 on, down to a tenth. The default is 0.001.
    #[arg(long, value_name = "RATE", help_heading = "Training", value_parser = above_zero)]
    #[arg(allow_negative_numbers = true)]
    pub lr: Option<f64>,
    /// Largest norm of the averaged gradients; longer ones are shortened. The default is 1.0.
    #[arg(long, value_name = "NORM", help_heading = "Training", value_parser = above_zero)]
    #[arg(allow_negative_numbers = true)]
    pub clip_norm: Option<f64>,
    /// Seed of weights, order and generated data. The default is 42.
    #[arg(long, value_name = "N", help_heading = "Training")]
    pub seed: Option<u64>,
    /// What is recomputed instead of kept: none, block, segments=N, least (as little as two
    /// forward passes more can buy) or budget=SIZE (as in budget=6GiB, per forward and backward pass). The default is none.
    #[arg(long, value_name = "POLICY", help_heading = "Memory")]
    pub grad_checkpoint: Option<CheckpointChoice>,
    /// Micro-batches added up for one optimizer step. The default is 1.
    #[arg(long, value_name = "N", help_heading = "Memory", value_parser = at_least_one)]
    pub accumulation_steps: Option<u64>,
    /// Where a GPU lacks memory for a micro-batch, make the step again with smaller ones, and more
    /// of them; the items of a step stay the same. The default is false.
    #[arg(long, value_name = "BOOL", help_heading = "Memory")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub auto_micro_batch: Option<bool>,
    /// Precision of the forward and backward pass; parameters stay f32. The default is f32.
    #[arg(long, value_enum, value_name = "TYPE", help_heading = "Memory")]
    pub precision: Option<PrecisionChoice>,
    /// Mixed precision: the same as --precision f16, unless bf16 is chosen.
    #[arg(
        long,
        help_heading = "Memory",
        conflicts_with = "no_amp",
        visible_alias = "fp16"
    )]
    #[serde(skip)]
    pub use_amp: bool,
    /// No mixed precision: the same as --precision f32.
    #[arg(long, help_heading = "Memory")]
    #[serde(skip)]
    pub no_amp: bool,
    /// Record memory during the run; `--memory-tracking=false` turns it off. The default is true.
    #[arg(long, value_name = "BOOL", help_heading = "Memory")]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub memory_tracking: Option<bool>,
    /// Where memory is recorded, CSV. The default is memory.csv in the artifact folder.
    #[arg(long, value_name = "FILE", help_heading = "Memory")]
    pub memory_log_file: Option<PathBuf>,

    /// Device: auto, flex, wgpu, vulkan, cuda or cuda:N. The default is auto: what the
    /// variable BURN_MEMOPT_DEVICE names, else flex, the CPU.
    #[arg(long, value_name = "DEVICE", help_heading = "Run")]
    pub device: Option<DeviceChoice>,
    /// File of settings: TOML, YAML or JSON by its extension. A key is a flag's name with
    /// underscores; flags win over the file.
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Folder for everything the run writes. The default is artifacts/MODEL-DATE-TIME.
    #[arg(
        long,
        value_name = "DIR",
        help_heading = "Run",
        conflicts_with = "resume"
    )]
    pub artifact_dir: Option<PathBuf>,
    /// Continue the run in this artifact folder with its settings; flags given beside win.
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    #[serde(skip)]
    pub resume: Option<PathBuf>,
    /// Optimizer steps between two saves; the end of the run is always saved. The default is 100.
    #[arg(long, value_name = "N", help_heading = "Run", value_parser = at_least_one)]
    pub save_every: Option<u64>,
    /// Optimizer steps between two lines of progress. The default is 10.
    #[arg(long, value_name = "N", help_heading = "Run", value_parser = at_least_one)]
    pub log_every: Option<u64>,
    /// Print one JSON object a line on stdout.
    #[arg(long, help_heading = "Run")]
    #[serde(skip)]
    pub json: bool,
    /// Print every resolved setting and the expected memory, then stop.
    #[arg(long, help_heading = "Run")]
    #[serde(skip)]
    pub dry_run: bool,
    /// Further cargo features to compile, as in autotune,cuda-cpp.
    #[arg(long, value_name = "LIST", help_heading = "Run", value_delimiter = ',')]
    #[serde(skip)]
    pub features: Vec<String>,
}

/// A flag of every run whose default is another one for this model.
fn with_default(flag: Arg, default: &str) -> Arg {
    const DEFAULT: &str = "The default is ";
    let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
    let rest = help.find(DEFAULT).unwrap_or(help.len());
    let help = format!("{}{DEFAULT}{default}", &help[..rest]);
    flag.help(help)
}

/// The learning rate of a model whose published training lets it fall after some steps.
fn stepped(flag: Arg, falls: &str, default: &str) -> Arg {
    flag.help(format!(
        "Learning rate of Adam; it falls after step {falls}. The default is {default}"
    ))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::{Cli, Command, Program};

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("xtask").chain(line.split_whitespace()))
    }

    fn run(line: &str) -> RunFlags {
        match parse(line).unwrap().command {
            Command::Program(Program::Train(args)) => args.into_model().run().clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_model_may_be_left_out() {
        assert_eq!(run("train").steps, None);
        assert_eq!(run("train --steps 5").steps, Some(5));
        assert_eq!(run("train unet --steps 5").steps, Some(5));
        assert!(run("train flow-completion --fp16").use_amp);
        assert_eq!(run("train propainter --steps 5").steps, Some(5));
    }

    #[test]
    fn wrong_values_and_contradictions_are_refused() {
        for line in [
            "train --steps 5 --epochs 1",
            "train --use-amp --no-amp",
            "train --data a.tif",
            "train --data a.tif --targets a.csv --images b --masks c",
            "train --resume a --artifact-dir b",
            "train --steps 0",
            "train --batch-size 0",
            "train --grad-checkpoint segments=0",
            "train --lr 0",
            "train --lr -1",
            "train --lr NaN",
            "train --clip-norm 0",
            "train --depth 9",
            "train decode --data a.tif",
            "train decode --images a --masks b",
            "train decode --threshold 0",
            "train flow-completion --data a --num-videos 3",
            "train flow-completion --num-reference 2",
            "train propainter --num-local 0",
            "train --holdout 1",
            "train --stepz 5",
        ] {
            assert!(parse(line).is_err(), "{line} was accepted");
        }
    }

    #[test]
    fn what_is_on_or_off_needs_no_value() {
        assert_eq!(run("train --auto-micro-batch").auto_micro_batch, Some(true));
        assert_eq!(run("train --memory-tracking").memory_tracking, Some(true));
        assert_eq!(
            run("train --memory-tracking=false").memory_tracking,
            Some(false)
        );
    }
}
