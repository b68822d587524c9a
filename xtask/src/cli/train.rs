//! The flags of `train`: those of every run, and those of each model.

use std::fmt;
use std::path::PathBuf;

use clap::builder::ArgPredicate;
use clap::{ArgAction, ArgMatches, Args, Command, Error, FromArgMatches, Subcommand};
use serde::Serialize;

use super::Target;
use super::gan::GanSettings;
use super::images::{UNetSettings, WatermarkSettings};
use super::models::{DecodeSettings, FlowCompletionSettings, ProPainterSettings};
use super::optimizer::OptimizerSettings;
use super::paths;
use super::stages::StageSettings;
use super::values::{Given, above_zero, at_least, share};
use crate::choices::{LossScaleChoice, OptLevelChoice, TrainPrecisionChoice, checkpoint};
use crate::device::DeviceList;

/// Arguments of `train`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct TrainArgs {
    /// The model; the default is `unet`.
    #[command(subcommand)]
    model: Option<TrainModel>,
    /// Flags given without naming the model.
    #[command(flatten)]
    unet: Box<TrainFlags<UNetSettings>>,
}

impl TrainArgs {
    /// The model and its flags, whether or not it was named.
    pub fn into_model(self) -> TrainModel {
        self.model.unwrap_or(TrainModel::Unet(self.unet))
    }

    /// Which device trains, by the flags or a file that they name.
    pub fn target(&self) -> Target<'_> {
        match &self.model {
            Some(TrainModel::Decode(flags)) => flags.target(),
            Some(TrainModel::FlowCompletion(flags)) => flags.target(),
            Some(TrainModel::Gan(flags)) => flags.target(),
            Some(TrainModel::ProPainter(flags)) => flags.target(),
            Some(TrainModel::Unet(flags)) => flags.target(),
            Some(TrainModel::Watermark(flags)) => flags.target(),
            None => self.unet.target(),
        }
    }
}

/// The models that can be trained.
#[derive(Debug, Subcommand)]
pub enum TrainModel {
    /// DECODE on a TIFF stack with emitter positions: localizes emitters, with uncertainties.
    Decode(Box<TrainFlags<DecodeSettings>>),
    /// ProPainter's flow completion: optical flow in the holes of videos.
    FlowCompletion(Box<TrainFlags<FlowCompletionSettings>>),
    /// A GAN on radiance fields: renders objects of given classes from any side.
    Gan(Box<TrainFlags<GanSettings>>),
    /// ProPainter's generator, against a discriminator: completes videos.
    #[command(name = "propainter")]
    ProPainter(Box<TrainFlags<ProPainterSettings>>),
    /// UNet on a TIFF stack with emitter positions, or on images with masks.
    Unet(Box<TrainFlags<UNetSettings>>),
    /// UNet that finds text watermarks, on generated images or on images with masks.
    Watermark(Box<TrainFlags<WatermarkSettings>>),
}

/// The flags of one model.
#[derive(Clone, Debug, Args)]
pub struct TrainFlags<M: ModelSettings> {
    /// The settings.
    #[command(flatten)]
    pub settings: Given<Settings<M>>,
    /// What is no setting.
    #[command(flatten)]
    pub options: RunOptions,
}

impl<M: ModelSettings> TrainFlags<M> {
    fn target(&self) -> Target<'_> {
        let options = &self.options;
        Target {
            device: self.settings.device(),
            config: match &options.resume {
                Some(folder) => Some(folder.join("config.json").into()),
                None => options.config.as_deref().map(Into::into),
            },
            features: &options.features,
        }
    }
}

/// Two ways to say the same, in one or several settings each; naming one takes the other back.
pub type Variants = [&'static [&'static str]; 2];

/// The settings of one model, besides those of every run.
pub trait ModelSettings: Args + Clone + fmt::Debug + PartialEq + Serialize + Sync {
    /// The model's name in commands and artifacts.
    const MODEL: &'static str;
    /// Different ways to say what to do.
    const VARIANTS: &'static [Variants] = &[];
    /// Settings that belong to what was learned, so a resumed run keeps them.
    const KEPT_ON_RESUME: &'static [&'static str];
    /// Whether blocks can be recomputed, as `--grad-checkpoint block` has it.
    const RECOMPUTES: bool = true;

    /// Gives flags of every run the defaults of this model.
    fn adapt(flags: Command) -> Command {
        flags
    }

    /// Growing images, where the model has them.
    fn stages(&self) -> Option<&StageSettings> {
        None
    }

    /// Whether the loss of a batch is that of its parts together, so that how it is divided changes nothing.
    fn adds_up(&self) -> bool {
        true
    }

    /// The flags that `--budget` is for, and whether one of them is given.
    fn budgeted(&self) -> (&'static str, bool) {
        let stages = self.stages();
        let is_staged = stages.is_some_and(|stages| stages.progressive.is_some());
        ("--progressive", is_staged)
    }
}

/// Every setting of a run of one model, as saved in `config.json`: flat.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings<M> {
    /// What this model has.
    #[serde(flatten)]
    pub model: M,
    /// What every run has.
    #[serde(flatten)]
    pub run: RunSettings,
}

impl<M: ModelSettings> FromArgMatches for Settings<M> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Ok(Self {
            model: M::from_arg_matches(matches)?,
            run: RunSettings::from_arg_matches(matches)?,
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<M: ModelSettings> Args for Settings<M> {
    fn augment_args(command: Command) -> Command {
        M::adapt(RunSettings::augment_args(M::augment_args(command)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<M: ModelSettings> fmt::Display for Settings<M> {
    /// One setting a line, in the order of the fields.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Pretty JSON of a flat struct has one field a line, in order.
        let json = serde_json::to_string_pretty(self).map_err(|_| fmt::Error)?;
        for line in json.lines() {
            if let Some((key, value)) = line.split_once("\": ") {
                let key = key.trim_start().trim_start_matches('"');
                let value = value.trim_end_matches(',').trim_matches('"');
                writeln!(f, "{key:<20} {}", if value == "null" { "-" } else { value })?;
            }
        }
        Ok(())
    }
}

/// Settings of every run.
#[derive(Clone, Debug, PartialEq, Args, Serialize)]
pub struct RunSettings {
    /// Share of the data, taken from its end, that is kept for evaluation.
    #[arg(long, value_name = "SHARE", help_heading = "Data", value_parser = share)]
    #[arg(allow_negative_numbers = true, default_value_t = 0.2)]
    pub holdout: f64,

    /// Optimizer steps from the beginning of the run, resumed or not.
    #[arg(
        long,
        value_name = "N",
        help_heading = "Training",
        conflicts_with = "epochs"
    )]
    #[arg(value_parser = at_least(1_u64), default_value = "300")]
    #[arg(default_value_if("epochs", ArgPredicate::IsPresent, None))]
    pub steps: Option<u64>,
    /// Passes over the training data, instead of --steps.
    #[arg(long, value_name = "N", help_heading = "Training", value_parser = at_least(1_u64))]
    pub epochs: Option<u64>,
    /// Images in one forward and backward pass, a micro-batch.
    #[arg(long, value_name = "N", help_heading = "Training", value_parser = at_least(1_usize))]
    #[arg(default_value_t = 4)]
    pub batch_size: usize,
    /// Highest learning rate of the optimizer; it rises over the first 10 steps and falls as one over the
    /// step from step 60 on, down to a tenth.
    #[arg(long, value_name = "RATE", help_heading = "Training", value_parser = above_zero)]
    #[arg(allow_negative_numbers = true, default_value_t = 0.001)]
    pub lr: f64,
    /// Largest norm of the averaged gradients; longer ones are shortened.
    #[arg(long, value_name = "NORM", help_heading = "Training", value_parser = above_zero)]
    #[arg(allow_negative_numbers = true, default_value = "1.0")]
    pub clip_norm: f64,
    /// Seed of weights, order and generated data.
    #[arg(
        long,
        value_name = "N",
        help_heading = "Training",
        default_value_t = 42
    )]
    pub seed: u64,
    /// What is recomputed instead of kept: none, block, segments=N, least (as little as two
    /// forward passes more can buy) or budget=SIZE (as in budget=6GiB, per forward and backward
    /// pass).
    #[arg(long, value_name = "POLICY", help_heading = "Memory", value_parser = checkpoint)]
    #[arg(default_value = "none")]
    pub grad_checkpoint: String,
    /// Micro-batches added up for one optimizer step.
    #[arg(long, value_name = "N", help_heading = "Memory", value_parser = at_least(1_usize))]
    #[arg(default_value_t = 1)]
    pub accumulation_steps: usize,
    /// Where a GPU lacks memory for a micro-batch, make the step again with smaller ones, and more
    /// of them; the items of a step stay the same.
    #[arg(long, value_name = "BOOL", help_heading = "Memory", action = ArgAction::Set)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = false)]
    pub auto_micro_batch: bool,
    /// Threads that load items, 0 for none. The default is 4, or the number of cores where there are fewer.
    #[arg(long, value_name = "N", help_heading = "Memory")]
    pub workers: Option<usize>,
    /// What items may take that are loaded before their turn, as in 64MiB.
    #[arg(
        long,
        value_name = "SIZE",
        help_heading = "Memory",
        default_value = "256MiB"
    )]
    pub prefetch: String,
    /// Precision of the forward and backward pass; parameters stay f32.
    #[arg(
        long,
        value_enum,
        value_name = "TYPE",
        help_heading = "Memory",
        default_value_t
    )]
    pub precision: TrainPrecisionChoice,
    /// What computes in half precision, where --precision is one.
    #[arg(
        long,
        value_enum,
        value_name = "LEVEL",
        help_heading = "Memory",
        default_value_t
    )]
    pub opt_level: OptLevelChoice,
    /// What the loss is multiplied by in f16: dynamic, as large as gradients allow, or a number.
    #[arg(long, value_name = "SCALE", help_heading = "Memory", default_value_t)]
    #[arg(allow_negative_numbers = true)]
    pub loss_scale: LossScaleChoice,
    /// The optimizer.
    #[command(flatten)]
    #[serde(flatten)]
    pub optimizer: OptimizerSettings,
    /// Record memory during the run; `--memory-tracking=false` turns it off.
    #[arg(long, value_name = "BOOL", help_heading = "Memory", action = ArgAction::Set)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = true)]
    pub memory_tracking: bool,
    /// Where memory is recorded, CSV. The default is memory.csv in the artifact folder.
    #[arg(long, value_name = "FILE", help_heading = "Memory")]
    #[serde(with = "paths::optional")]
    pub memory_log_file: Option<PathBuf>,

    /// Device: auto, flex, wgpu, vulkan, cuda or cuda:N; or several, as in cuda:0,cuda:1, which share the
    /// micro-batches of a step. The default is auto: what the variable BURN_MEMOPT_DEVICE names, else
    /// flex, the CPU.
    #[arg(
        long,
        visible_alias = "devices",
        value_name = "DEVICE",
        help_heading = "Run",
        default_value_t
    )]
    pub device: DeviceList,
    /// With several devices: running statistics of batch normalization are the mean of all, not those of the
    /// first.
    #[arg(long, value_name = "BOOL", help_heading = "Run", action = ArgAction::Set)]
    #[arg(num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[arg(default_value_t = false)]
    pub sync_batch_norm: bool,
    /// Optimizer steps between two saves; the end of the run is always saved.
    #[arg(long, value_name = "N", help_heading = "Run", value_parser = at_least(1_u64))]
    #[arg(default_value_t = 100)]
    pub save_every: u64,
    /// Optimizer steps between two lines of progress.
    #[arg(long, value_name = "N", help_heading = "Run", value_parser = at_least(1_u64))]
    #[arg(default_value_t = 10)]
    pub log_every: u64,
    /// Folder for everything the run writes. The default is artifacts/MODEL-DATE-TIME.
    #[arg(
        long,
        value_name = "DIR",
        help_heading = "Run",
        conflicts_with = "resume"
    )]
    // Not saved, so that saved settings can start another run.
    #[serde(skip_serializing)]
    pub artifact_dir: Option<PathBuf>,
}

impl RunSettings {
    /// Different ways to say what to do.
    pub const VARIANTS: &'static [Variants] = &[[&["steps"], &["epochs"]]];
    /// Settings that belong to what was learned, so a resumed run keeps them.
    pub const KEPT_ON_RESUME: &'static [&'static str] = &["holdout", "batch_size", "seed"];
}

/// Flags of every run that are no settings.
#[derive(Clone, Debug, Default, Args)]
pub struct RunOptions {
    /// Mixed precision: the same as --precision f16, unless bf16 is chosen.
    #[arg(
        long,
        help_heading = "Memory",
        conflicts_with = "no_amp",
        visible_alias = "fp16"
    )]
    pub use_amp: bool,
    /// No mixed precision: the same as --precision f32.
    #[arg(long, help_heading = "Memory")]
    pub no_amp: bool,
    /// File of settings: TOML, YAML or JSON by its extension. A key is a flag's name with
    /// underscores; flags win over the file.
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    pub config: Option<PathBuf>,
    /// Continue the run in this artifact folder with its settings; flags given as well win.
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    pub resume: Option<PathBuf>,
    /// Print one JSON object a line on stdout.
    #[arg(long, help_heading = "Run")]
    pub json: bool,
    /// Print every resolved setting and the expected memory, then stop.
    #[arg(long, help_heading = "Run")]
    pub dry_run: bool,
    /// Choose micro-batches, checkpointing and loading by the memory that is free and by what earlier runs in the same
    /// folder took; what is given as well stays. What is learned does not change.
    #[arg(long, help_heading = "Memory", conflicts_with = "resume")]
    pub auto_tune: bool,
    /// Read all of the data before training, so that no run ends at a damaged file.
    #[arg(long, help_heading = "Run")]
    pub verify: bool,
    /// Further cargo features to compile, as in autotune,cuda-cpp.
    #[arg(long, value_name = "LIST", help_heading = "Run", value_delimiter = ',')]
    pub features: Vec<String>,
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::values::Words;
    use crate::cli::{self, Cli, Program};

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("xtask").chain(line.split_whitespace()))
    }

    /// What was given to `train`, or to its first model.
    fn given(line: &str) -> Words {
        let parsed = parse(line).unwrap();
        let cli::Command::Program(Program::Train(args)) = parsed.command else {
            panic!("{line} trains nothing");
        };
        match args.into_model() {
            TrainModel::Unet(flags) => flags.settings.words,
            TrainModel::FlowCompletion(flags) => flags.settings.words,
            TrainModel::ProPainter(flags) => flags.settings.words,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_model_may_be_left_out() {
        assert_eq!(given("train"), Words::new());
        for line in [
            "train --steps 5",
            "train unet --steps 5",
            "train propainter --steps 5",
        ] {
            assert_eq!(
                given(line),
                Words::from([("steps".into(), "5".into())]),
                "{line}"
            );
        }
        assert!(parse("train flow-completion --fp16").is_ok());
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
            "train --use-chunking --chunk-size 0",
            "train flow-completion --use-chunking",
            "train decode --freeze-norm",
            "train decode --images a --masks b",
            "train decode --threshold 0",
            "train flow-completion --data a --num-videos 3",
            "train flow-completion --num-reference 2",
            "train propainter --num-local 0",
            "train gan --patch-size 48",
            "train gan --ray-chunk 0",
            "train gan --table a.csv",
            "train gan --data a --table a.csv --name-pattern CLASS_ELEV_AZIM",
            "train --holdout 1",
            "train --stepz 5",
        ] {
            assert!(parse(line).is_err(), "{line} was accepted");
        }
    }

    #[test]
    fn what_is_on_or_off_needs_no_value() {
        let word = |line: &str, name: &str| given(line).get(name).cloned();
        let on = Some("true".to_owned());
        assert_eq!(word("train --auto-micro-batch", "auto_micro_batch"), on);
        assert_eq!(word("train --memory-tracking", "memory_tracking"), on);
        let off = word("train --memory-tracking=false", "memory_tracking");
        assert_eq!(off, Some("false".to_owned()));
    }
}
