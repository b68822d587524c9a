//! The page index: where each page is.
//!
//! Only directories are read here, never a pixel. Every count and offset is
//! checked against the file's length before anything is allocated for it.

use std::{collections::HashSet, ops::Range, path::Path};

use super::{
    directory::{Directory, Format, TiffFile},
    error::TiffStackError,
    header::{PageHeader, STRIP_OFFSETS, Storage, images_of_imagej},
    page::SampleType,
    regular::{Place, Regular, Template},
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
        let mut walk = Walk {
            file: TiffFile {
                path,
                source,
                format,
            },
            size: None,
            seen: HashSet::new(),
            pages: Vec::new(),
            last_directory: 0,
        };
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
            match read_page(file, page, next, size) {
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
struct ReadPage {
    size: (usize, usize),
    location: Location,
    next: u64,
    directory_len: u64,
}

/// Reads and checks one directory.
fn read_page(
    file: TiffFile<'_>,
    page: usize,
    offset: u64,
    expected: Option<(usize, usize)>,
) -> Result<ReadPage, TiffStackError> {
    let directory = Directory::read(file, page, offset)?;
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

/// Refuses a page that is not where the regular spacing says. Returns what the directories of pages
/// that are should look like, if that can be said.
fn check_guess(
    file: TiffFile<'_>,
    size: (usize, usize),
    regular: &Regular,
    page: usize,
) -> Result<Option<Template>, TiffStackError> {
    let place = regular.place(page);
    let directory = Directory::read(file, page, place.directory)?;
    let read = check_page(&directory, Some(size))?;
    let expected = Location::Contiguous {
        data: place.data,
        sample: regular.sample,
    };
    if read.location != expected || read.next != regular.next(page) {
        return Err(TiffStackError::Irregular {
            path: file.path.into(),
            page,
            offset: place.directory,
        });
    }
    Ok(directory.template(STRIP_OFFSETS))
}

/// The walk along the chain of directories, cut short where the rest is known.
struct Walk<'a> {
    file: TiffFile<'a>,
    /// Height and width of the pages, once one was read.
    size: Option<(usize, usize)>,
    seen: HashSet<u64>,
    pages: Vec<Location>,
    last_directory: u64,
}

impl Walk<'_> {
    /// Visits directories until the rest is known.
    fn run(&mut self, first: u64, opening: Opening) -> Result<Option<Regular>, TiffStackError> {
        let mut places = Vec::new();
        let mut next = first;
        while next != 0 {
            let (offset, page) = (next, self.pages.len());
            let read = match self.visit(offset) {
                Err(TiffStackError::Truncated { .. })
                    if opening == Opening::Growing && page > 0 =>
                {
                    break;
                }
                read => read?,
            };
            next = read.next;
            if page == 0 && next == 0 {
                return self.images_behind(offset, read.location);
            }
            // Whatever the first page has of its own, the guess is about the other ones.
            if opening == Opening::Checked || page > 2 {
                continue;
            }
            if let Location::Contiguous { data, .. } = read.location {
                let directory = offset;
                places.push(Place { directory, data });
            }
            if let &[first, second, third] = places.as_slice() {
                let guess = self.guess([first, second, third], next, &read);
                if guess.is_some() {
                    return Ok(guess);
                }
            }
        }
        Ok(None)
    }

    /// Checks the directory at `offset` and lists its page.
    fn visit(&mut self, offset: u64) -> Result<ReadPage, TiffStackError> {
        let page = self.pages.len();
        if !self.seen.insert(offset) {
            return Err(TiffStackError::PageLoop {
                path: self.file.path.into(),
                page,
                offset,
            });
        }
        let read = read_page(self.file, page, offset, self.size)?;
        self.size = Some(read.size);
        self.pages.push(read.location);
        self.last_directory = offset;
        Ok(read)
    }

    /// All pages, if they are regular as far as four of them show.
    fn guess(&self, places: [Place; 3], next: u64, third: &ReadPage) -> Option<Regular> {
        let size = self.size?;
        let Location::Contiguous { sample, .. } = third.location else {
            return None;
        };
        let of_one_type = |page: &Location| matches!(page, Location::Contiguous { sample: other, .. } if *other == sample);
        if !self.pages.iter().all(of_one_type) {
            return None;
        }
        let page_bytes = (size.0 * size.1 * sample.size()) as u64;
        let file_len = self.file.source.len();
        let regular = Regular::guess(places, third.directory_len, page_bytes, file_len, sample)?;
        if next != regular.next(2) {
            return None;
        }
        let [middle, last] = [regular.num_pages / 2, regular.num_pages - 1];
        let check = |page| check_guess(self.file, size, &regular, page);
        let template = check(middle).ok()?;
        check(last).ok()?;
        for page in [0, 1, 2, middle, last] {
            regular.confirm(page);
        }
        Some(regular.with_template(template))
    }

    /// The images behind the only directory, if ImageJ says that there are several.
    fn images_behind(
        &self,
        offset: u64,
        first: Location,
    ) -> Result<Option<Regular>, TiffStackError> {
        let directory = Directory::read(self.file, 0, offset)?;
        let Some(images @ 2..) = images_of_imagej(&directory)? else {
            return Ok(None);
        };
        let Location::Contiguous { data, sample } = first else {
            return Err(directory.unsupported(format!(
                "is the only directory of an ImageJ stack of {images} images, which are not \
                 stored one behind the other"
            )));
        };
        let (height, width) = self.size.expect("invariant: the first page was read");
        let page_bytes = (height * width * sample.size()) as u64;
        let len = page_bytes.saturating_mul(images);
        directory.check_inside("the images behind its directory", data, len)?;
        let place = Place {
            directory: offset,
            data,
        };
        let images = images as usize;
        Ok(Some(Regular::single_directory(
            place, page_bytes, images, sample,
        )))
    }
}
