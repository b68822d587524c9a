//! The page index: where each page lies.
//!
//! Only directories are read here, never a pixel. Every count and offset is
//! checked against the file's length before anything is allocated for it.

use std::{ops::Range, path::Path};

use super::{
    directory::Directory,
    error::TiffStackError,
    format::Format,
    header::{PageHeader, STRIP_OFFSETS, Storage},
    regular::{Regular, Template},
    sample::SampleType,
    source::Source,
    walk::Walk,
};

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
        source: &Source,
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
        let mut walk = Walk::new(path, source, format);
        let regular = walk.run(first, opening)?;
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

    /// Where a page lies. A place that is a guess is checked by the page's directory, once.
    pub(super) fn locate(
        &self,
        path: &Path,
        source: &Source,
        page: usize,
    ) -> Result<Location, TiffStackError> {
        let Some(regular) = self.regular_page(page) else {
            return Ok(self.listed[page - self.num_regular()]);
        };
        if regular.is_guess(page) {
            let size = (self.height, self.width);
            check_guess(path, source, self.format, size, regular, page)?;
            regular.confirm(page);
        }
        Ok(Location::Contiguous {
            data: regular.place(page).data,
            sample: regular.sample,
        })
    }

    /// Adds the pages that were appended since, and answers their number.
    ///
    /// A page that the file does not hold completely is left for the next time.
    pub(super) fn grow(&mut self, path: &Path, source: &Source) -> Result<usize, TiffStackError> {
        let single = self.regular.as_ref();
        if single.is_some_and(Regular::has_single_directory) {
            return Ok(0);
        }
        let before = self.num_pages();
        let (format, mut offset) = (self.format, self.last_directory);
        let mut next = Directory::read(path, source, format, before - 1, offset)?.next();
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
            match read_page(path, source, format, page, next, size) {
                Ok(read) => {
                    self.listed.push(read.location);
                    self.last_directory = next;
                    (offset, next) = (next, read.next);
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
}

/// Reads and checks one directory.
pub(super) fn read_page(
    path: &Path,
    source: &Source,
    format: Format,
    page: usize,
    offset: u64,
    expected: Option<(usize, usize)>,
) -> Result<ReadPage, TiffStackError> {
    let directory = Directory::read(path, source, format, page, offset)?;
    check_page(&directory, expected)
}

/// What the index keeps of a page whose directory was read.
fn check_page(
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
    let sample = header.sample;
    Ok(ReadPage {
        size: (height, width),
        location: match header.storage {
            Storage::Contiguous(data) => Location::Contiguous { data, sample },
            _ => Location::Encoded { directory: offset },
        },
        next: directory.next(),
        directory_len: directory.len() as u64,
    })
}

/// Refuses a page that is not where the regular spacing says. Answers what the directories of pages
/// that are should look like, if that can be said.
pub(super) fn check_guess(
    path: &Path,
    source: &Source,
    format: Format,
    size: (usize, usize),
    regular: &Regular,
    page: usize,
) -> Result<Option<Template>, TiffStackError> {
    let place = regular.place(page);
    let directory = Directory::read(path, source, format, page, place.directory)?;
    let read = check_page(&directory, Some(size))?;
    let expected = Location::Contiguous {
        data: place.data,
        sample: regular.sample,
    };
    if read.location != expected || read.next != regular.next(page) {
        return Err(TiffStackError::Irregular {
            path: path.into(),
            page,
            offset: place.directory,
        });
    }
    Ok(directory.template(STRIP_OFFSETS))
}
