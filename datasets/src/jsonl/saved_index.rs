//! An index in a file of its own, so that the text need not be read again.
//!
//! Layout, all numbers little-endian: the magic bytes, the CRC-32 of what follows
//! it, and then 64-bit numbers: length of the text's file, its modification
//! time (seconds, nanoseconds), the index's `num_records`, `stride` and
//! `source_len`, and the offsets.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::Path,
    time::UNIX_EPOCH,
};

use flate2::Crc;

use super::index::JsonlIndex;
use crate::part_file;

/// Format and version: another layout gets another last byte.
const MAGIC: &[u8; 12] = b"burn-jsonl\0\x01";
const HEAD_LEN: usize = MAGIC.len() + 4;
/// Numbers before the offsets.
const NUM_FIELDS: usize = 6;

/// What tells that a text is still the one that was indexed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    len: u64,
    seconds: u64,
    nanoseconds: u64,
}

impl Stamp {
    /// The stamp of a file; `None` where the system knows no modification time.
    pub(super) fn new(file: &File) -> Option<Self> {
        let metadata = file.metadata().ok()?;
        let modified = metadata.modified().ok()?;
        let since = modified.duration_since(UNIX_EPOCH).ok()?;
        Some(Self {
            len: metadata.len(),
            seconds: since.as_secs(),
            nanoseconds: since.subsec_nanos().into(),
        })
    }
}

/// The index saved at `path`, if it is whole, belongs to the text with this stamp and
/// has at most `max_offsets` offsets. In any other case the text is indexed again.
pub(super) fn load(path: &Path, stamp: Stamp, max_offsets: usize) -> Option<JsonlIndex> {
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
    let found = Stamp {
        len: *len,
        seconds: *seconds,
        nanoseconds: *nanoseconds,
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
pub(super) fn save(path: &Path, stamp: Stamp, index: &JsonlIndex) -> io::Result<()> {
    let fields = [
        stamp.len,
        stamp.seconds,
        stamp.nanoseconds,
        index.num_records,
        index.stride,
        index.source_len,
    ];
    let numbers = fields.iter().chain(&index.offsets);
    let body: Vec<u8> = numbers.flat_map(|number| number.to_le_bytes()).collect();
    let mut file = part_file::create(path)?;
    file.write_all(MAGIC)?;
    file.write_all(&checksum(&body).to_le_bytes())?;
    file.write_all(&body)?;
    part_file::finish(file, path)
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
