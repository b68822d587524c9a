//! Reads at a position, from many threads at once, through one open file.

use std::{fs::File, io, path::Path};

/// An open file of known length that is read by position.
///
/// There is no shared cursor, so threads never wait for each other.
#[derive(Debug)]
pub(crate) struct SharedFile {
    file: File,
    len: u64,
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
            file,
        })
    }

    /// Length in bytes when the file was opened.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    #[cfg(unix)]
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, buffer, offset)
    }

    #[cfg(windows)]
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.file, buffer, offset)
    }

    /// Fills as much of `buffer` as the file holds from `offset` on.
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
}
