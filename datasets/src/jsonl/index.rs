//! Where each record of a file begins.

use std::{
    io::{self, BufRead},
    ops::Range,
};

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
    pub(super) offsets: Vec<u64>,
    pub(super) stride: u64,
    pub(super) num_records: u64,
    /// Bytes of the whole source.
    pub(super) source_len: u64,
}

impl JsonlIndex {
    /// Reads `source` once, from its start to its end, and keeps at most `max_offsets`
    /// offsets.
    ///
    /// Records are not judged here, only counted: of lines of any length nothing is
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

    /// The bytes that hold a record, and how many other records stand before it there.
    fn place(&self, record: u64) -> (Range<u64>, u64) {
        let len = self.num_records;
        assert!(record < len, "record must be below {len}, got {record}");
        let slot = (record / self.stride) as usize;
        let end = self.offsets.get(slot + 1).copied();
        let range = self.offsets[slot]..end.unwrap_or(self.source_len);
        (range, record % self.stride)
    }
}

#[cfg(test)]
mod tests;
