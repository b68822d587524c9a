//! Large arrays of f32: in host memory, or in a file that is read and written by position.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use crate::files::PartFile;

/// Bytes from which large pages are worth it: two large pages of most systems.
const LARGE: usize = 4 << 20;

/// Zeros, in large pages where the system has them: to touch a result for the first time, small page
/// by small page, takes as long as to compute it from windows.
pub(super) fn zeros(len: usize) -> Vec<f32> {
    let mut zeros = vec![0.0; len];
    if len * size_of::<f32>() >= LARGE {
        ask_for_large_pages(&mut zeros);
    }
    zeros
}

#[cfg(target_os = "linux")]
fn ask_for_large_pages(memory: &mut [f32]) {
    /// Pages of every size begin at multiples of this, as far as `madvise` requires it.
    const ALIGNMENT: usize = 1 << 16;
    let bytes: &mut [u8] = bytemuck::cast_slice_mut(memory);
    let skipped = bytes.as_ptr().align_offset(ALIGNMENT);
    let Some(aligned) = bytes.get_mut(skipped..) else {
        return;
    };
    // SAFETY: the range is memory that is borrowed here, and the advice changes none of its bytes.
    let advised = unsafe {
        libc::madvise(
            aligned.as_mut_ptr().cast(),
            aligned.len(),
            libc::MADV_HUGEPAGE,
        )
    };
    if advised != 0 {
        log::debug!("no large pages: {}", io::Error::last_os_error());
    }
}

#[cfg(not(target_os = "linux"))]
fn ask_for_large_pages(_: &mut [f32]) {}

/// Numbers in a file, in this machine's byte order, read and written by position.
#[derive(Debug)]
pub(super) struct FloatFile {
    file: File,
    /// Byte that the first number starts at.
    first: u64,
}

impl FloatFile {
    /// The numbers from byte `first` on.
    pub(super) fn new(file: File, first: u64) -> Self {
        Self { file, first }
    }

    /// An empty file in the folder of `path` whose name is removed at once: it is gone when it is
    /// closed, also by a process that is killed. One that is killed before the name is removed leaves
    /// the temporary file of `path`.
    pub(super) fn nameless(path: &Path) -> io::Result<Self> {
        // It is removed when it is dropped.
        let part = PartFile::create(path)?;
        Ok(Self::new(part.file().try_clone()?, 0))
    }

    /// Reads the numbers from number `at` on.
    pub(super) fn read(&mut self, at: usize, numbers: &mut [f32]) -> io::Result<()> {
        self.seek(at)?;
        self.file.read_exact(bytemuck::cast_slice_mut(numbers))
    }

    /// Writes numbers from number `at` on.
    pub(super) fn write(&mut self, at: usize, numbers: &[f32]) -> io::Result<()> {
        self.seek(at)?;
        self.file.write_all(bytemuck::cast_slice(numbers))
    }

    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    fn seek(&mut self, at: usize) -> io::Result<u64> {
        let size = size_of::<f32>() as u64;
        self.file
            .seek(SeekFrom::Start(self.first + at as u64 * size))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn every_length_is_zeros_that_can_be_written() {
        for len in [0, 1, 1 << 14, (1 << 20) + 3] {
            let mut zeros = zeros(len);
            assert!(zeros.len() == len && zeros.iter().all(|zero| *zero == 0.0));
            zeros.fill(1.0);
            assert!(zeros.iter().all(|one| *one == 1.0));
        }
    }

    #[test]
    fn a_nameless_file_keeps_numbers_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = FloatFile::nameless(&folder.path().join("sums")).unwrap();
        let mut second = FloatFile::nameless(&folder.path().join("sums")).unwrap();
        first.write(2, &[1.0, 2.0]).unwrap();
        second.write(0, &[5.0]).unwrap();
        let mut numbers = [9.0; 4];
        first.read(0, &mut numbers).unwrap();
        assert_eq!(numbers, [0.0, 0.0, 1.0, 2.0]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
