//! What values of flags must be, and which of them were given.

use std::any::TypeId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, FromArgMatches, Id};
use serde::Serialize;
use serde_json::Value;

use super::paths;
use crate::device::DeviceList;

/// Settings as a user writes them, by name: that of their flag, with underscores.
pub type Words = BTreeMap<String, String>;

/// The values of settings, and the words of those that were given on the command line.
///
/// Both are needed: a setting that was not given gets its default only after a settings file and
/// the settings of a resumed run were asked.
#[derive(Clone, Debug)]
pub struct Given<T> {
    /// Every setting, by default where it was not given.
    pub values: T,
    /// What was given.
    pub words: Words,
}

impl<T> Given<T> {
    /// The device, if it was given.
    pub(super) fn device(&self) -> Option<DeviceList> {
        self.words.get("device")?.parse().ok()
    }
}

impl<T: Args> FromArgMatches for Given<T> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let is_given = |name: &String| matches.value_source(name) == Some(ValueSource::CommandLine);
        let word = |name: String| {
            let value = matches.get_raw(&name)?.next_back()?;
            Some((name, paths::to_text(value.as_ref())))
        };
        Ok(Self {
            values: T::from_arg_matches(matches)?,
            words: names::<T>()
                .into_iter()
                .filter(is_given)
                .filter_map(word)
                .collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<T: Args> Args for Given<T> {
    fn group_id() -> Option<Id> {
        T::group_id()
    }

    fn augment_args(command: Command) -> Command {
        T::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        T::augment_args_for_update(command)
    }
}

/// The names of the settings of `T`.
pub fn names<T: Args>() -> BTreeSet<String> {
    let command = T::augment_args(Command::new("settings"));
    command
        .get_arguments()
        .map(|flag| flag.get_id().to_string())
        .collect()
}

/// The names of the settings of `T` that are paths.
pub fn paths<T: Args>() -> BTreeSet<String> {
    let command = T::augment_args(Command::new("settings"));
    command
        .get_arguments()
        .filter(|flag| flag.get_value_parser().type_id() == TypeId::of::<PathBuf>())
        .map(|flag| flag.get_id().to_string())
        .collect()
}

/// The words that give `settings`, without those that are null.
///
/// # Panics
/// If they are not serialised as a flat object.
pub fn words(settings: &impl Serialize) -> Words {
    let value = serde_json::to_value(settings).expect("invariant: settings are plain values");
    let Value::Object(object) = value else {
        panic!("settings must be an object, got {value}");
    };
    object
        .into_iter()
        .filter_map(|(name, value)| Some((name, word(value)?)))
        .collect()
}

/// A value as a user writes it; `None` for null.
pub fn word(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        value => Some(value.to_string()),
    }
}

/// Reads settings from words, which must be known; the others get their defaults. Flags that
/// exclude each other on a command line may both be there, as they are in saved settings.
///
/// # Errors
/// If a value is wrong, or a setting is missing that one of them requires.
pub fn from_words<T: Args>(words: &Words) -> Result<T, WrongWord> {
    let command = Command::new("settings").no_binary_name(true);
    let command = T::augment_args(command).mut_args(|flag| flag.conflicts_with(Resettable::Reset));
    let flags = words.iter().map(|(name, word)| {
        let flag = format!("--{}={word}", name.replace('_', "-"));
        paths::from_text(&flag).into_os_string()
    });
    let matches = command
        .try_get_matches_from(flags)
        .map_err(WrongWord::new)?;
    T::from_arg_matches(&matches).map_err(WrongWord::new)
}

/// Why words are no settings.
#[derive(Clone, Debug)]
pub struct WrongWord {
    /// The setting, if it is known.
    pub name: Option<String>,
    /// What it must be, and what was given.
    pub why: String,
}

impl WrongWord {
    fn new(error: Error) -> Self {
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => Some(text.clone()),
            Some(ContextValue::Strings(texts)) => Some(texts.join(", ")),
            _ => None,
        };
        let flag = text(ContextKind::InvalidArg).unwrap_or_default();
        let flag = flag
            .split(' ')
            .next()
            .unwrap_or_default()
            .trim_start_matches("--");
        let rule = match (
            std::error::Error::source(&error),
            text(ContextKind::ValidValue),
        ) {
            _ if error.kind() == ErrorKind::MissingRequiredArgument => {
                Some("must be given as well".into())
            }
            (Some(source), _) => Some(source.to_string()),
            (None, Some(valid)) => Some(format!("must be one of {valid}")),
            (None, None) => None,
        };
        let got = text(ContextKind::InvalidValue);
        let why = match (rule, got) {
            (Some(rule), Some(got)) if !rule.contains(", got ") => format!("{rule}, got {got}"),
            (Some(rule), _) => rule,
            (None, _) => error.to_string(),
        };
        Self {
            name: Some(flag.replace('-', "_")).filter(|name| !name.is_empty()),
            why,
        }
    }
}

/// Reads a whole number of at least `least`.
pub fn at_least<N>(least: N) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync
where
    N: FromStr + PartialOrd + fmt::Display + Copy + Send + Sync,
{
    move |text| match text.parse() {
        Ok(number) if number >= least => Ok(number),
        Ok(_) => Err(format!("must be at least {least}")),
        Err(_) => Err(format!("must be a whole number of at least {least}")),
    }
}

/// Reads how often an image is halved.
pub fn depth(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(depth @ 1..=8) => Ok(depth),
        _ => Err("must be 1 to 8".into()),
    }
}

/// Reads a finite number above zero.
pub fn above_zero(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("must be a number above 0".into()),
    }
}

/// Reads a share of a whole that leaves something over.
pub fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..1.0).contains(&share) => Ok(share),
        _ => Err("must be at least 0 and below 1".into()),
    }
}

/// Reads a share of a whole, which may be all of it.
pub fn share_to_use(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("must be above 0 and at most 1".into()),
    }
}

/// Checks the form of an amount of memory; the program reads it.
pub fn amount(text: &str) -> Result<String, String> {
    if text
        .trim()
        .starts_with(|first: char| first.is_ascii_digit())
    {
        Ok(text.into())
    } else {
        Err("must be a number with or without a unit, as in 6GiB".into())
    }
}
