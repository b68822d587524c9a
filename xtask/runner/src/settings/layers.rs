//! Settings from several sources, laid on top of each other.

use std::fmt::Display;
use std::path::Path;

use anyhow::{Context, Result, bail};
use figment::error::Kind;
use figment::providers::{Format, Json, Serialized, Toml, Yaml};
use figment::value::{Dict, Value};
use figment::{Figment, Provider};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Alternatives, ModelSettings, Settings, UsageError};
use crate::run_dir::{MODEL_KEY, VERSION_KEY};

/// Settings on top of each other, and where each came from.
pub struct Layers {
    saved: Option<Dict>,
    given: Dict,
    places: Vec<(String, Dict)>,
    alternatives: Vec<Alternatives>,
}

impl Layers {
    /// Begins with the settings of a resumed run, or with none.
    pub fn new(saved: Option<Dict>, alternatives: Vec<Alternatives>) -> Self {
        Self {
            saved,
            given: Dict::new(),
            places: Vec::new(),
            alternatives,
        }
    }

    /// Lets `layer` win over what is there.
    ///
    /// # Errors
    /// [`UsageError`] if it says the same in two ways.
    pub fn add(&mut self, place: String, layer: Dict) -> Result<()> {
        for [one, other] in &self.alternatives {
            if names(&layer, one) && names(&layer, other) {
                bail!(UsageError(format!(
                    "{place} must give either {} or {}, got both",
                    one.join(" and "),
                    other.join(" and "),
                )));
            }
        }
        let given = std::mem::take(&mut self.given);
        self.given = self.laid_on(given, &layer);
        self.places.push((place, layer));
        Ok(())
    }

    /// The settings as far as they are known now; the rest is as it is by default.
    ///
    /// # Errors
    /// [`UsageError`] if a key is unknown or a value has a wrong type.
    pub fn extract<M: ModelSettings>(&self) -> Result<Settings<M>> {
        let base = match &self.saved {
            Some(saved) => saved.clone(),
            None => to_dict(&M::defaults(&self.given))?,
        };
        Ok(self.laid_on(base, &self.given).try_into()?)
    }

    /// As [`extract`](Self::extract), for the settings of another command.
    ///
    /// # Errors
    /// As [`extract`](Self::extract).
    pub fn extract_onto<S: Serialize + DeserializeOwned>(&self, defaults: &S) -> Result<S> {
        let all = self.laid_on(to_dict(defaults)?, &self.given);
        let settings = Figment::from(Serialized::defaults(all)).extract();
        settings.map_err(|error| UsageError(explain(&error)).into())
    }

    /// `base` where `layer` says nothing.
    fn laid_on(&self, mut base: Dict, layer: &Dict) -> Dict {
        for [one, other] in &self.alternatives {
            for (named, taken_back) in [(one, other), (other, one)] {
                if names(layer, named) {
                    base.retain(|key, _| !taken_back.contains(&key.as_str()));
                }
            }
        }
        base.extend(layer.clone());
        base
    }

    /// Refuses the setting `key`, whose value is `got`, unless it `holds` to the rule.
    ///
    /// # Errors
    /// [`UsageError`] that says where the setting was given.
    pub fn require(&self, holds: bool, key: &str, rule: &str, got: &dyn Display) -> Result<()> {
        if holds {
            return Ok(());
        }
        let place = self.place(key);
        Err(UsageError(format!("{place} must {rule}, got {got}")).into())
    }

    /// How to call the setting `key` when its value is refused.
    fn place(&self, key: &str) -> String {
        let last = self.places.len();
        let mut layers = self.places.iter();
        match layers.rposition(|(_, layer)| layer.contains_key(key)) {
            Some(at) if at + 1 < last => format!("{key} in {}", self.places[at].0),
            _ => format!("--{}", key.replace('_', "-")),
        }
    }
}

fn names(layer: &Dict, keys: &[&str]) -> bool {
    keys.iter().any(|key| layer.contains_key(*key))
}

/// Says what is wrong with a settings file, naming the key.
pub fn explain(error: &figment::Error) -> String {
    match error.path.is_empty() {
        true => error.kind.to_string(),
        false => format!("{}: {}", error.path.join("."), error.kind),
    }
}

/// Reads a settings file of `model` by its extension.
pub fn read_file(path: &Path, model: &str) -> Result<Dict> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the settings file {}", path.display()))?;
    let extension = path
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    let parsed = match extension {
        "toml" => parse(Toml::string(&text)),
        "yaml" | "yml" => parse(Yaml::string(&text)),
        "json" => parse(Json::string(&text)),
        _ => bail!(UsageError(format!(
            "{}: a settings file must end in .toml, .yaml, .yml or .json",
            path.display()
        ))),
    };
    let mut settings =
        parsed.map_err(|kind| UsageError(format!("{} is not valid: {kind}", path.display())))?;
    // Null is how JSON and YAML say "not given".
    settings.retain(|_, value| !matches!(value, Value::Empty(..)));
    // A saved config.json may start another run of the same model.
    settings.remove(VERSION_KEY);
    match settings.remove(MODEL_KEY) {
        Some(other) if other.as_str() != Some(model) => bail!(UsageError(format!(
            "{} holds the settings of {}, got the model {model}",
            path.display(),
            shown(Some(&other)),
        ))),
        _ => Ok(settings),
    }
}

fn parse(source: impl Provider) -> Result<Dict, Kind> {
    Figment::from(source).extract().map_err(|error| error.kind)
}

/// What is given in `settings`, without the keys that are not.
pub fn to_dict(settings: &impl Serialize) -> Result<Dict> {
    let mut dict: Dict = Figment::from(Serialized::defaults(settings)).extract()?;
    dict.retain(|_, value| !matches!(value, Value::Empty(..)));
    Ok(dict)
}

/// A value as a user writes it.
pub fn shown(value: Option<&Value>) -> String {
    let json = value.and_then(|value| serde_json::to_string(value).ok());
    json.map_or("not given".into(), |json| json.trim_matches('"').to_owned())
}
