//! The settings of `infer`.

use anyhow::{Context, Result};
use burn_memopt::memory::Bytes;
use serde::{Deserialize, Serialize};

use super::{Alternatives, Layers, UsageError, read_file, to_dict};
use crate::choices::{BlendChoice, ChunkSizeChoice, PrecisionChoice};
use crate::cli::InferFlags;
use crate::device::DeviceChoice;

/// The settings of `infer`.
///
/// The meaning, unit and default of each stand in the help of the flag of its name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)]
pub struct InferSettings {
    pub chunk_size: ChunkSizeChoice,
    pub overlap: f64,
    pub blend: BlendChoice,
    pub exact: bool,
    pub budget: Option<String>,
    pub memory_threshold: f64,
    pub precision: PrecisionChoice,
    pub batch_size: usize,
    pub auto_batch_size: bool,
    pub min_batch_size: usize,
    pub max_batch_size: usize,
    pub device: DeviceChoice,
}

impl Default for InferSettings {
    fn default() -> Self {
        Self {
            chunk_size: ChunkSizeChoice::Auto,
            overlap: 0.25,
            blend: BlendChoice::Gaussian,
            exact: false,
            budget: None,
            memory_threshold: 0.8,
            precision: PrecisionChoice::F32,
            batch_size: 1,
            auto_batch_size: false,
            min_batch_size: 1,
            max_batch_size: 64,
            device: DeviceChoice::default(),
        }
    }
}

impl InferSettings {
    const ALTERNATIVES: &'static [Alternatives] = &[[&["batch_size"], &["auto_batch_size"]]];

    /// Puts the settings together from the file that `flags` name, and `flags`, which win.
    ///
    /// # Errors
    /// [`UsageError`] if a key is unknown or a value wrong: it names the flag or the file and
    /// key. Another error if the file cannot be read.
    pub fn resolve(flags: &InferFlags) -> Result<Self> {
        let mut layers = Layers::new(None, Self::ALTERNATIVES.to_vec());
        if let Some(path) = &flags.config {
            layers.add(path.display().to_string(), read_file(path, "unet")?)?;
            layers
                .extract_onto(&Self::default())
                .with_context(|| format!("cannot use the settings in {}", path.display()))?;
        }
        layers.add("the command line".into(), to_dict(flags)?)?;
        let settings = layers.extract_onto(&Self::default())?;
        settings.validate(&layers)?;
        Ok(settings)
    }

    /// What may be taken at most, if that is given.
    ///
    /// # Errors
    /// [`UsageError`] if it is no amount.
    pub fn budget(&self) -> Result<Option<Bytes>> {
        let parse = |text: &String| text.parse::<Bytes>();
        let budget = self.budget.as_ref().map(parse).transpose();
        budget.map_err(|why| UsageError(format!("--budget: {why}")).into())
    }

    fn validate(&self, layers: &Layers) -> Result<()> {
        let counts = [
            ("batch_size", self.batch_size),
            ("min_batch_size", self.min_batch_size),
        ];
        for (key, count) in counts {
            layers.require(count > 0, key, "be at least 1", &count)?;
        }
        let (least, most) = (self.min_batch_size, self.max_batch_size);
        let rule = format!("be at least --min-batch-size, {least}");
        layers.require(most >= least, "max_batch_size", &rule, &most)?;
        let is_share = (0.0..1.0).contains(&self.overlap);
        let rule = "be at least 0 and below 1";
        layers.require(is_share, "overlap", rule, &self.overlap)?;
        let threshold = self.memory_threshold;
        let (is_share, rule) = (
            threshold > 0.0 && threshold <= 1.0,
            "be above 0 and at most 1",
        );
        layers.require(is_share, "memory_threshold", rule, &threshold)?;
        self.budget().map(drop)
    }
}
