use std::any::Any;

use burn::data::dataset::DatasetError;

/// Why an item could not be loaded.
pub(super) enum Failure {
    Error(DatasetError),
    Panic(String),
}

impl Failure {
    /// In words, with causes.
    pub(super) fn reason(&self) -> String {
        match self {
            Self::Panic(message) => format!("panicked: {message}"),
            Self::Error(error) => {
                let mut reason = error.to_string();
                // burn's error says what its source says, so the causes begin one below.
                let mut cause = std::error::Error::source(error).and_then(|error| error.source());
                while let Some(error) = cause {
                    reason.push_str(": ");
                    reason.push_str(&error.to_string());
                    cause = error.source();
                }
                reason
            }
        }
    }
}

/// What a panic said.
pub(super) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into())
}
