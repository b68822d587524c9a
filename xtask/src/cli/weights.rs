//! Flags of `weights`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::choices::NetworkChoice;

/// Arguments of `weights`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "The networks are those of ProPainter: raft-things, recurrent_flow_completion and \
    ProPainter. A file is read as the network that its name begins with, else as the one it fits."
)]
pub struct WeightsArgs {
    /// What to do.
    #[command(subcommand)]
    pub verb: WeightsVerb,
}

/// What is done with weights.
#[derive(Clone, Debug, Subcommand)]
pub enum WeightsVerb {
    /// Check that every tensor of a network is in each file, in its shape, and no other.
    Verify(VerifyFlags),
    /// Write weights as safetensors, and compare every value with what was read.
    Convert(ConvertFlags),
}

/// Flags of `weights verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifyFlags {
    /// Files of weights, .pth, .pt or .safetensors.
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// What every verb has.
    #[command(flatten)]
    pub shared: SharedFlags,
}

/// Flags of `weights convert`.
#[derive(Clone, Debug, Args)]
pub struct ConvertFlags {
    /// File of weights, .pth, .pt or .safetensors.
    #[arg(value_name = "INPUT")]
    pub input: PathBuf,
    /// Where they go, a name that ends in .safetensors. A file that is there is replaced.
    #[arg(long, value_name = "FILE", value_parser = safetensors)]
    pub output: PathBuf,
    /// What every verb has.
    #[command(flatten)]
    pub shared: SharedFlags,
}

/// Flags of every verb.
#[derive(Clone, Debug, Args)]
pub struct SharedFlags {
    /// The network that the weights are of, whatever the file is called.
    #[arg(long, value_enum, value_name = "NAME")]
    pub network: Option<NetworkChoice>,
    /// Show every tensor: name, shape, type, mean and largest absolute value.
    #[arg(long)]
    pub tensors: bool,
    /// Print one JSON object a file on stdout instead; every tensor is in it.
    #[arg(long)]
    pub json: bool,
}

/// Checks that a name is that of a safetensors file.
fn safetensors(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension().is_some_and(|it| it == "safetensors") {
        true => Ok(path),
        false => Err("must end in .safetensors".into()),
    }
}
