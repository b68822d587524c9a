//! Reads at a position, from many threads at once, through one open file.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// An open file of known length that is read by position.
///
/// There is no shared cursor, so threads never wait for each other.
#[derive(Debug)]
pub(super) struct SharedFile {
    file: File,
    len: u64,
}

impl SharedFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
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
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    #[cfg(unix)]
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, buffer, offset)
    }

    #[cfg(windows)]
    pub(super) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.file, buffer, offset)
    }

    /// Fills as much of `buffer` as the file holds from `offset` on.
    pub(super) fn fill_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
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

/// The file as it would be if its first page were the page wanted.
///
/// The decoder finds pages by walking a chain from the header. Serving it a
/// header that points to the wanted page makes any page a constant-time
/// access, without state that threads would have to share.
#[derive(Debug)]
pub(super) struct PageReader<'a> {
    file: &'a SharedFile,
    header: Vec<u8>,
    position: u64,
}

impl<'a> PageReader<'a> {
    pub(super) fn new(file: &'a SharedFile, header: Vec<u8>) -> Self {
        Self {
            file,
            header,
            position: 0,
        }
    }
}

impl Read for PageReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let header_len = self.header.len() as u64;
        let count = if self.position < header_len {
            let mut rest = &self.header[self.position as usize..];
            rest.read(buffer)?
        } else {
            self.file.read_at(buffer, self.position)?
        };
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for PageReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(delta) => self.file.len().checked_add_signed(delta),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
