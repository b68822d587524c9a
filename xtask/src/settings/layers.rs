//! Settings from several sources, laid on top of each other.

use std::path::Path;

use anyhow::{Context, Result, bail};
use figment::error::Kind;
use figment::providers::{Format, Json, Serialized, Toml, Yaml};
use figment::value::{Dict, Value};
use figment::{Figment, Provider};
use serde::Serialize;

use super::{TrainSettings, UsageError};
use crate::choices::LossChoice;
use crate::run_dir::{MODEL_KEY, VERSION_KEY};

/// Pairs of ways to say the same; naming one takes the other back.
const ALTERNATIVES: [[&[&str]; 2]; 2] = [
    [&["steps"], &["epochs"]],
    [&["data", "targets"], &["images", "masks"]],
];

/// Settings on top of each other, and where each came from.
pub struct Layers {
    merged: Dict,
    places: Vec<(String, Dict)>,
}

impl Layers {
    /// Begins with the settings of a resumed run, or the defaults.
    pub fn new(saved: Option<&TrainSettings>) -> Result<Self> {
        let mut base = to_dict(saved.unwrap_or(&TrainSettings::default()))?;
        if saved.is_none() {
            // Its default depends on the data.
            base.remove("loss");
        }
        Ok(Self {
            merged: base,
            places: Vec::new(),
        })
    }

    /// Lets `layer` win over what is there.
    pub fn add(&mut self, place: String, layer: Dict) -> Result<()> {
        for [one, other] in ALTERNATIVES {
            let names = |keys: &[&str]| keys.iter().any(|key| layer.contains_key(*key));
            match (names(one), names(other)) {
                (true, true) => bail!(UsageError(format!(
                    "{place} must give either {} or {}, got both",
                    one.join(" and "),
                    other.join(" and "),
                ))),
                (true, false) => self.merged.retain(|key, _| !other.contains(&key.as_str())),
                (false, true) => self.merged.retain(|key, _| !one.contains(&key.as_str())),
                (false, false) => {}
            }
        }
        self.merged.extend(layer.clone());
        self.places.push((place, layer));
        Ok(())
    }

    /// The settings as far as they are known now.
    pub fn extract(&self) -> Result<TrainSettings> {
        let mut merged = self.merged.clone();
        if !merged.contains_key("loss") {
            let loss = if merged.contains_key("images") {
                LossChoice::BceDice
            } else {
                LossChoice::Count
            };
            merged.extend([("loss".into(), Value::from(loss.to_string()))]);
        }
        let figment = Figment::from(Serialized::defaults(merged));
        figment
            .extract()
            .map_err(|error| UsageError(explain(&error)).into())
    }

    /// How to call the setting `key` when its value is refused.
    pub fn place(&self, key: &str) -> String {
        let last = self.places.len();
        let mut layers = self.places.iter();
        match layers.rposition(|(_, layer)| layer.contains_key(key)) {
            Some(at) if at + 1 < last => format!("{key} in {}", self.places[at].0),
            _ => format!("--{}", key.replace('_', "-")),
        }
    }
}

/// Says what is wrong with a settings file, naming the key.
fn explain(error: &figment::Error) -> String {
    match &error.kind {
        Kind::UnknownField(key, known) => {
            format!(
                "unknown key {key:?}; the known keys are {}",
                known.join(", ")
            )
        }
        kind => format!("{}: {kind}", error.path.join(".")),
    }
}

/// Reads a settings file by its extension.
pub fn read_file(path: &Path) -> Result<Dict> {
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
        Some(model) if model.as_str() != Some("unet") => bail!(UsageError(format!(
            "{} holds the settings of {}, got the model unet",
            path.display(),
            shown(Some(&model)),
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
