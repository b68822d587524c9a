//! Flags of `evaluate`.

use std::path::PathBuf;

use clap::Args;

use super::values::Words;
use super::{DeviceFlags, Target};

/// Flags of `evaluate`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "The last saved state is evaluated as at the end of train: on what the run held \
    out, with the same numbers. metrics.json, pictures and tables in the folder are written anew."
)]
pub struct EvaluateArgs {
    /// Artifact folder of train.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,

    /// Where the data of the run is now: the stack or the folder of videos. The default of this and
    /// the next is what the run has saved.
    #[arg(long, value_name = "PATH", help_heading = "Data")]
    pub data: Option<PathBuf>,
    /// Where its table of emitter positions is.
    #[arg(long, value_name = "CSV", help_heading = "Data")]
    pub targets: Option<PathBuf>,
    /// Where its images are.
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub images: Option<PathBuf>,
    /// Where its masks are.
    #[arg(long, value_name = "DIR", help_heading = "Data")]
    pub masks: Option<PathBuf>,

    /// Where it runs. The default is the device of the run.
    #[command(flatten)]
    pub target: DeviceFlags,
    /// Print one JSON object on stdout instead of the table.
    #[arg(long)]
    pub json: bool,
}

impl EvaluateArgs {
    /// Which device evaluates, by the flags or the run.
    pub fn target(&self) -> Target<'_> {
        Target {
            config: Some(self.model.join("config.json").into()),
            ..self.target.target()
        }
    }

    /// The settings of the run that are given otherwise.
    pub fn data_words(&self) -> Words {
        let paths = [
            ("data", &self.data),
            ("targets", &self.targets),
            ("images", &self.images),
            ("masks", &self.masks),
        ];
        let given = paths
            .into_iter()
            .filter_map(|(name, path)| Some((name, path.as_ref()?)));
        given
            .map(|(name, path)| (name.into(), path.to_string_lossy().into_owned()))
            .collect()
    }
}
