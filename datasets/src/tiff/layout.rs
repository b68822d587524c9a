//! The page index: where each page is.
//!
//! Only directories are read here, never a pixel. Every count and offset is
//! checked against the file's length before anything is allocated for it.

use std::{collections::HashSet, ops::Range, path::Path};

use super::{
    chunks::PIXELS,
    decode::PageDecoder,
    directory::{Directory, Format, TiffFile},
    error::TiffStackError,
    header::{PageHeader, STRIP_OFFSETS, Storage, is_no_frame, planes},
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
struct ReadPage {
    size: (usize, usize),
    location: Location,
    next: u64,
    directory_len: u64,
    notes: Vec<&'static str>,
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
    if is_no_frame(&directory)? || read.location != expected || read.next != regular.next(page) {
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
    opening: Opening,
    /// Whether pages count that are marked as no frames.
    all_are_frames: bool,
    /// Height and width of the pages, once one was read.
    size: Option<(usize, usize)>,
    seen: HashSet<u64>,
    pages: Vec<Location>,
    /// Directories of pages that are no frames.
    other_images: Vec<u64>,
    last_directory: u64,
    notes: Vec<String>,
}

impl<'a> Walk<'a> {
    fn new(file: TiffFile<'a>, opening: Opening) -> Self {
        Self {
            file,
            opening,
            all_are_frames: false,
            size: None,
            seen: HashSet::new(),
            pages: Vec::new(),
            other_images: Vec::new(),
            last_directory: 0,
            notes: Vec::new(),
        }
    }

    /// Visits directories until the rest is known.
    fn run(&mut self, first: u64) -> Result<Option<Regular>, TiffStackError> {
        let mut places = Vec::new();
        let mut next = first;
        while next != 0 {
            let (offset, page) = (next, self.pages.len());
            let read = match self.visit(offset) {
                Err(error) if page > 0 && self.ends_at(&error) => break,
                read => read?,
            };
            let Some(read) = read else {
                next = self.next_of_other(offset)?;
                continue;
            };
            next = read.next;
            if page == 0 && next == 0 {
                return self.planes_behind(offset, read.location);
            }
            // Whatever the first page has of its own, the guess is about the other ones.
            if self.opening == Opening::Checked || page > 2 || !self.other_images.is_empty() {
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

    /// Whether the chain ends at a page that cannot be read, as the last of a file that was cut
    /// off or not finished. The pages before it are good.
    fn ends_at(&mut self, error: &TiffStackError) -> bool {
        let is_cut = matches!(error, TiffStackError::Truncated { .. });
        let is_corrupt = matches!(error, TiffStackError::CorruptDirectory { .. });
        if self.opening == Opening::Growing {
            return is_cut;
        }
        if is_cut || is_corrupt {
            let (error, file) = (error.to_string(), format!("{}: ", self.file.path.display()));
            self.notes.push(format!(
                "its end is damaged, so the number of pages that are read is {}: {}",
                self.pages.len(),
                error.strip_prefix(&file).unwrap_or(&error),
            ));
        }
        is_cut || is_corrupt
    }

    /// Checks the directory at `offset` and lists its page; `None` if that is no frame.
    fn visit(&mut self, offset: u64) -> Result<Option<ReadPage>, TiffStackError> {
        let page = self.pages.len();
        if !self.seen.insert(offset) {
            return Err(TiffStackError::PageLoop {
                path: self.file.path.into(),
                page,
                offset,
            });
        }
        let directory = Directory::read(self.file, page, offset)?;
        if !self.all_are_frames && is_no_frame(&directory)? {
            self.other_images.push(offset);
            self.last_directory = offset;
            return Ok(None);
        }
        let read = check_page(&directory, self.size)?;
        for note in &read.notes {
            if !self.notes.iter().any(|known| known == note) {
                self.notes.push((*note).into());
            }
        }
        self.size = Some(read.size);
        self.pages.push(read.location);
        self.last_directory = offset;
        Ok(Some(read))
    }

    /// The directory behind that of an image that is no frame.
    fn next_of_other(&self, offset: u64) -> Result<u64, TiffStackError> {
        Ok(Directory::read(self.file, self.pages.len(), offset)?.next())
    }

    fn note_other_images(&mut self) {
        let (num_others, num_pages) = (self.other_images.len(), self.pages.len());
        if num_others > 0 {
            self.notes.push(format!(
                "{num_others} of its {} images are marked as reduced copies or transparency masks, \
                 which are no frames, and left out",
                num_others + num_pages,
            ));
        }
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

    /// The planes behind the only directory, if it says that there are several.
    fn planes_behind(
        &mut self,
        offset: u64,
        first: Location,
    ) -> Result<Option<Regular>, TiffStackError> {
        let directory = Directory::read(self.file, 0, offset)?;
        let Some(planes) = planes(&directory)?.filter(|planes| planes.num_planes > 1) else {
            return Ok(None);
        };
        let (kind, num_planes) = (planes.kind, planes.num_planes);
        let mut read_one = |reason: &str| {
            self.notes.push(format!(
                "it is {kind} of {num_planes} images, but only one is read: {reason}"
            ));
            Ok(None)
        };
        let Location::Contiguous { data, sample } = first else {
            if planes.may_be_stale {
                return read_one("the others are not stored one behind the other");
            }
            return Err(directory.unsupported(format!(
                "is the only directory of {kind} of {num_planes} images, which are not stored one \
                 behind the other"
            )));
        };
        let (height, width) = self.size.expect("invariant: the first page was read");
        let page_bytes = (height * width * sample.size()) as u64;
        let len = page_bytes.saturating_mul(num_planes);
        if let Err(error) = directory.check_inside("the images behind its directory", data, len) {
            return match planes.may_be_stale {
                true => read_one("the file ends before the others"),
                false => Err(error),
            };
        }
        let place = Place {
            directory: offset,
            data,
        };
        Ok(Some(Regular::single_directory(
            place,
            page_bytes,
            num_planes as usize,
            sample,
        )))
    }
}
