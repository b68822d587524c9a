//! Where each record of a file begins, and a file of its own for that, so that the text need not be
//! read again.
//!
//! Layout of the file, all numbers little-endian: the magic bytes, the CRC-32 of what follows
//! it, and then 64-bit numbers: length of the text's file, its modification
//! time (seconds, nanoseconds), the index's `num_records`, `stride` and
//! `source_len`, and the offsets.

use std::{
    fs::File,
    io::{self, BufRead, Read},
    ops::Range,
    path::Path,
    time::Duration,
};

use burn_memopt::files::{self, FileStamp};
use flate2::Crc;

use super::lines::{Line, Lines};

/// Byte offsets of records, in memory that does not grow with the file.
///
/// Takes eight bytes a record up to `max_offsets` records. In a larger file only
/// every second offset is kept, then every fourth, and so on; a record between two of
/// them is found by reading from the one before it. So an index never takes more
/// than `8 · max_offsets` bytes.
///
/// Knows no file: [`build`](Self::build) takes any source of bytes, and
/// [`read`](Self::read) a function that opens a part of the same.
///
/// # Example
/// ```
/// use burn_memopt_datasets::jsonl::{JsonlIndex, Line};
///
/// let text = b"{\"a\": 1}\r\n\n[2]";
/// let index = JsonlIndex::build(&text[..], 1024)?;
/// assert_eq!(index.num_records(), 2);
/// let last = index.read(1, 1024, |range| &text[range.start as usize..range.end as usize])?;
/// assert_eq!(last, Some(Line::Text { offset: 11, bytes: b"[2]".to_vec() }));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonlIndex {
    /// Where the records 0, `stride`, 2 · `stride` … begin.
    offsets: Vec<u64>,
    stride: u64,
    num_records: u64,
    /// Bytes of the whole source.
    source_len: u64,
}

impl JsonlIndex {
    /// Reads `source` once, from its start to its end, and keeps at most `max_offsets`
    /// offsets.
    ///
    /// Records are not parsed here, only counted: of lines of any length nothing is
    /// kept.
    ///
    /// # Errors
    /// If the source cannot be read.
    ///
    /// # Panics
    /// If `max_offsets` is zero.
    pub fn build(source: impl BufRead, max_offsets: usize) -> io::Result<Self> {
        assert!(max_offsets > 0, "max_offsets must be at least 1, got 0");
        let mut index = Self {
            offsets: Vec::new(),
            stride: 1,
            num_records: 0,
            source_len: 0,
        };
        let mut lines = Lines::from_start(source)?;
        while let Some(offset) = lines.skip_line()? {
            index.push(offset, max_offsets);
        }
        index.source_len = lines.offset();
        Ok(index)
    }

    /// Counts a record, and makes room for its offset by keeping every second one.
    fn push(&mut self, offset: u64, max_offsets: usize) {
        if self.num_records.is_multiple_of(self.stride) && self.offsets.len() == max_offsets {
            let mut is_kept = false;
            self.offsets.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
            self.stride *= 2;
        }
        if self.num_records.is_multiple_of(self.stride) {
            self.offsets.push(offset);
        }
        self.num_records += 1;
    }

    /// Records of the source.
    pub fn num_records(&self) -> u64 {
        self.num_records
    }

    /// Bytes of memory that the offsets take.
    pub fn bytes(&self) -> u64 {
        size_of_val(self.offsets.as_slice()) as u64
    }

    /// Bytes from the beginning of `record` to that of the next, or a mean over
    /// neighbours where not every offset is kept.
    ///
    /// # Panics
    /// If there is no such record.
    pub fn record_len(&self, record: u64) -> u64 {
        let (range, skipped) = self.place(record);
        let first = record - skipped;
        let count = self.stride.min(self.num_records - first);
        (range.end - range.start).div_ceil(count)
    }

    /// Reads `record` if it has at most `max_line_len` bytes, through `open`, which
    /// opens the bytes of a range of the indexed source.
    ///
    /// `None` if the source is no longer what was indexed and ends before the record.
    ///
    /// # Errors
    /// If the source cannot be read.
    ///
    /// # Panics
    /// If there is no such record.
    pub fn read<R: BufRead>(
        &self,
        record: u64,
        max_line_len: usize,
        open: impl FnOnce(Range<u64>) -> R,
    ) -> io::Result<Option<Line>> {
        let (range, num_skipped) = self.place(record);
        let offset = range.start;
        let mut lines = Lines::at(open(range), offset);
        for _ in 0..num_skipped {
            lines.skip_line()?;
        }
        lines.next_line(max_line_len)
    }

    /// The bytes that hold a record, and how many other records come before it there.
    fn place(&self, record: u64) -> (Range<u64>, u64) {
        let len = self.num_records;
        assert!(record < len, "record must be below {len}, got {record}");
        let slot = (record / self.stride) as usize;
        let end = self.offsets.get(slot + 1).copied();
        let range = self.offsets[slot]..end.unwrap_or(self.source_len);
        (range, record % self.stride)
    }
}

/// Format and version: another layout gets another last byte.
const MAGIC: &[u8; 12] = b"burn-jsonl\0\x01";
const HEAD_LEN: usize = MAGIC.len() + 4;
/// Numbers before the offsets.
const NUM_FIELDS: usize = 6;

/// The index saved at `path`, if it is whole, belongs to the text with this stamp and
/// has at most `max_offsets` offsets. In any other case the text is indexed again.
pub(super) fn load(path: &Path, stamp: FileStamp, max_offsets: usize) -> Option<JsonlIndex> {
    let file = File::open(path).ok()?;
    let len = usize::try_from(file.metadata().ok()?.len()).ok()?;
    let num_offsets = len
        .checked_sub(HEAD_LEN)?
        .checked_div(8)?
        .checked_sub(NUM_FIELDS)?;
    if num_offsets > max_offsets {
        return None;
    }
    let mut bytes = Vec::with_capacity(len);
    file.take(len as u64).read_to_end(&mut bytes).ok()?;
    let numbers = checked_body(&bytes)?;
    let [
        len,
        seconds,
        nanoseconds,
        num_records,
        stride,
        source_len,
        offsets @ ..,
    ] = &numbers[..]
    else {
        return None;
    };
    let found = FileStamp {
        len: *len,
        modified: Duration::new(*seconds, u32::try_from(*nanoseconds).ok()?),
    };
    let index = JsonlIndex {
        offsets: offsets.to_vec(),
        stride: *stride,
        num_records: *num_records,
        source_len: *source_len,
    };
    (found == stamp && is_sound(&index)).then_some(index)
}

/// Writes the index of the text with this stamp to `path`, whole or not at all.
pub(super) fn save(path: &Path, stamp: FileStamp, index: &JsonlIndex) -> io::Result<()> {
    let fields = [
        stamp.len,
        stamp.modified.as_secs(),
        stamp.modified.subsec_nanos().into(),
        index.num_records,
        index.stride,
        index.source_len,
    ];
    let numbers = fields.iter().chain(&index.offsets);
    let body: Vec<u8> = numbers.flat_map(|number| number.to_le_bytes()).collect();
    files::write(path, |file| {
        file.write_all(MAGIC)?;
        file.write_all(&checksum(&body).to_le_bytes())?;
        file.write_all(&body)
    })
}

/// The numbers after the head, if magic bytes and checksum are right.
fn checked_body(bytes: &[u8]) -> Option<Vec<u64>> {
    let (sum, body) = bytes.strip_prefix(MAGIC)?.split_first_chunk()?;
    let (numbers, rest) = body.as_chunks();
    let is_whole = rest.is_empty() && u32::from_le_bytes(*sum) == checksum(body);
    is_whole.then(|| numbers.iter().copied().map(u64::from_le_bytes).collect())
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Whether reading by this index stays within bounds.
fn is_sound(index: &JsonlIndex) -> bool {
    index.stride > 0
        && index.offsets.len() as u64 == index.num_records.div_ceil(index.stride)
        && index.offsets.is_sorted_by(|left, right| left < right)
        && index
            .offsets
            .last()
            .is_none_or(|last| *last < index.source_len)
}

#[cfg(test)]
mod tests;
