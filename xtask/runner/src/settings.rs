//! The resolved settings of a command: defaults, then the settings of a resumed run, then a
//! settings file, then flags; each wins over those before it.
//!
//! What there is to set, with defaults and rules, is declared with the flags, in `xtask::cli`.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use burn_memopt::memory::Bytes;
use burn_memopt::precision::Precision;
use clap::Args;
use figment::error::Kind;
use figment::providers::{Format, Json, Toml, Yaml};
use figment::{Figment, Provider};
use serde_json::Value;
use xtask::cli::paths::from_text;
use xtask::cli::values::{Given, Words, from_words, names, paths, word, words};

pub use xtask::cli::{
    ClipSettings, DecodeSettings, FlowCompletionSettings, GanSettings, ImageSettings,
    InferSettings, ModelSettings, ProPainterSettings, RunSettings, Settings, TilingSettings,
    UNetData, UNetNetworkSettings, UNetSettings, WatermarkSettings,
};

use crate::choices::{PrecisionChoice, TrainPrecisionChoice};
use crate::cli::{InferFlags, RunOptions, TrainFlags, Variants};
use crate::interrupt::quoted;
use crate::run_dir::{MODEL_KEY, VERSION_KEY};

pub use saved::{is_same, open_run, open_run_with, start_here, start_in, to_save};

mod saved;
#[cfg(test)]
mod tests;

/// Wrong usage: the command ends with exit code 2.
#[derive(Debug)]
pub struct UsageError(pub String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Settings on top of each other, and where each came from.
struct Layers<'a> {
    variants: Vec<Variants>,
    words: Words,
    /// The words of each settings file, the last on top.
    files: Vec<(&'a Path, Words)>,
}

impl<'a> Layers<'a> {
    /// The settings of a resumed run, or none.
    fn new(saved: Words, variants: Vec<Variants>) -> Self {
        Self {
            variants,
            words: saved,
            files: Vec::new(),
        }
    }

    /// Lets the settings file of `model` win over what is there.
    ///
    /// # Errors
    /// [`UsageError`] if a key is unknown, a value wrong, or it says the same in two ways: it names
    /// the file. Another error if it cannot be read.
    fn add_file<T: Args>(&mut self, path: &'a Path, model: &str) -> Result<()> {
        let words = read_file::<T>(path, model)?;
        let add = || -> Result<()> {
            check_names::<T>(&words)?;
            for [one, other] in &self.variants {
                if names_any(&words, one) && names_any(&words, other) {
                    bail!(UsageError(format!(
                        "give either {} or {}, got both",
                        one.join(" and "),
                        other.join(" and "),
                    )));
                }
            }
            Ok(())
        };
        add().with_context(|| format!("cannot use the settings in {}", path.display()))?;
        self.add(&words);
        self.files.push((path, words));
        Ok(())
    }

    /// Lets `words` win over what is there.
    fn add(&mut self, words: &Words) {
        for [one, other] in &self.variants {
            for (named, taken_back) in [(one, other), (other, one)] {
                if names_any(words, named) {
                    self.words
                        .retain(|name, _| !taken_back.contains(&name.as_str()));
                }
            }
        }
        self.words.extend(words.clone());
    }

    /// The settings, where `given` wins over all.
    ///
    /// # Errors
    /// [`UsageError`] if a value is wrong: it names the flag, or the file and key.
    fn finish<T: Args>(mut self, given: &Words) -> Result<T> {
        self.add(given);
        from_words(&self.words).map_err(|wrong| {
            let name = wrong.name.unwrap_or_default();
            let flag = format!("--{}", name.replace('_', "-"));
            let mut files = self.files.iter().filter(|_| !given.contains_key(&name));
            let place = match files.rfind(|(_, words)| words.contains_key(&name)) {
                Some((path, _)) => format!("{name} in {}", path.display()),
                None => flag,
            };
            let colon = if wrong.why.starts_with("must") {
                ""
            } else {
                ":"
            };
            UsageError(format!("{place}{colon} {}", wrong.why)).into()
        })
    }
}

fn names_any(words: &Words, names: &[&str]) -> bool {
    names.iter().any(|name| words.contains_key(*name))
}

/// Puts together the settings of a run from `saved`, those of a run that is resumed, the file that
/// `flags` name, and `flags`. Returns what the file and the flags give, too.
///
/// # Errors
/// [`UsageError`] if a key is unknown or a value wrong: it names the flag or the file and key.
/// Another error if the file cannot be read.
pub fn resolve<M: ModelSettings>(
    flags: &TrainFlags<M>,
    saved: Option<&Settings<M>>,
) -> Result<(Settings<M>, Words)> {
    let variants = [RunSettings::VARIANTS, M::VARIANTS].concat();
    let mut layers = Layers::new(saved.map(words).unwrap_or_default(), variants);
    if let Some(path) = &flags.options.config {
        layers.add_file::<Settings<M>>(path, M::MODEL)?;
    }
    let named = &flags.settings;
    let files = layers.files.iter().map(|(_, words)| words);
    let given = files.chain([&named.words]).flatten();
    let given = given.map(|(name, word)| (name.clone(), word.clone()));
    let given = given.collect();
    let mut settings: Settings<M> = layers.finish(&named.words)?;
    settings.run.precision = with_amp(&flags.options, named, settings.run.precision)?;
    let (flags, is_given) = settings.model.budgeted();
    let stages = settings.model.stages();
    if stages.is_some_and(|stages| stages.budget.is_some()) && !is_given {
        bail!(UsageError(format!(
            "--budget is for {flags}; give that too, or leave --budget out"
        )));
    }
    if let Some(saved) = saved {
        check_kept(&settings, saved)?;
    }
    Ok((settings, given))
}

/// The settings of a run for which nothing but `given` is given.
///
/// # Errors
/// [`UsageError`] if one is unknown or wrong.
pub fn settings_of<M: ModelSettings>(given: &Words) -> Result<Settings<M>> {
    check_names::<Settings<M>>(given)?;
    Layers::new(Words::new(), Vec::new()).finish(given)
}

/// The flags that make these settings out of the defaults.
pub fn flags<M: ModelSettings>(settings: &Settings<M>) -> Vec<String> {
    let all = words(settings);
    let is_changed = |(name, word): &(&String, &String)| {
        let mut others = all.clone();
        others.remove(*name);
        // A setting that another requires has no default.
        let default = settings_of::<M>(&others).ok();
        default
            .and_then(|default| words(&default).remove(*name))
            .as_ref()
            != Some(*word)
    };
    let flag = |(name, word): (&String, &String)| {
        let name = name.replace('_', "-");
        match word.as_str() {
            "true" | "false" => format!("--{name}={word}"),
            word => format!("--{name} {}", quoted(word)),
        }
    };
    all.iter().filter(is_changed).map(flag).collect()
}

/// Refuses to resume `saved` with a different model or different data.
fn check_kept<M: ModelSettings>(settings: &Settings<M>, saved: &Settings<M>) -> Result<()> {
    let (new, old) = (words(settings), words(saved));
    let paths = paths::<Settings<M>>();
    for key in M::KEPT_ON_RESUME.iter().chain(RunSettings::KEPT_ON_RESUME) {
        let [new, old] =
            [&new, &old].map(|words| words.get(*key).map_or("not given", String::as_str));
        let is_same_file = || paths.contains(*key) && is_same(&from_text(new), &from_text(old));
        if new != old && !is_same_file() {
            bail!(UsageError(format!(
                "a resumed run keeps its {key}: it is {old}, got {new}; leave it out, or start a new run"
            )));
        }
    }
    Ok(())
}

/// The precision that `--use-amp` and `--no-amp` make of the one chosen otherwise.
fn with_amp<T>(
    options: &RunOptions,
    given: &Given<T>,
    chosen: TrainPrecisionChoice,
) -> Result<TrainPrecisionChoice> {
    use TrainPrecisionChoice::{Auto, F16, F32};
    let (flag, other) = match (options.use_amp, options.no_amp) {
        (true, _) if matches!(chosen, Auto | F32) => ("--use-amp", F16),
        (_, true) if chosen != F32 => ("--no-amp", F32),
        _ => return Ok(chosen),
    };
    if given.words.contains_key("precision") {
        bail!(UsageError(format!(
            "{flag} contradicts --precision {chosen}; leave one out"
        )));
    }
    Ok(other)
}

/// Puts the settings of `infer` together from the file that `flags` name, and `flags`, which win.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_infer(flags: &InferFlags) -> Result<InferSettings> {
    const VARIANTS: Variants = [&["batch_size"], &["auto_batch_size"]];
    let mut layers = Layers::new(Words::new(), vec![VARIANTS]);
    if let Some(path) = &flags.config {
        layers.add_file::<InferSettings>(path, "unet")?;
    }
    let settings: InferSettings = layers.finish(&flags.settings.words)?;
    let (least, most) = (settings.min_batch_size, settings.max_batch_size);
    if most < least {
        bail!(UsageError(format!(
            "--max-batch-size must be at least --min-batch-size, {least}, got {most}"
        )));
    }
    budget(settings.budget.as_deref())?;
    Ok(settings)
}

/// The amount that `--budget` gives, if it is given.
///
/// # Errors
/// [`UsageError`] if it is no amount of memory.
pub fn budget(flag: Option<&str>) -> Result<Option<Bytes>> {
    let parsed = flag.map(str::parse::<Bytes>).transpose();
    parsed.map_err(|why| UsageError(format!("--budget: {why}")).into())
}

/// The library's precision of a choice.
pub fn precision_of(choice: PrecisionChoice) -> Precision {
    match choice {
        PrecisionChoice::F32 => Precision::F32,
        PrecisionChoice::F16 => Precision::F16,
        PrecisionChoice::Bf16 => Precision::Bf16,
    }
}

fn check_names<T: Args>(words: &Words) -> Result<()> {
    let known = names::<T>();
    match words.keys().find(|name| !known.contains(*name)) {
        None => Ok(()),
        Some(name) => {
            let known: Vec<_> = known.iter().map(String::as_str).collect();
            let known = known.join(", ");
            bail!(UsageError(format!(
                "unknown key {name:?}; the known keys are {known}"
            )))
        }
    }
}

/// Reads a settings file of `model` by its extension.
fn read_file<T: Args>(path: &Path, model: &str) -> Result<Words> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the settings file {}", path.display()))?;
    let extension = path.extension().unwrap_or_default();
    let parsed = match extension.to_str().unwrap_or_default() {
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
    start_here(path, &mut settings, &paths::<T>())?;
    // A saved config.json may start another run of the same model.
    settings.remove(VERSION_KEY);
    match settings.remove(MODEL_KEY).and_then(word) {
        Some(other) if other != model => bail!(UsageError(format!(
            "{} holds the settings of {other}, got the model {model}",
            path.display(),
        ))),
        _ => Ok(words(&settings)),
    }
}

fn parse(source: impl Provider) -> Result<serde_json::Map<String, Value>, Kind> {
    Figment::from(source).extract().map_err(|error| error.kind)
}
