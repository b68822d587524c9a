//! Reads at a position, from many threads at once, through one open file.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};
#[cfg(feature = "tiff")]
use std::{
    io::{Seek, SeekFrom},
    sync::Arc,
};

/// The bytes of a file, of known length, that are read by position; or bytes in memory
/// that are read in the same way.
///
/// There is no shared cursor, so threads never wait for each other.
#[derive(Debug)]
pub(crate) struct SharedFile {
    bytes: Bytes,
    len: u64,
}

#[derive(Debug)]
enum Bytes {
    File(File),
    #[cfg(feature = "tiff")]
    Memory(Arc<[u8]>),
}

impl SharedFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(Self {
            len: metadata.len(),
            bytes: Bytes::File(file),
        })
    }

    /// Length in bytes when the file was opened or last found grown.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The file, unless the bytes are in memory.
    pub(crate) fn file(&self) -> Option<&File> {
        match &self.bytes {
            Bytes::File(file) => Some(file),
            #[cfg(feature = "tiff")]
            Bytes::Memory(_) => None,
        }
    }

    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        #[cfg(all(test, feature = "tiff"))]
        reads::count(buffer.len());
        match &self.bytes {
            #[cfg(unix)]
            Bytes::File(file) => std::os::unix::fs::FileExt::read_at(file, buffer, offset),
            #[cfg(windows)]
            Bytes::File(file) => std::os::windows::fs::FileExt::seek_read(file, buffer, offset),
            #[cfg(feature = "tiff")]
            Bytes::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let mut rest = bytes.get(start..).unwrap_or_default();
                rest.read(buffer)
            }
        }
    }

    /// Reads the bytes of `range` from front to back, as far as they are there.
    #[cfg(feature = "jsonl")]
    pub(crate) fn span(&self, range: std::ops::Range<u64>) -> Span<'_> {
        Span { file: self, range }
    }
}

/// What only stacks ask for.
#[cfg(feature = "tiff")]
impl SharedFile {
    pub(crate) fn memory(bytes: Arc<[u8]>) -> Self {
        Self {
            len: bytes.len() as u64,
            bytes: Bytes::Memory(bytes),
        }
    }

    /// Length in bytes now.
    pub(crate) fn len_now(&self) -> io::Result<u64> {
        match &self.bytes {
            // Half the time of asking for the metadata. Nothing reads at the file's own cursor.
            Bytes::File(file) => (&*file).seek(SeekFrom::End(0)),
            Bytes::Memory(bytes) => Ok(bytes.len() as u64),
        }
    }

    /// Takes the length of now as the length.
    pub(crate) fn update_len(&mut self) -> io::Result<()> {
        self.len = self.len_now()?;
        Ok(())
    }

    /// The bytes, if they are in memory.
    pub(crate) fn in_memory(&self) -> Option<&Arc<[u8]>> {
        match &self.bytes {
            Bytes::File(_) => None,
            Bytes::Memory(bytes) => Some(bytes),
        }
    }

    /// Fills as much of `buffer` as there are bytes from `offset` on.
    pub(crate) fn fill_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    /// Fills all of `buffer`.
    pub(crate) fn fill_exactly_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        match self.fill_at(buffer, offset)? {
            filled if filled == buffer.len() => Ok(()),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// A part of a shared file, read from front to back by a cursor of its own.
#[cfg(feature = "jsonl")]
#[derive(Debug)]
pub(crate) struct Span<'a> {
    file: &'a SharedFile,
    range: std::ops::Range<u64>,
}

#[cfg(feature = "jsonl")]
impl Read for Span<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.range.end.saturating_sub(self.range.start);
        let wanted = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = self.file.read_at(&mut buffer[..wanted], self.range.start)?;
        self.range.start += count as u64;
        Ok(count)
    }
}

/// What a test's own thread has read.
#[cfg(all(test, feature = "tiff"))]
pub(crate) mod reads {
    use std::cell::Cell;

    thread_local! {
        static READS: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
    }

    pub(crate) fn count(bytes: usize) {
        let (reads, so_far) = READS.get();
        READS.set((reads + 1, so_far + bytes));
    }

    /// Reads and bytes asked for since the last call.
    pub(crate) fn take() -> (usize, usize) {
        READS.take()
    }
}
