//! What the decoder of one page reads.

use std::io::{self, Read, Seek, SeekFrom};

pub(super) use crate::shared_file::SharedFile as Source;
#[cfg(test)]
pub(super) use crate::shared_file::reads;

/// The file as it would be if its first page were the page wanted.
///
/// The decoder finds pages by walking a chain from the header. Serving it a
/// header that points to the wanted page makes any page a constant-time
/// access, without state that threads would have to share.
#[derive(Debug)]
pub(super) struct PageReader<'a> {
    source: &'a Source,
    header: Vec<u8>,
    position: u64,
}

impl<'a> PageReader<'a> {
    pub(super) fn new(source: &'a Source, header: Vec<u8>) -> Self {
        Self {
            source,
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
            self.source.read_at(buffer, self.position)?
        };
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for PageReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(delta) => self.source.len().checked_add_signed(delta),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
