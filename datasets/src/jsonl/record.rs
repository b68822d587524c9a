//! One record before and after parsing.

use std::{marker::PhantomData, path::Path};

use serde::de::{DeserializeOwned, DeserializeSeed};
use serde_json::Deserializer;

use super::{error::JsonlError, lines::Line};

/// A record as it stands in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonlRecord {
    /// Its number, from 0.
    pub number: u64,
    /// The byte of the text at which it begins.
    pub offset: u64,
    /// Its bytes, without the line feed.
    pub text: Vec<u8>,
}

impl JsonlRecord {
    /// A line that was read, as record `number` of the file at `path`.
    ///
    /// # Errors
    /// If the line was longer than `max_line_len`.
    pub(super) fn new(
        path: &Path,
        number: u64,
        line: Line,
        max_line_len: usize,
    ) -> Result<Self, JsonlError> {
        match line {
            Line::Text { offset, bytes } => Ok(Self {
                number,
                offset,
                text: bytes,
            }),
            Line::TooLong { offset } => Err(JsonlError::TooLong {
                path: path.into(),
                record: number,
                offset,
                max_line_len,
            }),
        }
    }

    /// Makes a value of the record; `path` names its file in errors.
    ///
    /// # Errors
    /// If the record is not UTF-8, not JSON, or not a `T`.
    pub fn parse<T: DeserializeOwned>(&self, path: &Path) -> Result<T, JsonlError> {
        self.parse_as(PhantomData, path)
    }

    /// Makes of the record what `seed` describes.
    pub(super) fn parse_as<S, T>(&self, seed: S, path: &Path) -> Result<T, JsonlError>
    where
        S: for<'a> DeserializeSeed<'a, Value = T>,
    {
        let text = str::from_utf8(&self.text).map_err(|source| JsonlError::Utf8 {
            path: path.into(),
            record: self.number,
            offset: self.offset,
            source,
        })?;
        let mut parser = Deserializer::from_str(text);
        let value = seed.deserialize(&mut parser);
        value
            .and_then(|value| parser.end().map(|()| value))
            .map_err(|source| JsonlError::Parse {
                path: path.into(),
                record: self.number,
                offset: self.offset,
                source,
            })
    }
}
