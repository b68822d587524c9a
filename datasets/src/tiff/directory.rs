//! One page's directory: its tags, read and checked without touching pixels.

use std::path::Path;

use super::{error::TiffStackError, format::Format, regular::Template, source::Source};

/// Strips or tiles of one page; beyond this a directory is taken for corrupt.
const MAX_CHUNKS: u64 = 1 << 17;
/// Tags of one page; classic TIFF cannot hold more.
const MAX_TAGS: u64 = u16::MAX as u64;
/// The first read of a directory; most fit into it.
const FIRST_READ: usize = 512;

/// The directory of one page.
pub(super) struct Directory<'a> {
    path: &'a Path,
    source: &'a Source,
    format: Format,
    pub(super) page: usize,
    pub(super) offset: u64,
    /// What was read at once from `offset` on, at least the whole directory.
    bytes: Vec<u8>,
    num_tags: usize,
}

/// One tag: the type and number of its values, and where they lie.
struct Field {
    kind: u64,
    count: u64,
    /// Byte offset of the values in the file, or of the field itself.
    values_at: u64,
}

impl<'a> Directory<'a> {
    /// Reads the directory at `offset`, with one read for most files.
    pub(super) fn read(
        path: &'a Path,
        source: &'a Source,
        format: Format,
        page: usize,
        offset: u64,
    ) -> Result<Self, TiffStackError> {
        let mut directory = Self {
            path,
            source,
            format,
            page,
            offset,
            bytes: Vec::new(),
            num_tags: 0,
        };
        let count_len = format.count_len();
        directory.check_inside("its directory", offset, count_len as u64)?;
        let rest = source.len() - offset;
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
        let format = self.format;
        format.count_len() + self.num_tags * format.tag_len() + format.word_len()
    }

    /// What directories look like that differ from this one only in the one number of the tag
    /// `data` and in the next directory; `None` if that number does not stand in the directory.
    pub(super) fn template(&self, data: u16) -> Option<Template> {
        let field = self.field(data).filter(|field| field.count == 1)?;
        let (end, word_len) = (self.len(), self.format.word_len());
        let start = usize::try_from(field.values_at.checked_sub(self.offset)?).ok()?;
        let data_at = start..start + self.unsigned_len(data, &field).ok()?;
        let next_at = end - word_len..end;
        (data_at.end <= next_at.start).then(|| Template {
            format: self.format,
            bytes: self.bytes[..end].into(),
            data_at,
            next_at,
        })
    }

    /// The offset of the next directory; 0 after the last.
    pub(super) fn next(&self) -> u64 {
        let end = self.len();
        let start = end - self.format.word_len();
        self.format.number(&self.bytes[start..end])
    }

    /// Refuses a tag whose values lie past the end of the file.
    pub(super) fn check_values(&self, tag: u16) -> Result<(), TiffStackError> {
        let Some(field) = self.field(tag) else {
            return Ok(());
        };
        let len = field
            .count
            .saturating_mul(kind_len(field.kind).unwrap_or(1));
        self.check_inside("a tag's values", field.values_at, len)
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
        Ok(Some(self.format.number(&value[..len])))
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
            values.map(|value| self.format.number(value)).collect(),
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
            Some(end) if end <= self.source.len() => Ok(()),
            _ => Err(self.truncated(what, offset, len)),
        }
    }

    /// Length of the whole file.
    pub(super) fn file_len(&self) -> u64 {
        self.source.len()
    }

    fn field(&self, tag: u16) -> Option<Field> {
        let (format, word) = (self.format, self.format.word_len());
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
        let values_at = match fits {
            true => inline_at,
            false => format.number(&field[4 + word..]),
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

    /// Copies file bytes that are known to lie inside the file.
    fn fill(&self, buffer: &mut [u8], offset: u64) -> Result<(), TiffStackError> {
        let inside = offset
            .checked_sub(self.offset)
            .and_then(|from| self.bytes.get(from as usize..)?.get(..buffer.len()));
        if let Some(bytes) = inside {
            buffer.copy_from_slice(bytes);
            return Ok(());
        }
        match self.source.fill_at(buffer, offset) {
            Ok(filled) if filled == buffer.len() => Ok(()),
            Ok(_) => Err(self.truncated("a directory", offset, buffer.len() as u64)),
            Err(source) => Err(TiffStackError::Read {
                path: self.path.into(),
                page: self.page,
                offset,
                source,
            }),
        }
    }

    fn truncated(&self, what: &'static str, offset: u64, len: u64) -> TiffStackError {
        TiffStackError::Truncated {
            path: self.path.into(),
            page: self.page,
            what,
            offset,
            len,
            file_len: self.source.len(),
        }
    }

    pub(super) fn corrupt(&self, reason: String) -> TiffStackError {
        TiffStackError::CorruptDirectory {
            path: self.path.into(),
            page: self.page,
            offset: self.offset,
            reason,
        }
    }

    pub(super) fn unsupported(&self, what: String) -> TiffStackError {
        TiffStackError::Unsupported {
            path: self.path.into(),
            page: self.page,
            offset: self.offset,
            what,
        }
    }

    /// The file, for errors.
    pub(super) fn path(&self) -> &'a Path {
        self.path
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
