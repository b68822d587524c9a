use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

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
