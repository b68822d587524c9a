//! The resolved settings of a training run: defaults, then the settings of a
//! resumed run, then a settings file, then flags; each wins over those before it.

use std::fmt;

use anyhow::{Context, Result, bail};
use clap::Args;
use figment::Figment;
use figment::providers::Serialized;
use figment::value::{Dict, Value};
use serde::{Deserialize, Serialize};

use crate::choices::PrecisionChoice;
use crate::cli::{ModelFlags, RunFlags};
use crate::interrupt::quoted;

mod clips;
mod decode;
mod infer;
mod layers;
mod run;
#[cfg(test)]
mod tests;
mod unet;
mod watermark;

pub use clips::{ClipSettings, FlowCompletionSettings, ProPainterSettings};
pub use decode::DecodeSettings;
pub use infer::InferSettings;
pub use layers::Layers;
use layers::{explain, read_file, shown, to_dict};
pub use run::RunSettings;
pub use unet::{UNetNetworkSettings, UNetSettings};
pub use watermark::WatermarkSettings;

/// Wrong usage: the command ends with exit code 2.
#[derive(Debug)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Two ways to say the same, in one or several keys each; naming one takes the other back.
pub type Alternatives = [&'static [&'static str]; 2];

/// What the settings of one model have beside those of every run.
///
/// The meaning, unit and default of each setting stand in the help of the flag of its name.
pub trait ModelSettings: Clone + fmt::Debug + PartialEq + Serialize {
    /// The model's name in commands and artifacts.
    const MODEL: &'static str;
    /// Different ways to say what to do.
    const ALTERNATIVES: &'static [Alternatives] = &[];
    /// Settings that belong to what was learned, so a resumed run keeps them.
    const KEPT_ON_RESUME: &'static [&'static str];

    /// Every setting of a run for which nothing but `given` is given.
    fn defaults(given: &Dict) -> Settings<Self>;

    /// Picks the settings of the model out of all.
    ///
    /// # Errors
    /// If one is missing or has a wrong type.
    fn pick(all: &Figment) -> Result<Self, Box<figment::Error>>;

    /// Refuses values that no run can have.
    ///
    /// # Errors
    /// [`UsageError`] that names the setting.
    fn validate(&self, layers: &Layers) -> Result<()>;
}

/// Every setting of a run of one model, as saved in `config.json`: flat, and without any key
/// that is not known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Dict", bound(deserialize = "M: ModelSettings"))]
pub struct Settings<M> {
    /// What this model has.
    #[serde(flatten)]
    pub model: M,
    /// What every run has.
    #[serde(flatten)]
    pub run: RunSettings,
}

impl<M: ModelSettings> Settings<M> {
    /// Puts together the settings of a run from `saved`, those of a run that is
    /// resumed, the file that `flags` name, and `flags`.
    ///
    /// # Errors
    /// [`UsageError`] if a key is unknown or a value wrong: it names the flag or
    /// the file and key. Another error if the file cannot be read.
    pub fn resolve<F: Args + Serialize>(
        flags: &ModelFlags<F>,
        saved: Option<&Self>,
    ) -> Result<Self> {
        let alternatives = [RunSettings::ALTERNATIVES, M::ALTERNATIVES].concat();
        let mut layers = Layers::new(saved.map(to_dict).transpose()?, alternatives);
        if let Some(path) = &flags.run.config {
            layers.add(path.display().to_string(), read_file(path, M::MODEL)?)?;
            // Read alone first, so that what is wrong in the file is said of the file.
            layers
                .extract::<M>()
                .with_context(|| format!("cannot use the settings in {}", path.display()))?;
        }
        layers.add("the command line".into(), to_dict(flags)?)?;
        let mut settings = layers.extract::<M>()?;
        settings.run.precision = with_amp(&flags.run, settings.run.precision)?;
        settings.run.validate(&layers)?;
        settings.model.validate(&layers)?;
        if let Some(saved) = saved {
            settings.check_kept(saved)?;
        }
        Ok(settings)
    }

    /// The flags that make these settings out of the defaults.
    ///
    /// # Errors
    /// If they cannot be serialised.
    pub fn flags(&self) -> Result<Vec<String>> {
        let all = to_dict(self)?;
        let defaults = to_dict(&M::defaults(&all))?;
        let changed = all.iter().filter(|(key, value)| {
            let default = defaults.get(*key);
            shown(Some(value)) != shown(default)
        });
        let flag = |(key, value): (&String, &Value)| {
            let (name, value) = (key.replace('_', "-"), shown(Some(value)));
            match value.as_str() {
                "true" | "false" => format!("--{name}={value}"),
                value => format!("--{name} {}", quoted(value)),
            }
        };
        Ok(changed.map(flag).collect())
    }

    /// Refuses to resume `saved` with a different model or different data.
    fn check_kept(&self, saved: &Self) -> Result<()> {
        let (new, old) = (to_dict(self)?, to_dict(saved)?);
        for key in M::KEPT_ON_RESUME.iter().chain(RunSettings::KEPT_ON_RESUME) {
            if shown(new.get(*key)) != shown(old.get(*key)) {
                bail!(UsageError(format!(
                    "a resumed run keeps its {key}: it is {}, got {}; leave it out, or start a new run",
                    shown(old.get(*key)),
                    shown(new.get(*key)),
                )));
            }
        }
        Ok(())
    }

    /// Every key that may be given.
    fn keys() -> Result<Vec<String>, Box<figment::Error>> {
        let defaults = M::defaults(&Dict::new());
        let saved: Dict = Figment::from(Serialized::defaults(defaults)).extract()?;
        let not_saved = RunSettings::NOT_SAVED.map(Into::into);
        Ok(saved.into_keys().chain(not_saved).collect())
    }

    /// Reads every setting from `all`, whose keys are known.
    fn read(mut all: Dict) -> Result<Self, Box<figment::Error>> {
        all.retain(|_, value| !matches!(value, Value::Empty(..)));
        let all = Figment::from(Serialized::defaults(all));
        Ok(Self {
            model: M::pick(&all)?,
            run: all.extract()?,
        })
    }
}

/// Serde cannot both flatten and refuse unknown keys, and names no key in the errors of what is
/// flattened; so the parts are read one by one, and keys are compared with those that there are.
impl<M: ModelSettings> TryFrom<Dict> for Settings<M> {
    type Error = UsageError;

    fn try_from(all: Dict) -> Result<Self, UsageError> {
        let refused = |error: Box<figment::Error>| UsageError(explain(&error));
        let known = Self::keys().map_err(refused)?;
        if let Some(key) = all.keys().find(|key| !known.contains(key)) {
            return Err(UsageError(format!(
                "unknown key {key:?}; the known keys are {}",
                known.join(", ")
            )));
        }
        Self::read(all).map_err(refused)
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

/// The precision that `--use-amp` and `--no-amp` make of the one chosen otherwise.
fn with_amp(flags: &RunFlags, chosen: PrecisionChoice) -> Result<PrecisionChoice> {
    let is_f32 = chosen == PrecisionChoice::F32;
    let contradicts = (flags.use_amp && is_f32) || (flags.no_amp && !is_f32);
    if contradicts && flags.precision.is_some() {
        let flag = if flags.use_amp {
            "--use-amp"
        } else {
            "--no-amp"
        };
        bail!(UsageError(format!(
            "{flag} contradicts --precision {chosen}; leave one out"
        )));
    }
    Ok(match contradicts {
        true if flags.use_amp => PrecisionChoice::F16,
        true => PrecisionChoice::F32,
        false => chosen,
    })
}
