//! One page's directory: its tags, read and checked without touching pixels; and how a file
//! stores numbers.

use std::path::Path;

use super::{error::TiffStackError, regular::Template};
use crate::shared_file::SharedFile;

/// Strips or tiles of one page; beyond this a directory is taken for corrupt.
const MAX_CHUNKS: u64 = 1 << 17;
/// Tags of one page; classic TIFF cannot hold more.
const MAX_TAGS: u64 = u16::MAX as u64;
/// The first read of a directory; most fit into it.
const FIRST_READ: usize = 512;

/// How numbers and directories are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) big_endian: bool,
    pub(super) big_tiff: bool,
}

impl Format {
    /// The unsigned number in `bytes` (at most eight of them).
    pub(super) fn number(self, bytes: &[u8]) -> u64 {
        let push = |number, byte: &u8| number << 8 | u64::from(*byte);
        if self.big_endian {
            bytes.iter().fold(0, push)
        } else {
            bytes.iter().rev().fold(0, push)
        }
    }

    /// Appends `value` in `len` bytes.
    pub(super) fn push(self, bytes: &mut Vec<u8>, value: u64, len: usize) {
        if self.big_endian {
            bytes.extend(&value.to_be_bytes()[8 - len..]);
        } else {
            bytes.extend(&value.to_le_bytes()[..len]);
        }
    }

    /// Bytes of the number of tags in a directory.
    pub(super) fn count_len(self) -> usize {
        if self.big_tiff { 8 } else { 2 }
    }

    /// Bytes of an offset, or of the values that fit into a tag.
    pub(super) fn word_len(self) -> usize {
        if self.big_tiff { 8 } else { 4 }
    }

    /// Bytes of a tag.
    pub(super) fn tag_len(self) -> usize {
        4 + 2 * self.word_len()
    }

    /// A header whose first page is the directory at `offset`.
    pub(super) fn header(self, offset: u64) -> Vec<u8> {
        let mut header = if self.big_endian { *b"MM" } else { *b"II" }.to_vec();
        if self.big_tiff {
            self.push(&mut header, 43, 2);
            self.push(&mut header, 8, 2);
            self.push(&mut header, 0, 2);
        } else {
            self.push(&mut header, 42, 2);
        }
        self.push(&mut header, offset, self.word_len());
        header
    }

    /// Parses the header; returns the format and the first directory's offset.
    pub(super) fn parse(head: &[u8]) -> Result<(Self, u64), String> {
        let big_endian = match head.get(..2) {
            Some(b"II") => false,
            Some(b"MM") => true,
            Some(other) => return Err(format!("it starts with the bytes {other:02x?}")),
            None => return Err(format!("it holds {} bytes", head.len())),
        };
        let order = Self {
            big_endian,
            big_tiff: false,
        };
        let field = |start: usize, len: usize| {
            let bytes = head.get(start..start + len);
            bytes
                .map(|bytes| order.number(bytes))
                .ok_or_else(|| "its header is cut off".to_string())
        };
        match field(2, 2)? {
            42 => Ok((order, field(4, 4)?)),
            43 if field(4, 2)? == 8 && field(6, 2)? == 0 => Ok((
                Self {
                    big_tiff: true,
                    ..order
                },
                field(8, 8)?,
            )),
            43 => Err("its BigTIFF header is corrupt".into()),
            version => Err(format!("its version number is {version}, not 42 or 43")),
        }
    }
}

/// A file whose header was read.
#[derive(Debug, Clone, Copy)]
pub(super) struct TiffFile<'a> {
    pub(super) path: &'a Path,
    pub(super) source: &'a SharedFile,
    pub(super) format: Format,
}

/// The directory of one page.
pub(super) struct Directory<'a> {
    file: TiffFile<'a>,
    pub(super) page: usize,
    pub(super) offset: u64,
    /// What was read at once from `offset` on, at least the whole directory.
    bytes: Vec<u8>,
    num_tags: usize,
}

/// One tag: the type and number of its values, and where they are.
struct Field {
    kind: u64,
    count: u64,
    /// Byte offset of the values in the file, or of the field itself.
    values_at: u64,
}

impl<'a> Directory<'a> {
    /// Reads the directory at `offset`, with one read for most files.
    pub(super) fn read(
        file: TiffFile<'a>,
        page: usize,
        offset: u64,
    ) -> Result<Self, TiffStackError> {
        let format = file.format;
        let mut directory = Self {
            file,
            page,
            offset,
            bytes: Vec::new(),
            num_tags: 0,
        };
        let count_len = format.count_len();
        directory.check_inside("its directory", offset, count_len as u64)?;
        let rest = file.source.len() - offset;
        let mut bytes = vec![0; FIRST_READ.min(usize::try_from(rest).unwrap_or(FIRST_READ))];
        directory.fill(&mut bytes, offset)?;
        let num_tags = format.number(&bytes[..count_len]);
        if num_tags > MAX_TAGS {
            return Err(directory.corrupt(format!("it claims {num_tags} tags")));
        }
        directory.num_tags = num_tags as usize;
        directory.check_inside("its directory", offset, directory.len() as u64)?;
        let have = bytes.len();
        if have < directory.len() {
            bytes.resize(directory.len(), 0);
            directory.fill(&mut bytes[have..], offset + have as u64)?;
        }
        directory.bytes = bytes;
        Ok(directory)
    }

    /// Bytes of the directory, without the values it points to.
    pub(super) fn len(&self) -> usize {
        let format = self.file.format;
        format.count_len() + self.num_tags * format.tag_len() + format.word_len()
    }

    /// What directories look like that differ from this one only in the one number of the tag
    /// `data` and in the next directory; `None` if that number is not in the directory.
    pub(super) fn template(&self, data: u16) -> Option<Template> {
        let field = self.field(data).filter(|field| field.count == 1)?;
        let (end, word_len) = (self.len(), self.file.format.word_len());
        let start = usize::try_from(field.values_at.checked_sub(self.offset)?).ok()?;
        let data_at = start..start + self.unsigned_len(data, &field).ok()?;
        let next_at = end - word_len..end;
        (data_at.end <= next_at.start).then(|| Template {
            format: self.file.format,
            bytes: self.bytes[..end].into(),
            data_at,
            next_at,
        })
    }

    /// The offset of the next directory; 0 after the last.
    pub(super) fn next(&self) -> u64 {
        let end = self.len();
        let start = end - self.file.format.word_len();
        self.file.format.number(&self.bytes[start..end])
    }

    /// Refuses a tag whose values are past the end of the file.
    pub(super) fn check_values(&self, tag: u16) -> Result<(), TiffStackError> {
        let Some(field) = self.field(tag) else {
            return Ok(());
        };
        let len = field
            .count
            .saturating_mul(kind_len(field.kind).unwrap_or(1));
        self.check_inside("a tag's values", field.values_at, len)
    }

    /// The number of the tag's values.
    pub(super) fn count(&self, tag: u16) -> Option<u64> {
        self.field(tag).map(|field| field.count)
    }

    /// The tag's first value.
    pub(super) fn number(&self, tag: u16) -> Result<Option<u64>, TiffStackError> {
        let Some(field) = self.field(tag) else {
            return Ok(None);
        };
        if field.count == 0 {
            return Err(self.corrupt(format!("its tag {tag} holds no value")));
        }
        let len = self.unsigned_len(tag, &field)?;
        let mut value = [0; 8];
        self.check_inside("a tag's values", field.values_at, len as u64)?;
        self.fill(&mut value[..len], field.values_at)?;
        Ok(Some(self.file.format.number(&value[..len])))
    }

    /// All values of the tag.
    pub(super) fn values(&self, tag: u16) -> Result<Option<Vec<u64>>, TiffStackError> {
        let Some(field) = self.field(tag) else {
            return Ok(None);
        };
        let each = self.unsigned_len(tag, &field)?;
        if field.count > MAX_CHUNKS {
            let count = field.count;
            return Err(self.corrupt(format!("its tag {tag} claims {count} values")));
        }
        let len = field.count as usize * each;
        self.check_inside("a tag's values", field.values_at, len as u64)?;
        let mut bytes = vec![0; len];
        self.fill(&mut bytes, field.values_at)?;
        let values = bytes.chunks_exact(each);
        Ok(Some(
            values.map(|value| self.file.format.number(value)).collect(),
        ))
    }

    /// The text of the tag, at most its first 4096 bytes.
    pub(super) fn text(&self, tag: u16) -> Result<Option<String>, TiffStackError> {
        let Some(field) = self.field(tag) else {
            return Ok(None);
        };
        let mut text = vec![0; field.count.min(4096) as usize];
        self.check_inside("its description", field.values_at, text.len() as u64)?;
        self.fill(&mut text, field.values_at)?;
        Ok(Some(String::from_utf8_lossy(&text).into_owned()))
    }

    /// Refuses `len` bytes at `offset` if the file does not hold them.
    pub(super) fn check_inside(
        &self,
        what: &'static str,
        offset: u64,
        len: u64,
    ) -> Result<(), TiffStackError> {
        match offset.checked_add(len) {
            Some(end) if end <= self.file.source.len() => Ok(()),
            _ => Err(self.truncated(what, offset, len)),
        }
    }

    /// Length of the whole file.
    pub(super) fn file_len(&self) -> u64 {
        self.file.source.len()
    }

    fn field(&self, tag: u16) -> Option<Field> {
        let (format, word) = (self.file.format, self.file.format.word_len());
        let start = format.count_len();
        let tags = &self.bytes[start..self.len() - word];
        let position = tags
            .chunks_exact(format.tag_len())
            .position(|field| format.number(&field[..2]) == u64::from(tag))?;
        let field = &tags[position * format.tag_len()..][..format.tag_len()];
        let (kind, count) = (
            format.number(&field[2..4]),
            format.number(&field[4..4 + word]),
        );
        let inline_at = self.offset + (start + position * format.tag_len() + 4 + word) as u64;
        let fits = count.saturating_mul(kind_len(kind).unwrap_or(1)) <= word as u64;
        let values_at = if fits {
            inline_at
        } else {
            format.number(&field[4 + word..])
        };
        Some(Field {
            kind,
            count,
            values_at,
        })
    }

    /// Bytes of each value of a tag of unsigned integers.
    fn unsigned_len(&self, tag: u16, field: &Field) -> Result<usize, TiffStackError> {
        match (field.kind, kind_len(field.kind)) {
            (1 | 3 | 4 | 13 | 16 | 18, Some(len)) => Ok(len as usize),
            (kind, _) => Err(self.corrupt(format!("its tag {tag} has the type {kind}"))),
        }
    }

    /// Copies file bytes that are known to be inside the file.
    fn fill(&self, buffer: &mut [u8], offset: u64) -> Result<(), TiffStackError> {
        let inside = offset
            .checked_sub(self.offset)
            .and_then(|from| self.bytes.get(from as usize..)?.get(..buffer.len()));
        if let Some(bytes) = inside {
            buffer.copy_from_slice(bytes);
            return Ok(());
        }
        match self.file.source.fill_at(buffer, offset) {
            Ok(filled) if filled == buffer.len() => Ok(()),
            Ok(_) => Err(self.truncated("a directory", offset, buffer.len() as u64)),
            Err(source) => Err(TiffStackError::Read {
                path: self.file.path.into(),
                page: self.page,
                offset,
                source,
            }),
        }
    }

    fn truncated(&self, what: &'static str, offset: u64, len: u64) -> TiffStackError {
        TiffStackError::Truncated {
            path: self.file.path.into(),
            page: self.page,
            what,
            offset,
            len,
            file_len: self.file.source.len(),
        }
    }

    pub(super) fn corrupt(&self, reason: String) -> TiffStackError {
        TiffStackError::CorruptDirectory {
            path: self.file.path.into(),
            page: self.page,
            offset: self.offset,
            reason,
        }
    }

    pub(super) fn unsupported(&self, what: String) -> TiffStackError {
        TiffStackError::Unsupported {
            path: self.file.path.into(),
            page: self.page,
            offset: self.offset,
            what,
        }
    }

    /// The file.
    pub(super) fn file(&self) -> TiffFile<'a> {
        self.file
    }

    /// The file, for errors.
    pub(super) fn path(&self) -> &'a Path {
        self.file.path
    }
}

/// Bytes of one value, for the types of TIFF and BigTIFF.
fn kind_len(kind: u64) -> Option<u64> {
    match kind {
        1 | 2 | 6 | 7 => Some(1),
        3 | 8 => Some(2),
        4 | 9 | 11 | 13 => Some(4),
        5 | 10 | 12 | 16..=18 => Some(8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_parses_to_what_it_was_made_of() {
        for big_endian in [false, true] {
            for big_tiff in [false, true] {
                let format = Format {
                    big_endian,
                    big_tiff,
                };
                let parsed = Format::parse(&format.header(0x0102_0304));
                assert_eq!(parsed, Ok((format, 0x0102_0304)));
            }
        }
    }

    #[test]
    fn a_png_header_is_refused_by_its_first_bytes() {
        let error = Format::parse(b"\x89PNG\r\n\x1a\n").unwrap_err();
        assert_eq!(error, "it starts with the bytes [89, 50]");
    }
}
