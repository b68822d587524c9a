//! Flags of `quantize`.

use std::path::PathBuf;

use clap::Args;

use super::EvaluateArgs;
use crate::choices::SchemeChoice;

/// Flags of `quantize`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "The result is a folder that infer and evaluate take as --model. It cannot be trained \
    further. Weights take less memory; computing takes the same time or more."
)]
pub struct QuantizeArgs {
    /// The run, where its data is, and the device: as evaluate has them.
    #[command(flatten)]
    pub evaluate: EvaluateArgs,
    /// Folder for the run with packed weights: a new one, or empty.
    #[arg(long, value_name = "DIR")]
    pub output: PathBuf,
    /// Bits of a packed weight.
    #[arg(long, value_enum, value_name = "SCHEME", default_value = "q8")]
    pub scheme: SchemeChoice,
    /// Weights that stay in float, by parts of their paths, as in head,encoder.0; `*` is any
    /// characters. The default is the last weight of the network.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub keep: Option<Vec<String>>,
}
