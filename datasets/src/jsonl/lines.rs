//! Lines of text, one after the other, in bounded memory; and the records that they are.

use std::{
    io::{self, BufRead, Chain, Cursor, Read},
    marker::PhantomData,
    path::Path,
};

use memchr::memchr;
use serde::de::{DeserializeOwned, DeserializeSeed};
use serde_json::Deserializer;

use super::JsonlError;

/// What some editors put before UTF-8 text.
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];

/// A line that holds more than spaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A line within the limit.
    Text {
        /// Byte at which it begins.
        offset: u64,
        /// Its bytes without the line feed.
        bytes: Vec<u8>,
    },
    /// A line above the limit, of which nothing is kept.
    TooLong {
        /// Byte at which it begins.
        offset: u64,
    },
}

/// Reads lines and skips blank ones.
#[derive(Debug)]
pub(super) struct Lines<R> {
    source: R,
    offset: u64,
    /// Whether the rest of a line that was too long is still to be skipped.
    is_inside_line: bool,
}

/// Lines from the start of a file: the bytes that may have been a byte-order mark, and the rest.
pub(super) type LinesFromStart<R> = Lines<Chain<Cursor<Vec<u8>>, R>>;

impl<R: BufRead> LinesFromStart<R> {
    /// Reads from the start of a file, after its byte-order mark if it has one.
    pub(super) fn from_start(mut source: R) -> io::Result<Self> {
        let mut head = Vec::new();
        source.by_ref().take(3).read_to_end(&mut head)?;
        let mut offset = 0;
        if head == BYTE_ORDER_MARK {
            offset = head.len() as u64;
            head.clear();
        }
        Ok(Lines::at(Cursor::new(head).chain(source), offset))
    }
}

impl<R: BufRead> Lines<R> {
    /// Reads on from the start of a line, which is at byte `offset` of its file.
    pub(super) fn at(source: R, offset: u64) -> Self {
        Self {
            source,
            offset,
            is_inside_line: false,
        }
    }

    /// Bytes of the file up to where this has read.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next line, if it has at most `max_len` bytes; `None` at the end.
    ///
    /// Keeps at most twice `max_len` bytes, however long the line is, and returns
    /// as soon as the limit is passed.
    pub(super) fn next_line(&mut self, max_len: usize) -> io::Result<Option<Line>> {
        if !self.find_text()? {
            return Ok(None);
        }
        let offset = self.offset;
        let mut bytes = Vec::new();
        loop {
            let chunk = fill(&mut self.source)?;
            let end = memchr(b'\n', chunk);
            let piece = &chunk[..end.unwrap_or(chunk.len())];
            if piece.len() > max_len - bytes.len() {
                self.is_inside_line = true;
                return Ok(Some(Line::TooLong { offset }));
            }
            bytes.extend_from_slice(piece);
            let (is_last, len) = (end.is_some() || chunk.is_empty(), piece.len());
            self.consume(len + usize::from(end.is_some()));
            if is_last {
                return Ok(Some(Line::Text { offset, bytes }));
            }
        }
    }

    /// Skips the next line and returns where it begins; `None` at the end.
    pub(super) fn skip_line(&mut self) -> io::Result<Option<u64>> {
        if !self.find_text()? {
            return Ok(None);
        }
        let offset = self.offset;
        self.finish_line()?;
        Ok(Some(offset))
    }

    /// Goes to the next byte that is no space; `false` at the end.
    fn find_text(&mut self) -> io::Result<bool> {
        if std::mem::take(&mut self.is_inside_line) {
            self.finish_line()?;
        }
        loop {
            let chunk = fill(&mut self.source)?;
            if chunk.is_empty() {
                return Ok(false);
            }
            let is_space = |byte: &&u8| matches!(**byte, b' ' | b'\t' | b'\r' | b'\n');
            let num_spaces = chunk.iter().take_while(is_space).count();
            let found = num_spaces < chunk.len();
            self.consume(num_spaces);
            if found {
                return Ok(true);
            }
        }
    }

    /// Goes behind the next line feed, or to the end.
    fn finish_line(&mut self) -> io::Result<()> {
        loop {
            let chunk = fill(&mut self.source)?;
            let end = memchr(b'\n', chunk);
            let is_last = end.is_some() || chunk.is_empty();
            let len = end.map_or(chunk.len(), |at| at + 1);
            self.consume(len);
            if is_last {
                return Ok(());
            }
        }
    }

    fn consume(&mut self, len: usize) {
        self.source.consume(len);
        self.offset += len as u64;
    }
}

/// The bytes at hand, or the next ones; none at the end.
fn fill(source: &mut impl BufRead) -> io::Result<&[u8]> {
    while let Err(error) = source.fill_buf() {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    source.fill_buf()
}

/// A record as it is in its file.
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
        let value = value.and_then(|value| parser.end().map(|()| value));
        value.map_err(|source| {
            if self.begins_array_of_records() {
                return JsonlError::JsonArray { path: path.into() };
            }
            JsonlError::Parse {
                path: path.into(),
                record: self.number,
                offset: self.offset,
                source,
            }
        })
    }

    /// Whether this is the first line of a file that is one array of objects, on one line or many.
    pub(crate) fn begins_array_of_records(&self) -> bool {
        let after_bracket = self.text.strip_prefix(b"[").map(<[u8]>::trim_ascii);
        self.number == 0 && after_bracket.is_some_and(|text| matches!(text, [] | [b'{', ..]))
    }
}
