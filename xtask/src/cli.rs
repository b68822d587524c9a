//! Every flag of every command, and every setting, declared once.
//!
//! The front end and the program parse with these same definitions, so a wrong flag is refused
//! before anything heavy is compiled. A setting is a flag with a default; what was given is known
//! apart from what is by default ([`Given`](values::Given)), since a settings file comes between.

use std::borrow::Cow;
use std::path::Path;

use clap::builder::StyledStr;
use clap::{Arg, Args, Parser, Subcommand};

use crate::device::{Backend, DeviceChoice, DeviceList};

mod gan;
mod images;
mod infer;
mod inpaint;
mod models;
mod optimizer;
pub mod paths;
mod quantize;
mod stages;
mod tiling;
mod tools;
mod train;
pub mod values;

pub use gan::{GanNetworkSettings, GanSettings, ViewSettings};
pub use images::{ImageSettings, UNetData, UNetNetworkSettings, UNetSettings, WatermarkSettings};
pub use infer::{EvaluateArgs, INCEPTION, InferArgs, InferFlags, InferModel, InferSettings};
pub use inpaint::InpaintArgs;
pub use models::{
    ClipSettings, DecodeSettings, FlowCompletionSettings, PROCEDURAL, ProPainterSettings,
};
pub use optimizer::{OptimizerChoice, OptimizerSettings, OptimizerStateChoice};
pub use quantize::QuantizeArgs;
pub use stages::{ImageSides, StageSettings};
pub use tiling::TilingSettings;
pub use tools::{
    AdviseArgs, BenchArgs, ConvertFlags, EstimatesFlags, ImageSize, MonitorArgs, PlanArgs,
    PlanFlags, PlanModel, SharedFlags, VerifyFlags, WeightsArgs, WeightsVerb, WorkFlags,
};
pub use train::{
    ModelSettings, RunOptions, RunSettings, Settings, TrainArgs, TrainFlags, TrainModel, Variants,
};

/// What the program is for.
pub const ABOUT: &str = "Train and run models that do not fit, and measure what is saved";
/// What the exit codes mean.
pub const EXIT_CODES: &str = "Exit codes: 0 success, 1 failure, 2 wrong usage.";

/// Train models that do not fit, measure what is saved, and check this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of `cargo xtask`: those of the program, and those of the repository.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// A command of the program.
    #[command(flatten)]
    Program(Program),
    /// Run every test of the workspace, documentation examples included.
    Test(TestArgs),
    /// Run the tests that compare with the reference implementations.
    Golden(TestArgs),
    /// Run what must hold before a commit: fmt, tidy, clippy, test, doc.
    Check(CheckArgs),
    /// Build and run a crate outside this workspace with the README's dependencies, resolved
    /// without a lock file: what a user gets. Compiles burn once more.
    Downstream,
    /// Check the house rules: file and function length, crate arrows, cited paths.
    Tidy,
}

/// The commands of the program `burn-memopt`.
#[derive(Debug, Subcommand)]
pub enum Program {
    /// Train a model; with no arguments: a small UNet on generated data, on the CPU.
    Train(TrainArgs),
    /// Evaluate the model of a run: metrics, pictures and tables, as at the end of train.
    Evaluate(EvaluateArgs),
    /// Pack the weights of a trained model in 8 or 4 bits, and measure what that changes.
    Quantize(Box<QuantizeArgs>),
    /// Run a trained model on images, stacks and folders of any size, in windows.
    Infer(InferArgs),
    /// Complete videos: fill what masks mark, or extend the frames.
    Inpaint(Box<InpaintArgs>),
    /// Say how to load a data set on this machine: what to keep, cache and load ahead, and why.
    Advise(AdviseArgs),
    /// Show what host, process and devices hold, once or again and again.
    Monitor(MonitorArgs),
    /// Find the settings that keep a memory budget, and why; or compare estimates with measurements.
    Plan(PlanArgs),
    /// Check the published weights of ProPainter, and convert them to safetensors.
    Weights(WeightsArgs),
    /// Measure memory and time, plain and with each technique, side by side.
    Bench(BenchArgs),
}

impl Program {
    /// The device to compile for.
    pub fn target(&self) -> Target<'_> {
        let on = |device: Option<DeviceChoice>, features| Target {
            device: device.map(Into::into),
            config: None,
            features,
        };
        match self {
            Self::Train(args) => args.target(),
            Self::Evaluate(args) => args.target(),
            Self::Quantize(args) => args.evaluate.target(),
            Self::Infer(InferArgs {
                model: InferModel::Unet(flags),
            }) => flags.target(),
            Self::Inpaint(args) => args.target.target(),
            Self::Advise(args) => on(args.device, &args.features),
            Self::Monitor(args) => on(args.device, &args.features),
            Self::Plan(args) => args.model.target().target(),
            // Whatever computes elsewhere, files are read on the CPU.
            Self::Weights(_) => on(Some(DeviceChoice::on(Backend::Flex)), &[]),
            Self::Bench(args) => args.target.target(),
        }
    }
}

/// What the program is compiled for.
#[derive(Debug)]
pub struct Target<'a> {
    /// The device, if a flag names it.
    pub device: Option<DeviceList>,
    /// A settings file that may name it otherwise.
    pub config: Option<Cow<'a, Path>>,
    /// Further cargo features.
    pub features: &'a [String],
}

/// Where a command runs.
#[derive(Clone, Debug, Args)]
pub struct DeviceFlags {
    /// Device: auto, flex, wgpu, vulkan, cuda or cuda:N. The default is auto: what the
    /// variable BURN_MEMOPT_DEVICE names, else flex, the CPU.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,
    /// Further cargo features to compile, as in autotune,cuda-cpp.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub features: Vec<String>,
}

impl DeviceFlags {
    fn target(&self) -> Target<'_> {
        Target {
            device: self.device.map(Into::into),
            config: None,
            features: &self.features,
        }
    }
}

/// Parses the command line of this process; wrong usage ends it with exit code 2.
pub fn parse<C: Parser>() -> C {
    let matches = with_defaults(C::command()).get_matches();
    C::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// Ends the help of every flag that has a default with it, unless the help says more about it.
pub fn with_defaults(command: clap::Command) -> clap::Command {
    let describe = |flag: Arg| {
        let [default] = flag.get_default_values() else {
            return flag;
        };
        let default = default.to_string_lossy().into_owned();
        let help = flag
            .get_help()
            .map(StyledStr::to_string)
            .unwrap_or_default();
        let flag = flag.hide_default_value(true);
        if help.is_empty() || help.contains("The default is ") {
            flag
        } else {
            flag.help(format!("{help}. The default is {default}"))
        }
    };
    command.mut_args(describe).mut_subcommands(with_defaults)
}

/// Flags of `test` and `golden`.
#[derive(Clone, Debug, Args)]
pub struct TestArgs {
    /// Leave the wgpu backend out: faster to build, and no GPU tests.
    #[arg(long)]
    pub no_gpu: bool,
    /// Run only the tests whose names contain this.
    pub filter: Option<String>,
}

/// Flags of `check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Leave the wgpu backend out: faster to build, and no GPU tests.
    #[arg(long)]
    pub no_gpu: bool,
}
