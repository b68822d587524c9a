//! Flags of `evaluate`.

use std::path::PathBuf;

use clap::Args;

use super::Target;
use super::paths;
use super::values::Words;
use crate::device::DeviceChoice;

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

    /// Device: auto, flex, wgpu, vulkan, cuda or cuda:N. The default is the device of the run.
    #[arg(long, value_name = "DEVICE")]
    pub device: Option<DeviceChoice>,
    /// Print one JSON object on stdout instead of the table.
    #[arg(long)]
    pub json: bool,
    /// Further cargo features to compile, as in autotune,cuda-cpp.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub features: Vec<String>,
}

impl EvaluateArgs {
    /// Which device evaluates, by the flags or the run.
    pub fn target(&self) -> Target<'_> {
        Target {
            device: self.device,
            config: Some(self.model.join("config.json").into()),
            features: &self.features,
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
            .map(|(name, path)| (name.into(), paths::to_text(path)))
            .collect()
    }
}
