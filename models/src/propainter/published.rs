use std::path::{Path, PathBuf};

use burn::tensor::Device;

use super::flow_completion::FlowCompletion;
use super::generator::{InpaintGenerator, InpaintGeneratorConfig};
use super::procedural::procedural;
use super::raft::{Raft, RaftConfig};
use crate::weights::{StateDict, WeightsError};

/// A network whose weights were published with ProPainter, under a file name of their own.
///
/// # Example
/// ```no_run
/// use burn::tensor::Device;
/// use burn_memopt_models::propainter::{FlowCompletion, Published};
///
/// // weights/recurrent_flow_completion.safetensors, or else .pth
/// let network = FlowCompletion::load_published("weights", &Device::flex())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Published: StateDict {
    /// The name of its file, without extension.
    const FILE: &'static str;

    /// Builds it in the published size, with random parameters.
    fn published_size(device: &Device) -> Self;

    /// Makes its weights up from their names, as [`ProPainter::procedural`](super::ProPainter::procedural)
    /// does.
    fn procedural(device: &Device) -> Self;

    /// Loads it out of the folder of all: `.safetensors`, or else `.pth`.
    ///
    /// # Errors
    /// If there is no such file or it cannot be read, or a tensor is missing, unexpected or of
    /// another shape.
    fn load_published(folder: impl AsRef<Path>, device: &Device) -> Result<Self, WeightsError> {
        let (folder, name) = (folder.as_ref(), Self::FILE);
        let file = |extension: &str| -> Option<PathBuf> {
            let file = folder.join(format!("{name}.{extension}"));
            file.exists().then_some(file)
        };
        let network = Self::published_size(device);
        match (file("safetensors"), file("pth")) {
            (Some(file), _) => network.load_safetensors(file),
            (None, Some(file)) => network.load_pytorch(file),
            (None, None) => {
                let folder = folder.to_owned();
                Err(WeightsError::NotFound { folder, name })
            }
        }
    }
}

impl Published for Raft {
    const FILE: &'static str = "raft-things";

    fn published_size(device: &Device) -> Self {
        RaftConfig::new().init(device)
    }

    fn procedural(device: &Device) -> Self {
        procedural(Self::published_size(device), |name| match name {
            name if name.contains("flow_head.conv2.") => 1.0 / 64.0,
            _ => 1.25,
        })
    }
}

impl Published for FlowCompletion {
    const FILE: &'static str = "recurrent_flow_completion";

    fn published_size(device: &Device) -> Self {
        Self::new(device)
    }

    fn procedural(device: &Device) -> Self {
        procedural(Self::published_size(device), |name| match name {
            name if name.starts_with("upsample.2.") => 0.5,
            name if name.starts_with("feat_prop_module.") => 1.0,
            _ => 1.5,
        })
    }
}

impl Published for InpaintGenerator {
    const FILE: &'static str = "ProPainter";

    fn published_size(device: &Device) -> Self {
        InpaintGeneratorConfig::new().init(device)
    }

    fn procedural(device: &Device) -> Self {
        procedural(Self::published_size(device), |name| match name {
            name if name.starts_with("encoder.") => 1.5,
            name if name.starts_with("sc.") => 0.5,
            _ => 1.0,
        })
    }
}
