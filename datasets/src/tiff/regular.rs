//! Stacks whose pages follow each other at regular distances, so that the place of any page is
//! known without reading those before it.
//!
//! Two kinds exist. ImageJ writes stacks over 4 GiB with a single directory, whose description
//! says the number of images. Programs that know all pages beforehand write directories of one
//! length at one distance, between the pixels or behind all of them. The latter is only a guess
//! from the first pages, so its user reads the directory of a page before its pixels.
//!
//! Pure.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{directory::Format, page::SampleType};

/// Fewer pages are not worth a guess.
const MIN_PAGES: u64 = 8;

/// Where a page's directory and its pixels start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) directory: u64,
    pub(super) data: u64,
}

/// A directory whose like the other pages have: all but the place of the pixels and of the next
/// directory is the same, byte for byte.
#[derive(Debug, Clone)]
pub(super) struct Template {
    pub(super) format: Format,
    pub(super) bytes: Arc<[u8]>,
    /// Where the place of the pixels is.
    pub(super) data_at: Range<usize>,
    /// Where the place of the next directory is.
    pub(super) next_at: Range<usize>,
}

impl Template {
    /// Whether `bytes` are a directory like this one that names these two places.
    fn fits(&self, bytes: &[u8], data: u64, next: u64) -> bool {
        let (data_at, next_at) = (self.data_at.clone(), self.next_at.clone());
        let same = |range: Range<usize>| bytes[range.clone()] == self.bytes[range];
        bytes.len() == self.bytes.len()
            && same(0..data_at.start)
            && same(data_at.end..next_at.start)
            && self.format.number(&bytes[data_at]) == data
            && self.format.number(&bytes[next_at]) == next
    }
}

/// The places of all pages as two arithmetic progressions.
#[derive(Debug, Clone)]
pub(super) struct Regular {
    pub(super) num_pages: usize,
    pub(super) sample: SampleType,
    first: Place,
    /// The place of page 1.
    second: Place,
    /// What the place moves by from page 1 on.
    step: Place,
    /// One bit for each page whose directory was read; none if there is only one directory.
    seen: Option<Arc<[AtomicU64]>>,
    /// The directory of a page in the middle, if it says everything by itself.
    template: Option<Template>,
}

impl Regular {
    /// Images behind one directory. The caller checks that the file holds them.
    pub(super) fn single_directory(
        first: Place,
        page_bytes: u64,
        num_pages: usize,
        sample: SampleType,
    ) -> Self {
        Self {
            num_pages,
            sample,
            first,
            second: Place {
                data: first.data + page_bytes,
                ..first
            },
            step: Place {
                directory: 0,
                data: page_bytes,
            },
            seen: None,
            template: None,
        }
    }

    /// Guesses all pages from the first three and the length of the file.
    ///
    /// `None` if they are not evenly spaced, overlap, or would be too few for a guess.
    pub(super) fn guess(
        pages: [Place; 3],
        directory_len: u64,
        page_bytes: u64,
        file_len: u64,
        sample: SampleType,
    ) -> Option<Self> {
        let [first, second, third] = pages;
        let step = Place {
            directory: third.directory.checked_sub(second.directory)?,
            data: third.data.checked_sub(second.data)?,
        };
        if step.directory < directory_len.max(1) || step.data < page_bytes {
            return None;
        }
        // The last directory is the last place of the progression that lies inside the file.
        let last = file_len.checked_sub(second.directory)?.checked_sub(1)? / step.directory;
        let end = last
            .checked_mul(step.data)?
            .checked_add(second.data)?
            .checked_add(page_bytes)?;
        if end > file_len || last + 2 < MIN_PAGES {
            return None;
        }
        let num_pages = usize::try_from(last + 2).ok()?;
        let words = num_pages.div_ceil(64);
        Some(Self {
            num_pages,
            sample,
            first,
            second,
            step,
            seen: Some((0..words).map(|_| AtomicU64::new(0)).collect()),
            template: None,
        })
    }

    /// Where page `page` should be.
    pub(super) fn place(&self, page: usize) -> Place {
        let Some(steps) = page.checked_sub(1) else {
            return self.first;
        };
        let steps = steps as u64;
        Place {
            directory: self.second.directory + steps * self.step.directory,
            data: self.second.data + steps * self.step.data,
        }
    }

    /// The offset that the page's directory should name as the next one.
    pub(super) fn next(&self, page: usize) -> u64 {
        if page + 1 < self.num_pages {
            self.place(page + 1).directory
        } else {
            0
        }
    }

    /// Whether all images are behind one directory.
    pub(super) fn has_single_directory(&self) -> bool {
        self.seen.is_none()
    }

    /// Whether the directory of the page still has to be read.
    pub(super) fn is_guess(&self, page: usize) -> bool {
        let seen = self.seen.as_ref();
        seen.is_some_and(|seen| seen[page / 64].load(Ordering::Relaxed) >> (page % 64) & 1 == 0)
    }

    /// Takes a directory as what those of the other pages should look like.
    pub(super) fn with_template(self, template: Option<Template>) -> Self {
        Self { template, ..self }
    }

    /// The bytes of the page's directory, if it can be recognised by them.
    pub(super) fn directory(&self, page: usize) -> Option<Range<u64>> {
        let len = self.template.as_ref()?.bytes.len() as u64;
        let start = self.place(page).directory;
        Some(start..start + len)
    }

    /// Notes that the page is where it should be if `bytes` say so; what other bytes mean
    /// is to be found out by reading them.
    pub(super) fn recognise(&self, page: usize, bytes: &[u8]) {
        if self.fits(page, bytes) {
            self.confirm(page);
        }
    }

    /// Whether `bytes` are the page's directory as it should be.
    pub(super) fn fits(&self, page: usize, bytes: &[u8]) -> bool {
        let (data, next) = (self.place(page).data, self.next(page));
        let template = self.template.as_ref();
        template.is_some_and(|template| template.fits(bytes, data, next))
    }

    /// Notes that the page is where it should be.
    pub(super) fn confirm(&self, page: usize) {
        if let Some(seen) = &self.seen {
            seen[page / 64].fetch_or(1 << (page % 64), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(directory: u64, data: u64) -> Place {
        Place { directory, data }
    }

    proptest! {
        #[test]
        fn evenly_spaced_pages_are_found_where_they_are(
            num_pages in 8u64..5000, page_bytes in 1u64..1000, gap in 0u64..50, len in 18u64..300,
            interleaved in any::<bool>(), first_directory in 0u64..200,
        ) {
            let at = |page: u64| match (interleaved, page) {
                // Each directory before its pixels, the first of them longer.
                (true, _) => place(8 + page * (len + page_bytes), 8 + (page + 1) * len + page * page_bytes),
                // All directories behind all pixels, but the first.
                (false, 0) => place(8 + first_directory % 2, 500),
                (false, _) => place(500 + num_pages * page_bytes + gap + (page - 1) * len, 500 + page * page_bytes),
            };
            let last = at(num_pages - 1);
            let file_len = (last.directory + len).max(last.data + page_bytes);
            let regular = Regular::guess([at(0), at(1), at(2)], len, page_bytes, file_len, SampleType::U8);
            let regular = regular.unwrap();
            prop_assert_eq!(regular.num_pages as u64, num_pages);
            for page in [0, 1, 2, num_pages / 2, num_pages - 1] {
                prop_assert_eq!(regular.place(page as usize), at(page));
            }
        }

        #[test]
        fn a_guess_never_leaves_the_file(
            numbers in prop::array::uniform8(prop_oneof![0u64..2000, any::<u64>()]), page_bytes in 1u64..3000,
            file_len in prop_oneof![0u64..100_000, any::<u64>()],
        ) {
            let [a, b, c, d, e, f, len, _] = numbers;
            // Places as they come from pages that were checked to lie inside the file.
            let pages = [place(a, b), place(c, d), place(e, f)];
            let file_len = file_len % (1 << 24);
            if let Some(regular) = Regular::guess(pages, len, page_bytes, file_len, SampleType::U8) {
                let last = regular.place(regular.num_pages - 1);
                prop_assert!(last.directory < file_len && last.data + page_bytes <= file_len);
            }
        }
    }

    #[test]
    fn a_page_is_a_guess_until_it_is_confirmed() {
        let pages = [place(8, 100), place(1000, 110), place(1020, 120)];
        let regular = Regular::guess(pages, 18, 10, 3000, SampleType::U8).unwrap();
        assert!(regular.is_guess(70));
        regular.confirm(70);
        assert!(!regular.is_guess(70) && regular.is_guess(69) && regular.is_guess(6));
    }
}
