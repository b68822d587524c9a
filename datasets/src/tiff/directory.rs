//! One page's directory: its tags, read and checked without touching pixels.

use std::path::Path;

use super::{error::TiffStackError, layout::Format, source::SharedFile};

/// Strips or tiles of one page; beyond this a directory is taken for corrupt.
const MAX_CHUNKS: u64 = 1 << 17;
/// Tags of one page; classic TIFF cannot hold more.
const MAX_TAGS: u64 = u16::MAX as u64;
/// The first read of a directory; most fit into it.
const FIRST_READ: usize = 512;

const IMAGE_WIDTH: u16 = 256;
const IMAGE_LENGTH: u16 = 257;
const BITS_PER_SAMPLE: u16 = 258;
const COMPRESSION: u16 = 259;
const PHOTOMETRIC: u16 = 262;
const IMAGE_DESCRIPTION: u16 = 270;
const STRIP_OFFSETS: u16 = 273;
const SAMPLES_PER_PIXEL: u16 = 277;
const STRIP_BYTE_COUNTS: u16 = 279;
const TILE_WIDTH: u16 = 322;
const TILE_LENGTH: u16 = 323;
const TILE_OFFSETS: u16 = 324;
const TILE_BYTE_COUNTS: u16 = 325;
const SAMPLE_FORMAT: u16 = 339;

/// Every tag that the decoder reads.
const DECODER_TAGS: [u16; 19] = [
    256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338, 339, 347, 530,
];

const UNCOMPRESSED: u64 = 1;
/// LZW, JPEG, deflate (both numbers) and PackBits.
const COMPRESSIONS: [u64; 5] = [5, 7, 8, 32946, 32773];

/// The directory of one page.
pub(super) struct Directory<'a> {
    path: &'a Path,
    file: &'a SharedFile,
    format: Format,
    pub(super) page: usize,
    pub(super) offset: u64,
    /// The tags as they lie in the file, and behind them the next offset.
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
        file: &'a SharedFile,
        format: Format,
        page: usize,
        offset: u64,
    ) -> Result<Self, TiffStackError> {
        let mut directory = Self {
            path,
            file,
            format,
            page,
            offset,
            bytes: Vec::new(),
            num_tags: 0,
        };
        let count_len = if format.big_tiff { 8 } else { 2 };
        directory.check_inside("its directory", offset, count_len)?;
        let mut head = vec![0; FIRST_READ.min((file.len() - offset) as usize)];
        directory.fill(&mut head, offset)?;
        let num_tags = format.number(&head[..count_len as usize]);
        if num_tags > MAX_TAGS {
            return Err(directory.corrupt(format!("it claims {num_tags} tags")));
        }
        directory.num_tags = num_tags as usize;
        let len = num_tags * directory.tag_len() as u64 + directory.word_len() as u64;
        directory.check_inside("its directory", offset, count_len + len)?;
        let mut bytes = head.split_off(count_len as usize);
        let have = bytes.len();
        bytes.resize(len as usize, 0);
        if have < bytes.len() {
            directory.fill(&mut bytes[have..], offset + count_len + have as u64)?;
        }
        directory.bytes = bytes;
        Ok(directory)
    }

    /// Refuses tags whose values lie past the end: the decoder would make room
    /// for the number of values that is claimed before it looks for them.
    pub(super) fn check_tags(&self) -> Result<(), TiffStackError> {
        let fields = DECODER_TAGS.iter().filter_map(|&tag| self.field(tag));
        for field in fields {
            let len = field
                .count
                .saturating_mul(kind_len(field.kind).unwrap_or(1));
            self.check_inside("a tag's values", field.values_at, len)?;
        }
        Ok(())
    }

    /// The offset of the next directory; 0 after the last.
    pub(super) fn next(&self) -> u64 {
        let start = self.num_tags * self.tag_len();
        self.format.number(&self.bytes[start..])
    }

    /// Height and width, each below 2³².
    pub(super) fn size(&self) -> Result<(u64, u64), TiffStackError> {
        let size = |tag, name: &str| match self.number(tag)? {
            Some(size) if size <= u64::from(u32::MAX) => Ok(size),
            Some(size) => Err(self.corrupt(format!("its {name} is {size}"))),
            None => Err(self.corrupt(format!("it names no {name}"))),
        };
        Ok((size(IMAGE_LENGTH, "height")?, size(IMAGE_WIDTH, "width")?))
    }

    /// Height and width of a tile, where pages are stored in tiles.
    pub(super) fn tile_size(&self) -> Result<Option<(u64, u64)>, TiffStackError> {
        let sides = (self.number(TILE_LENGTH)?, self.number(TILE_WIDTH)?);
        match sides {
            (Some(height), Some(width)) => Ok(Some((height, width))),
            _ => Ok(None),
        }
    }

    /// Refuses everything but gray pages in a sample format and compression
    /// that can be decoded.
    pub(super) fn check_kind(&self) -> Result<(), TiffStackError> {
        let samples = self.number(SAMPLES_PER_PIXEL)?.unwrap_or(1);
        if samples != 1 {
            return Err(self.unsupported(format!("has {samples} samples per pixel, not 1")));
        }
        match self.number(PHOTOMETRIC)? {
            Some(0 | 1) => {}
            Some(3) => return Err(self.unsupported("is a palette image".into())),
            Some(other) => {
                return Err(self.unsupported(format!("has photometric interpretation {other}")));
            }
            None => return Err(self.corrupt("it names no photometric interpretation".into())),
        }
        let bits = self.number(BITS_PER_SAMPLE)?.unwrap_or(1);
        let name = match (self.number(SAMPLE_FORMAT)?.unwrap_or(1), bits) {
            (1 | 2, 8 | 16 | 32) | (3, 32 | 64) => None,
            (1, _) => Some("unsigned"),
            (2, _) => Some("signed"),
            (3, _) => Some("floating-point"),
            _ => Some("undefined or complex"),
        };
        if let Some(name) = name {
            return Err(self.unsupported(format!("has {bits}-bit {name} samples")));
        }
        let compression = self.number(COMPRESSION)?.unwrap_or(UNCOMPRESSED);
        if compression != UNCOMPRESSED && !COMPRESSIONS.contains(&compression) {
            return Err(self.unsupported(format!("uses compression {compression}")));
        }
        Ok(())
    }

    pub(super) fn is_compressed(&self) -> Result<bool, TiffStackError> {
        Ok(self.number(COMPRESSION)?.unwrap_or(UNCOMPRESSED) != UNCOMPRESSED)
    }

    pub(super) fn bytes_per_sample(&self) -> Result<u64, TiffStackError> {
        Ok(self.number(BITS_PER_SAMPLE)?.unwrap_or(1).div_ceil(8))
    }

    /// Bytes of all strips or tiles; each is checked to lie inside the file.
    pub(super) fn stored_bytes(&self) -> Result<u64, TiffStackError> {
        let strips = (self.values(STRIP_OFFSETS)?, self.values(STRIP_BYTE_COUNTS)?);
        let tiles = (self.values(TILE_OFFSETS)?, self.values(TILE_BYTE_COUNTS)?);
        let (offsets, counts) = match (strips, tiles) {
            ((Some(offsets), Some(counts)), (None, None))
            | ((None, None), (Some(offsets), Some(counts))) => (offsets, counts),
            _ => return Err(self.corrupt("it names neither strips nor tiles completely".into())),
        };
        if offsets.len() != counts.len() {
            let (offsets, counts) = (offsets.len(), counts.len());
            return Err(self.corrupt(format!("it has {offsets} offsets and {counts} lengths")));
        }
        let mut stored = 0u64;
        for (offset, count) in offsets.into_iter().zip(counts) {
            self.check_inside("a strip or tile of pixels", offset, count)?;
            stored = stored.saturating_add(count);
        }
        Ok(stored)
    }

    /// Refuses ImageJ's large stacks, which hide all pages but the first
    /// from every reader of directories.
    pub(super) fn check_single_directory(&self) -> Result<(), TiffStackError> {
        let Some(field) = self.field(IMAGE_DESCRIPTION) else {
            return Ok(());
        };
        let mut text = vec![0; field.count.min(4096) as usize];
        let len = text.len() as u64;
        self.check_inside("its description", field.values_at, len)?;
        self.fill(&mut text, field.values_at)?;
        let text = String::from_utf8_lossy(&text);
        let images = text
            .lines()
            .find_map(|line| line.strip_prefix("images=")?.trim().parse::<u64>().ok());
        match images {
            Some(images) if images > 1 && text.starts_with("ImageJ=") => {
                Err(self.unsupported(format!(
                    "is the only directory of an ImageJ stack of {images} images; \
                     export it with one directory for each image"
                )))
            }
            _ => Ok(()),
        }
    }

    fn tag_len(&self) -> usize {
        if self.format.big_tiff { 20 } else { 12 }
    }

    fn word_len(&self) -> usize {
        if self.format.big_tiff { 8 } else { 4 }
    }

    fn field(&self, tag: u16) -> Option<Field> {
        let (format, word) = (self.format, self.word_len());
        let tags = &self.bytes[..self.num_tags * self.tag_len()];
        let position = tags
            .chunks_exact(self.tag_len())
            .position(|field| format.number(&field[..2]) == u64::from(tag))?;
        let field = &tags[position * self.tag_len()..][..self.tag_len()];
        let (kind, count) = (
            format.number(&field[2..4]),
            format.number(&field[4..4 + word]),
        );
        let count_len = if format.big_tiff { 8 } else { 2 };
        let inline_at = (position * self.tag_len() + 4 + word) as u64 + self.offset + count_len;
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

    /// The tag's first value.
    fn number(&self, tag: u16) -> Result<Option<u64>, TiffStackError> {
        let Some(mut field) = self.field(tag) else {
            return Ok(None);
        };
        if field.count == 0 {
            return Err(self.corrupt(format!("its tag {tag} holds no value")));
        }
        field.count = 1;
        Ok(self.read_values(tag, &field)?.pop())
    }

    /// All values of the tag.
    fn values(&self, tag: u16) -> Result<Option<Vec<u64>>, TiffStackError> {
        let field = self.field(tag);
        field.map(|field| self.read_values(tag, &field)).transpose()
    }

    fn read_values(&self, tag: u16, field: &Field) -> Result<Vec<u64>, TiffStackError> {
        let each = kind_len(field.kind).filter(|_| is_unsigned(field.kind));
        let Some(each) = each else {
            let kind = field.kind;
            return Err(self.corrupt(format!("its tag {tag} has the type {kind}")));
        };
        if field.count > MAX_CHUNKS {
            let count = field.count;
            return Err(self.corrupt(format!("its tag {tag} claims {count} values")));
        }
        let len = field.count * each;
        self.check_inside("a tag's values", field.values_at, len)?;
        let mut bytes = vec![0; len as usize];
        self.fill(&mut bytes, field.values_at)?;
        let values = bytes.chunks_exact(each as usize);
        Ok(values.map(|value| self.format.number(value)).collect())
    }

    /// Copies file bytes that are known to lie inside the file.
    fn fill(&self, buffer: &mut [u8], offset: u64) -> Result<(), TiffStackError> {
        let start = self.offset + if self.format.big_tiff { 8 } else { 2 };
        let inside = offset
            .checked_sub(start)
            .and_then(|from| self.bytes.get(from as usize..)?.get(..buffer.len()));
        if let Some(bytes) = inside {
            buffer.copy_from_slice(bytes);
            return Ok(());
        }
        match self.file.fill_at(buffer, offset) {
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

    fn check_inside(
        &self,
        what: &'static str,
        offset: u64,
        len: u64,
    ) -> Result<(), TiffStackError> {
        match offset.checked_add(len) {
            Some(end) if end <= self.file.len() => Ok(()),
            _ => Err(self.truncated(what, offset, len)),
        }
    }

    fn truncated(&self, what: &'static str, offset: u64, len: u64) -> TiffStackError {
        TiffStackError::Truncated {
            path: self.path.into(),
            page: self.page,
            what,
            offset,
            len,
            file_len: self.file.len(),
        }
    }

    fn corrupt(&self, reason: String) -> TiffStackError {
        TiffStackError::CorruptDirectory {
            path: self.path.into(),
            page: self.page,
            offset: self.offset,
            reason,
        }
    }

    fn unsupported(&self, what: String) -> TiffStackError {
        TiffStackError::Unsupported {
            path: self.path.into(),
            page: self.page,
            offset: self.offset,
            what,
        }
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

/// Whether a type holds unsigned integers.
fn is_unsigned(kind: u64) -> bool {
    matches!(kind, 1 | 3 | 4 | 13 | 16 | 18)
}
