//! Every flag of every command, and nothing else.
//!
//! The front end and the runner parse with these same definitions, so a wrong
//! flag is answered before anything heavy is compiled. A flag that is also a
//! setting is an `Option`: "not given" must differ from "given as the default".

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::device::DeviceChoice;

mod advise;
mod clips;
mod infer;
mod inpaint;
mod models;
mod monitor;
mod numbers;
mod plan;
mod train;
mod weights;

pub use advise::AdviseArgs;
pub use clips::{ClipFlags, ProPainterFlags};
pub use infer::{InferArgs, InferFlags, InferModel};
pub use inpaint::InpaintArgs;
pub use models::{DecodeFlags, UNetFlags, UNetNetworkFlags, WatermarkFlags};
pub use monitor::MonitorArgs;
pub use plan::{
    DecodeNetworkFlags, EstimatesFlags, ImageSize, PlanArgs, PlanFlags, PlanModel, WorkFlags,
};
pub use train::{ModelFlags, RunFlags, TrainArgs, TrainModel};
pub use weights::{ConvertFlags, SharedFlags, VerifyFlags, WeightsArgs, WeightsVerb};

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
    /// without a lock file: what a user gets. Compiles burn anew.
    Downstream,
    /// Check the house rules: file and function length, crate arrows, cited paths.
    Tidy,
}

/// The commands of the program `burn-memopt`.
#[derive(Debug, Subcommand)]
pub enum Program {
    /// Train a model; with no arguments: a small UNet on generated data, on the CPU.
    Train(TrainArgs),
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

/// Flags of `bench`.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// Cases to measure, by name, separated by commas. The default is all.
    #[arg(long, value_name = "CASE,…", value_delimiter = ',')]
    pub only: Vec<String>,
    /// Device: auto, flex, wgpu, vulkan, cuda or cuda:N. The default is auto: what the
    /// variable BURN_MEMOPT_DEVICE names, else flex, the CPU.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,
    /// File for the measurements, a JSON array.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Run criterion's benchmarks first: many samples of small cases, memory and time, with
    /// reports in target/criterion. On the CPU.
    #[arg(long)]
    pub criterion: bool,
    /// Further cargo features to compile, as in autotune,cuda-cpp.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub features: Vec<String>,
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
