//! The walk along the chain of directories, cut short where the rest can be told.

use std::{collections::HashSet, path::Path};

use super::{
    directory::Directory,
    error::TiffStackError,
    format::Format,
    header::images_of_imagej,
    layout::{Location, Opening, ReadPage, check_guess, read_page},
    regular::{Place, Regular},
    source::Source,
};

/// The state of the walk from one directory to the next.
pub(super) struct Walk<'a> {
    path: &'a Path,
    source: &'a Source,
    format: Format,
    /// Height and width of the pages, once one was read.
    pub(super) size: Option<(usize, usize)>,
    seen: HashSet<u64>,
    pub(super) pages: Vec<Location>,
    pub(super) last_directory: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn new(path: &'a Path, source: &'a Source, format: Format) -> Self {
        Self {
            path,
            source,
            format,
            size: None,
            seen: HashSet::new(),
            pages: Vec::new(),
            last_directory: 0,
        }
    }

    /// Visits directories until the rest is known.
    pub(super) fn run(
        &mut self,
        first: u64,
        opening: Opening,
    ) -> Result<Option<Regular>, TiffStackError> {
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
                path: self.path.into(),
                page,
                offset,
            });
        }
        let read = read_page(self.path, self.source, self.format, page, offset, self.size)?;
        self.size = Some(read.size);
        self.pages.push(read.location);
        self.last_directory = offset;
        Ok(read)
    }

    /// All pages, if they are regular as far as four of them tell.
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
        let file_len = self.source.len();
        let regular = Regular::guess(places, third.directory_len, page_bytes, file_len, sample)?;
        if next != regular.next(2) {
            return None;
        }
        let [middle, last] = [regular.num_pages / 2, regular.num_pages - 1];
        let check = |page| check_guess(self.path, self.source, self.format, size, &regular, page);
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
        let directory = Directory::read(self.path, self.source, self.format, 0, offset)?;
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
