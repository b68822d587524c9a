//! The page index: where each page is.
//!
//! Only directories are read here, never a pixel. Every count and offset is
//! checked against the file's length before anything is allocated for it.

use std::{ops::Range, path::Path};

use super::{
    chunks::PIXELS,
    decode::PageDecoder,
    directory::{Directory, Format, TiffFile},
    error::TiffStackError,
    header::{PageHeader, Storage, is_no_frame},
    page::SampleType,
    regular::Regular,
    walk::{Walk, check_guess},
};
use crate::shared_file::SharedFile;

/// Byte order, offset width and pages of a TIFF file.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) format: Format,
    pub(super) height: usize,
    pub(super) width: usize,
    /// The first pages, where they are regular.
    regular: Option<Regular>,
    /// The pages after those, each of which was read.
    listed: Vec<Location>,
    last_directory: u64,
    /// What a user should know about the file, though it is read.
    pub(super) notes: Vec<String>,
}

/// Where a page's samples are to be had from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Location {
    /// In one piece from this byte on, as they are.
    Contiguous { data: u64, sample: SampleType },
    /// As the directory at this byte says.
    Encoded { directory: u64 },
}

/// How much is read when a stack is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// A few pages where they are regular, else every directory.
    Quick,
    /// Every directory.
    Checked,
    /// As `Quick`; a last page that is cut off is not there yet.
    Growing,
}

impl Layout {
    /// Finds all pages.
    pub(super) fn read(
        path: &Path,
        source: &SharedFile,
        opening: Opening,
    ) -> Result<Self, TiffStackError> {
        let mut head = [0; 16];
        let filled = source
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
        if first == 0 {
            return Err(TiffStackError::NoPages { path: path.into() });
        }
        let file = TiffFile {
            path,
            source,
            format,
        };
        let mut walk = Walk::new(file, opening);
        let mut regular = walk.run(first)?;
        if walk.pages.is_empty() && !walk.other_images.is_empty() {
            // Where every page is marked as no frame, the marks mean nothing.
            walk = Walk::new(file, opening);
            walk.all_are_frames = true;
            regular = walk.run(first)?;
        }
        walk.note_other_images();
        let (height, width) = walk.size.expect("invariant: the first page was read");
        Ok(Self {
            format,
            height,
            width,
            listed: match regular {
                Some(_) => Vec::new(),
                None => walk.pages,
            },
            last_directory: match &regular {
                Some(regular) => regular.place(regular.num_pages - 1).directory,
                None => walk.last_directory,
            },
            regular,
            notes: walk.notes,
        })
    }

    /// Whether the directories of all pages are as those that were read suggest: `directory` gives
    /// the bytes of a range of the file. Nothing is parsed, so this takes next to no time.
    pub(super) fn chain_is_regular<'a>(
        &self,
        mut directory: impl FnMut(Range<u64>) -> Option<&'a [u8]>,
    ) -> bool {
        let Some(regular) = self.regular.as_ref().filter(|r| !r.has_single_directory()) else {
            return true;
        };
        (0..regular.num_pages)
            .filter(|&page| regular.is_guess(page))
            .all(|page| {
                let bytes = regular.directory(page).and_then(&mut directory);
                bytes.is_some_and(|bytes| regular.fits(page, bytes))
            })
    }

    pub(super) fn num_pages(&self) -> usize {
        self.num_regular() + self.listed.len()
    }

    /// Whether any page may be mapped into memory.
    pub(super) fn has_contiguous_pages(&self) -> bool {
        let is_contiguous = |page: &Location| matches!(page, Location::Contiguous { .. });
        self.regular.is_some() || self.listed.iter().any(is_contiguous)
    }

    /// The bytes by which a page whose place is a guess may be recognised.
    pub(super) fn directory_of_guess(&self, page: usize) -> Option<Range<u64>> {
        let regular = self.regular_page(page)?;
        regular.is_guess(page).then(|| regular.directory(page))?
    }

    /// Spares reading the directory of a page that is where it should be by these bytes.
    pub(super) fn recognise(&self, page: usize, bytes: &[u8]) {
        if let Some(regular) = self.regular_page(page) {
            regular.recognise(page, bytes);
        }
    }

    fn regular_page(&self, page: usize) -> Option<&Regular> {
        self.regular
            .as_ref()
            .filter(|regular| page < regular.num_pages)
    }

    /// Where a page is. A place that is a guess is checked by the page's directory, once.
    pub(super) fn locate(
        &self,
        path: &Path,
        source: &SharedFile,
        page: usize,
    ) -> Result<Location, TiffStackError> {
        let Some(regular) = self.regular_page(page) else {
            return Ok(self.listed[page - self.num_regular()]);
        };
        if regular.is_guess(page) {
            let size = (self.height, self.width);
            check_guess(self.file(path, source), size, regular, page)?;
            regular.confirm(page);
        }
        Ok(Location::Contiguous {
            data: regular.place(page).data,
            sample: regular.sample,
        })
    }

    fn file<'a>(&self, path: &'a Path, source: &'a SharedFile) -> TiffFile<'a> {
        TiffFile {
            path,
            source,
            format: self.format,
        }
    }

    /// Adds the pages that were appended since, and returns their number.
    ///
    /// A page that the file does not hold completely is left for the next time.
    pub(super) fn grow(
        &mut self,
        path: &Path,
        source: &SharedFile,
    ) -> Result<usize, TiffStackError> {
        let single = self.regular.as_ref();
        if single.is_some_and(Regular::has_single_directory) {
            return Ok(0);
        }
        let before = self.num_pages();
        let (file, mut offset) = (self.file(path, source), self.last_directory);
        let mut next = Directory::read(file, before - 1, offset)?.next();
        while next != 0 {
            let page = self.num_pages();
            if next <= offset {
                return Err(TiffStackError::PageLoop {
                    path: path.into(),
                    page,
                    offset: next,
                });
            }
            let size = Some((self.height, self.width));
            let read = Directory::read(file, page, next).and_then(|directory| {
                let is_frame = !is_no_frame(&directory)?;
                let page = is_frame.then(|| check_page(&directory, size)).transpose()?;
                Ok((page, directory.next()))
            });
            match read {
                Ok((page, behind)) => {
                    self.listed.extend(page.map(|page| page.location));
                    self.last_directory = next;
                    (offset, next) = (next, behind);
                }
                Err(TiffStackError::Truncated { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(self.num_pages() - before)
    }

    fn num_regular(&self) -> usize {
        self.regular.as_ref().map_or(0, |regular| regular.num_pages)
    }
}

/// What the index keeps of a page.
pub(super) struct ReadPage {
    pub(super) size: (usize, usize),
    pub(super) location: Location,
    pub(super) next: u64,
    pub(super) directory_len: u64,
    pub(super) notes: Vec<&'static str>,
}

/// What the index keeps of a page whose directory was read.
pub(super) fn check_page(
    directory: &Directory<'_>,
    expected: Option<(usize, usize)>,
) -> Result<ReadPage, TiffStackError> {
    let header = PageHeader::parse(directory)?;
    let (offset, height, width) = (directory.offset, header.height, header.width);
    if let Some((expected_height, expected_width)) = expected
        && (height, width) != (expected_height, expected_width)
    {
        return Err(TiffStackError::SizeDiffers {
            path: directory.path().into(),
            page: directory.page,
            offset,
            height,
            width,
            expected_height,
            expected_width,
        });
    }
    if let Storage::Chunks(chunks) = &header.storage
        && let Some((start, len)) = chunks.cut
    {
        let decoded = PageDecoder::default().decode(directory.file(), directory.page, offset);
        if decoded.is_err() {
            directory.check_inside(PIXELS, start, len)?;
        }
    }
    let sample = header.sample;
    Ok(ReadPage {
        size: (height, width),
        location: match header.storage {
            Storage::Contiguous(data) => Location::Contiguous { data, sample },
            _ => Location::Encoded { directory: offset },
        },
        next: directory.next(),
        directory_len: directory.len() as u64,
        notes: header.notes,
    })
}
