//! The strips or tiles of a page: where they are and how they are stored.

use super::{
    directory::Directory,
    error::TiffStackError,
    header::{BITS_PER_SAMPLE, STRIP_OFFSETS},
    page::SampleType,
};

const COMPRESSION: u16 = 259;
const FILL_ORDER: u16 = 266;
const ROWS_PER_STRIP: u16 = 278;
const STRIP_BYTE_COUNTS: u16 = 279;
const PREDICTOR: u16 = 317;
const TILE_WIDTH: u16 = 322;
const TILE_LENGTH: u16 = 323;
const TILE_OFFSETS: u16 = 324;
const TILE_BYTE_COUNTS: u16 = 325;

/// What chunks are called in errors.
pub(super) const PIXELS: &str = "a strip or tile of pixels";

/// How the bytes of a strip or tile are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Lzw,
    Jpeg,
    Deflate,
    PackBits,
    Zstd,
}

impl Compression {
    fn parse(number: u64) -> Result<Self, String> {
        Ok(match number {
            1 => Self::None,
            5 => Self::Lzw,
            7 => Self::Jpeg,
            8 | 32_946 => Self::Deflate,
            32_773 => Self::PackBits,
            50_000 => Self::Zstd,
            other => {
                let name = match other {
                    2..=4 => " (CCITT fax)",
                    6 => " (old JPEG)",
                    33_003 | 33_005 | 34_712 => " (JPEG 2000)",
                    34_887 => " (LERC)",
                    34_892 => " (lossy JPEG of DNG)",
                    34_925 => " (LZMA)",
                    34_933 => " (PNG)",
                    34_934 | 22_610 => " (JPEG XR)",
                    50_001 => " (WebP)",
                    50_002 | 52_546 => " (JPEG XL)",
                    _ => "",
                };
                return Err(format!("uses compression {other}{name}, which is not read"));
            }
        })
    }
}

/// How samples are stored as differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Predictor {
    None,
    /// To the left neighbour.
    Horizontal,
    /// Of the bytes of floating-point numbers, from the most significant ones on.
    Float,
}

/// Strips or tiles, from left to right and from top to bottom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chunks {
    /// Rows of each; the last strip may have fewer.
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// Chunks side by side.
    pub(super) across: usize,
    pub(super) tiled: bool,
    pub(super) compression: Compression,
    pub(super) predictor: Predictor,
    /// Bits of a stored sample, which may be fewer than those of its type.
    pub(super) bits: usize,
    /// Whether the bits of each byte are in reverse.
    pub(super) reversed: bool,
    page_rows: usize,
    /// Offset and length of a compressed chunk that is said to end behind the end of the file.
    /// Whether it is cut off, or only its length is wrong, shows when it is decoded.
    pub(super) cut: Option<(u64, u64)>,
    /// Offset and length of each; both 0 for one that is not stored, whose samples are zero.
    pub(super) places: Vec<(u64, u64)>,
}

impl Chunks {
    /// Reads where the page's samples are; each chunk is checked to be inside the file.
    pub(super) fn parse(
        directory: &Directory<'_>,
        sample: SampleType,
        height: usize,
        width: usize,
    ) -> Result<Self, TiffStackError> {
        let compression = Compression::parse(directory.number(COMPRESSION)?.unwrap_or(1));
        let compression = compression.map_err(|what| directory.unsupported(what))?;
        let bits = directory.number(BITS_PER_SAMPLE)?.unwrap_or(1) as usize;
        let (strips, tiles) = (
            directory.values(STRIP_OFFSETS)?,
            directory.values(TILE_OFFSETS)?,
        );
        let (tiled, offsets, counts) = match (strips, tiles) {
            (Some(strips), None) => (false, strips, directory.values(STRIP_BYTE_COUNTS)?),
            (None, Some(tiles)) => (true, tiles, directory.values(TILE_BYTE_COUNTS)?),
            _ => {
                let reason = "it names neither strips nor tiles completely";
                return Err(directory.corrupt(reason.into()));
            }
        };
        let (rows, columns) = match tiled {
            true => (
                directory.number(TILE_LENGTH)?.unwrap_or(0),
                directory.number(TILE_WIDTH)?.unwrap_or(0),
            ),
            false => {
                let rows = directory.number(ROWS_PER_STRIP)?.unwrap_or(height as u64);
                (rows.min(height as u64), width as u64)
            }
        };
        if rows == 0 || columns == 0 || rows.max(columns) > u64::from(u32::MAX) {
            let reason = format!("its strips or tiles are {rows}×{columns} pixels");
            return Err(directory.corrupt(reason));
        }
        let (rows, columns) = (rows as usize, columns as usize);
        let mut chunks = Self {
            rows,
            columns,
            across: width.div_ceil(columns),
            tiled,
            compression,
            predictor: predictor(directory, compression, sample, bits)?,
            bits,
            reversed: directory.number(FILL_ORDER)? == Some(2),
            page_rows: height,
            cut: None,
            places: Vec::new(),
        };
        chunks.places = chunks.places(directory, &offsets, counts)?;
        Ok(chunks)
    }

    /// Brings offsets and byte counts together. Where a count is missing, zero or too large, the
    /// size of an uncompressed chunk, or the offset of the next one, is enough.
    fn places(
        &mut self,
        directory: &Directory<'_>,
        offsets: &[u64],
        counts: Option<Vec<u64>>,
    ) -> Result<Vec<(u64, u64)>, TiffStackError> {
        let is_missing = counts.is_none();
        let counts = counts.unwrap_or_else(|| vec![0; offsets.len()]);
        if offsets.len() != counts.len() {
            let (offsets, counts) = (offsets.len(), counts.len());
            return Err(directory.corrupt(format!("it has {offsets} offsets and {counts} lengths")));
        }
        let file_len = directory.file_len();
        let is_only = offsets.len() == 1 && self.num_needed() == 1;
        let mut sorted = offsets.to_vec();
        sorted.sort_unstable();
        let mut places = Vec::with_capacity(offsets.len());
        for (chunk, (&offset, &count)) in offsets.iter().zip(&counts).enumerate() {
            if offset == 0 && count == 0 && !is_missing {
                places.push((0, 0));
                continue;
            }
            let needed = self.chunk_len(chunk);
            let holds = |len: u64| offset.checked_add(len).is_some_and(|end| end <= file_len);
            let len = match (self.compression, count) {
                (Compression::None, 0) => needed,
                (Compression::None, count) if !holds(count) => count.min(needed),
                // The only chunk of a page is as long as the page, if the file holds that.
                (Compression::None, count) if is_only && count < needed && holds(needed) => needed,
                (Compression::None, count) => count,
                (_, 0) => {
                    let behind = sorted.partition_point(|&other| other <= offset);
                    let end = sorted
                        .get(behind)
                        .map_or(file_len, |&end| end.min(file_len));
                    end.saturating_sub(offset)
                }
                (_, count) if !holds(count) && offset < file_len => {
                    self.cut.get_or_insert((offset, count));
                    file_len - offset
                }
                (_, count) => count,
            };
            directory.check_inside(PIXELS, offset, len)?;
            places.push((offset, len));
        }
        Ok(places)
    }

    /// The rows of a chunk that are stored.
    pub(super) fn stored_rows(&self, chunk: usize) -> usize {
        let top = (chunk / self.across).saturating_mul(self.rows);
        match self.tiled {
            true => self.rows,
            false => self.rows.min(self.page_rows.saturating_sub(top)),
        }
    }

    /// Bytes of a stored row; rows start at whole bytes.
    pub(super) fn row_len(&self) -> u64 {
        (self.columns as u64)
            .saturating_mul(self.bits as u64)
            .div_ceil(8)
    }

    /// Bytes of a chunk once it is decompressed.
    fn chunk_len(&self, chunk: usize) -> u64 {
        self.row_len()
            .saturating_mul(self.stored_rows(chunk) as u64)
    }

    /// The number of chunks that the page needs.
    pub(super) fn num_needed(&self) -> usize {
        self.page_rows
            .div_ceil(self.rows)
            .saturating_mul(self.across)
    }

    /// Bytes of all chunks once they are decompressed.
    pub(super) fn total_len(&self) -> u64 {
        let rows = match self.tiled {
            true => self.num_needed().saturating_mul(self.rows),
            false => self.page_rows,
        };
        self.row_len().saturating_mul(rows as u64)
    }

    /// The offset of all strips, if they are stored as samples are read, and follow each other.
    pub(super) fn in_one_piece(&self, sample: SampleType) -> Option<u64> {
        let as_they_are = self.compression == Compression::None
            && !self.tiled
            && !self.reversed
            && self.bits == sample.size() * 8
            && self.places.len() == self.num_needed();
        let (start, _) = *self.places.first().filter(|_| as_they_are)?;
        let mut expected = start;
        for (strip, &(offset, len)) in self.places.iter().enumerate() {
            let needed = self.chunk_len(strip);
            if offset != expected || len < needed || offset == 0 {
                return None;
            }
            expected = offset.checked_add(needed)?;
        }
        Some(start)
    }
}

/// How samples are stored as differences. The tag means nothing on pages without a compression
/// that it is meant for.
fn predictor(
    directory: &Directory<'_>,
    compression: Compression,
    sample: SampleType,
    bits: usize,
) -> Result<Predictor, TiffStackError> {
    use Compression::{Deflate, Lzw, Zstd};
    let number = directory.number(PREDICTOR)?.unwrap_or(1);
    let is_float = matches!(sample, SampleType::F16 | SampleType::F32 | SampleType::F64);
    match (compression, number) {
        (Lzw | Deflate | Zstd, 2) if bits == sample.size() * 8 => Ok(Predictor::Horizontal),
        (Lzw | Deflate | Zstd, 3) if is_float => Ok(Predictor::Float),
        (Lzw | Deflate | Zstd, 2..) => {
            let what = format!("has predictor {number} on {bits}-bit samples, which is not read");
            Err(directory.unsupported(what))
        }
        _ => Ok(Predictor::None),
    }
}
