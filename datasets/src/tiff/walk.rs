//! The walk along the chain of directories, and the guess that cuts it short.

use std::collections::HashSet;

use super::{
    directory::{Directory, TiffFile},
    error::TiffStackError,
    header::{STRIP_OFFSETS, is_no_frame, planes},
    layout::{Location, Opening, ReadPage, check_page},
    regular::{Place, Regular, Template},
};

/// Refuses a page that is not where the regular spacing says. Returns what the directories of pages
/// that are should look like, if that can be said.
pub(super) fn check_guess(
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
pub(super) struct Walk<'a> {
    pub(super) file: TiffFile<'a>,
    pub(super) opening: Opening,
    /// Whether pages count that are marked as no frames.
    pub(super) all_are_frames: bool,
    /// Height and width of the pages, once one was read.
    pub(super) size: Option<(usize, usize)>,
    pub(super) seen: HashSet<u64>,
    pub(super) pages: Vec<Location>,
    /// Directories of pages that are no frames.
    pub(super) other_images: Vec<u64>,
    pub(super) last_directory: u64,
    pub(super) notes: Vec<String>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(file: TiffFile<'a>, opening: Opening) -> Self {
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
    pub(super) fn run(&mut self, first: u64) -> Result<Option<Regular>, TiffStackError> {
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

    pub(super) fn note_other_images(&mut self) {
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
