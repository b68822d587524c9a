//! The page index: where each page's directory lies, checked once at opening.
//!
//! Only directories are read here, never a pixel. Every count and offset is
//! checked against the file's length before anything is allocated for it.

use std::{collections::HashSet, path::Path};

use super::{directory::Directory, error::TiffStackError, source::SharedFile};

/// The most bytes of pixels that one page may claim: 2 GiB.
const MAX_PAGE_BYTES: u64 = 2 << 30;

/// The most that stored bytes may expand to. Deflate reaches 1032, LZW about
/// 2700 times; a page that claims more than this is not what it seems.
const MAX_EXPANSION: u64 = 4096;

/// Byte order, offset width and pages of a TIFF file.
#[derive(Debug)]
pub(super) struct Layout {
    format: Format,
    pub(super) height: usize,
    pub(super) width: usize,
    /// Byte offset of each page's directory.
    pub(super) pages: Vec<u64>,
}

/// How numbers and directories are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) big_endian: bool,
    pub(super) big_tiff: bool,
}

impl Format {
    /// The unsigned number in `bytes` (at most eight of them).
    pub(super) fn number(self, bytes: &[u8]) -> u64 {
        let push = |number, byte: &u8| number << 8 | u64::from(*byte);
        match self.big_endian {
            true => bytes.iter().fold(0, push),
            false => bytes.iter().rev().fold(0, push),
        }
    }

    /// A header whose first page is the directory at `offset`.
    pub(super) fn header(self, offset: u64) -> Vec<u8> {
        let mut fields = vec![(if self.big_tiff { 43 } else { 42 }, 2)];
        if self.big_tiff {
            fields.extend([(8, 2), (0, 2), (offset, 8)]);
        } else {
            fields.push((offset, 4));
        }
        let mut header = if self.big_endian { *b"MM" } else { *b"II" }.to_vec();
        for (value, len) in fields {
            let bytes = value.to_be_bytes();
            let start = header.len();
            header.extend(&bytes[8 - len..]);
            if !self.big_endian {
                header[start..].reverse();
            }
        }
        header
    }

    /// Parses the header; answers the format and the first directory's offset.
    fn parse(head: &[u8]) -> Result<(Self, u64), String> {
        let big_endian = match head.get(..2) {
            Some(b"II") => false,
            Some(b"MM") => true,
            Some(other) => return Err(format!("it starts with the bytes {other:02x?}")),
            None => return Err(format!("it holds {} bytes", head.len())),
        };
        let order = Self {
            big_endian,
            big_tiff: false,
        };
        let field = |start: usize, len: usize| {
            let bytes = head.get(start..start + len);
            bytes
                .map(|bytes| order.number(bytes))
                .ok_or_else(|| "its header is cut off".to_string())
        };
        match field(2, 2)? {
            42 => Ok((order, field(4, 4)?)),
            43 if field(4, 2)? == 8 && field(6, 2)? == 0 => Ok((
                Self {
                    big_tiff: true,
                    ..order
                },
                field(8, 8)?,
            )),
            43 => Err("its BigTIFF header is corrupt".into()),
            version => Err(format!("its version number is {version}, not 42 or 43")),
        }
    }
}

impl Layout {
    /// Walks the chain of directories and checks each.
    pub(super) fn read(path: &Path, file: &SharedFile) -> Result<Self, TiffStackError> {
        let mut head = [0; 16];
        let filled = file
            .fill_at(&mut head, 0)
            .map_err(|source| TiffStackError::Open {
                path: path.into(),
                source,
            })?;
        let (format, first) =
            Format::parse(&head[..filled]).map_err(|reason| TiffStackError::NotTiff {
                path: path.into(),
                reason,
            })?;
        let mut walk = Walk {
            path,
            file,
            format,
            size: None,
            seen: HashSet::new(),
            pages: Vec::new(),
        };
        let mut next = first;
        while next != 0 {
            next = walk.visit(next)?;
        }
        let (height, width) = walk
            .size
            .ok_or_else(|| TiffStackError::NoPages { path: path.into() })?;
        Ok(Self {
            format,
            height,
            width,
            pages: walk.pages,
        })
    }

    /// The header that makes `page` the first page.
    pub(super) fn header_of(&self, page: usize) -> Vec<u8> {
        self.format.header(self.pages[page])
    }
}

/// The state of the walk from one directory to the next.
struct Walk<'a> {
    path: &'a Path,
    file: &'a SharedFile,
    format: Format,
    size: Option<(usize, usize)>,
    seen: HashSet<u64>,
    pages: Vec<u64>,
}

impl Walk<'_> {
    /// Checks the directory at `offset` and answers the offset of the next.
    fn visit(&mut self, offset: u64) -> Result<u64, TiffStackError> {
        let page = self.pages.len();
        if !self.seen.insert(offset) {
            return Err(TiffStackError::PageLoop {
                path: self.path.into(),
                page,
                offset,
            });
        }
        let directory = Directory::read(self.path, self.file, self.format, page, offset)?;
        directory.check_tags()?;
        let (height, width) = self.check_size(&directory)?;
        directory.check_kind()?;
        self.check_bytes(&directory, height, width)?;
        let next = directory.next();
        if page == 0 && next == 0 {
            directory.check_single_directory()?;
        }
        self.size = Some((height, width));
        self.pages.push(offset);
        Ok(next)
    }

    fn check_size(&self, directory: &Directory<'_>) -> Result<(usize, usize), TiffStackError> {
        let (height, width) = directory.size()?;
        let (path, page, offset) = (self.path.to_path_buf(), directory.page, directory.offset);
        if height == 0 || width == 0 {
            return Err(TiffStackError::ZeroSized {
                path,
                page,
                offset,
                height,
                width,
            });
        }
        // 32-bit numbers at most: `Directory::size` checked it.
        let (height, width) = (height as usize, width as usize);
        match self.size {
            Some((expected_height, expected_width))
                if (expected_height, expected_width) != (height, width) =>
            {
                Err(TiffStackError::SizeDiffers {
                    path,
                    page,
                    offset,
                    height,
                    width,
                    expected_height,
                    expected_width,
                })
            }
            _ => Ok((height, width)),
        }
    }

    /// Refuses pages whose stored bytes cannot hold what they claim.
    fn check_bytes(
        &self,
        directory: &Directory<'_>,
        height: usize,
        width: usize,
    ) -> Result<(), TiffStackError> {
        // Strips may overlap, so the file's length bounds them too.
        let stored = directory.stored_bytes()?.min(self.file.len());
        let (height, width) = (height as u64, width as u64);
        // Tiles are stored whole, even where they reach over the border.
        let (tile_height, tile_width) = directory.tile_size()?.unwrap_or((height, width));
        let claimed = height
            .saturating_mul(width)
            .max(tile_height.saturating_mul(tile_width))
            .saturating_mul(directory.bytes_per_sample()?);
        let most = match directory.is_compressed()? {
            true => stored.saturating_mul(MAX_EXPANSION),
            false => stored,
        };
        if claimed > most.min(MAX_PAGE_BYTES) {
            return Err(TiffStackError::Implausible {
                path: self.path.into(),
                page: directory.page,
                offset: directory.offset,
                claimed,
                stored,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_parses_to_what_it_was_made_of() {
        for big_endian in [false, true] {
            for big_tiff in [false, true] {
                let format = Format {
                    big_endian,
                    big_tiff,
                };
                let parsed = Format::parse(&format.header(0x0102_0304));
                assert_eq!(parsed, Ok((format, 0x0102_0304)));
            }
        }
    }

    #[test]
    fn a_png_header_is_refused_by_its_first_bytes() {
        let error = Format::parse(b"\x89PNG\r\n\x1a\n").unwrap_err();
        assert_eq!(error, "it starts with the bytes [89, 50]");
    }
}
