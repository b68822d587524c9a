use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers in a file, read and written by position.
#[derive(Debug)]
pub(super) struct FloatFile {
    file: File,
    /// Byte that the first number starts at.
    first: u64,
}

impl FloatFile {
    /// The numbers from byte `first` on, in this machine's byte order.
    pub(super) fn new(file: File, first: u64) -> Self {
        Self { file, first }
    }

    /// An empty file in `folder` that loses its name at once: it is gone when it is closed, by a
    /// killed process too.
    pub(super) fn nameless(folder: &Path) -> io::Result<Self> {
        static NUM_TRIED: AtomicU64 = AtomicU64::new(0);
        loop {
            let number = NUM_TRIED.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!(".burn-memopt-{}-{number}", process::id()));
            // Never a file or a link that is already there, such as that of a process of the same id
            // that was killed before the name was removed.
            let created = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path);
            match created {
                Ok(file) => {
                    fs::remove_file(&path)?;
                    return Ok(Self::new(file, 0));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
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

    /// The file itself.
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
    use super::*;

    #[test]
    fn a_nameless_file_keeps_numbers_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = FloatFile::nameless(folder.path()).unwrap();
        let mut second = FloatFile::nameless(folder.path()).unwrap();
        first.write(2, &[1.0, 2.0]).unwrap();
        second.write(0, &[5.0]).unwrap();
        let mut numbers = [9.0; 4];
        first.read(0, &mut numbers).unwrap();
        assert_eq!(numbers, [0.0, 0.0, 1.0, 2.0]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
