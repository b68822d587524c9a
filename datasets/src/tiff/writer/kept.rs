//! Stacks that a later process goes on with.

use std::{
    fs::OpenOptions,
    io::{self, BufWriter, Seek, SeekFrom, Write},
    path::Path,
};

use super::{
    BUFFER_BYTES, FIRST_PIXEL, Sample, TiffStackError, TiffStackWriter, check_size,
    part_file::PartFile,
};

impl TiffStackWriter {
    /// Goes on with a stack of which `num_rows` rows were written to the file `part`, or begins one
    /// with none. The file stays there if it is not finished; rows behind those that count are cut off.
    ///
    /// What was written is in the file for certain, also after the machine was switched off, once
    /// [`sync`](Self::sync) returned. [`finish`](Self::finish) moves `part` to `path`.
    ///
    /// # Errors
    /// If the file cannot be opened, or holds fewer rows.
    ///
    /// # Panics
    /// If `height` or `width` is zero or above 2³² − 1.
    ///
    /// # Example
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// # let (path, part) = (folder.path().join("map.tif"), folder.path().join("map.tif.part"));
    /// use burn_memopt_datasets::tiff::{TiffStack, TiffStackWriter};
    ///
    /// let mut writer = TiffStackWriter::go_on::<f32>(&path, &part, 2, 2, 0)?;
    /// writer.write_rows(&[0.5f32, 1.5])?;
    /// writer.sync()?;
    /// drop(writer); // as if the process had ended here
    ///
    /// let mut writer = TiffStackWriter::go_on::<f32>(&path, &part, 2, 2, 1)?;
    /// writer.write_rows(&[2.5f32, 3.5])?;
    /// writer.finish()?;
    /// assert_eq!(TiffStack::open(&path)?.frame(0)?.pixels, [0.5, 1.5, 2.5, 3.5]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn go_on<T: Sample>(
        path: impl AsRef<Path>,
        part: impl AsRef<Path>,
        height: usize,
        width: usize,
        num_rows: u64,
    ) -> Result<Self, TiffStackError> {
        check_size(height, width);
        let (path, part) = (path.as_ref(), part.as_ref());
        let failed = |source| TiffStackError::Create {
            path: part.into(),
            source,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(part).map_err(failed)?;
        let row_len = (width * T::TYPE.size()) as u64;
        let pixels = file.metadata().map_err(failed)?.len();
        let there = pixels.saturating_sub(FIRST_PIXEL) / row_len;
        if there < num_rows {
            return Err(TiffStackError::RowsMissing {
                path: part.into(),
                there,
                wanted: num_rows,
            });
        }
        let end = FIRST_PIXEL + num_rows * row_len;
        let position = || -> io::Result<BufWriter<PartFile>> {
            // Also the header, which `finish` may have written: until it is whole, this is no TIFF file.
            let mut file = PartFile::Kept(file, part.into());
            file.write_all(&[0; FIRST_PIXEL as usize])?;
            file.as_file().set_len(end)?;
            file.seek(SeekFrom::Start(end))?;
            Ok(BufWriter::with_capacity(BUFFER_BYTES, file))
        };
        Ok(Self {
            path: path.into(),
            height,
            width,
            sample: Some(T::TYPE),
            num_rows,
            file: position().map_err(failed)?,
            classic_len: u64::from(u32::MAX),
        })
    }

    /// Brings all rows that were written to the disk.
    ///
    /// # Errors
    /// If the disk is full.
    pub fn sync(&mut self) -> Result<(), TiffStackError> {
        let synced = self
            .file
            .flush()
            .and_then(|()| self.file.get_ref().as_file().sync_data());
        synced.map_err(|source| TiffStackError::Write {
            path: self.path.clone(),
            page: self.num_frames(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiff::TiffStack;

    #[test]
    fn a_stack_is_gone_on_with_in_the_middle_of_a_page_and_after_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let [path, part] = ["a.tif", "a.tif.part"].map(|name| folder.path().join(name));
        let open = |rows| TiffStackWriter::go_on::<f32>(&path, &part, 2, 1, rows);
        let mut writer = open(0).unwrap();
        writer.write_rows(&[1f32, 2.0, 3.0, 99.0]).unwrap();
        drop(writer);
        // A row behind those that count is written again.
        let mut writer = open(3).unwrap();
        writer.write_rows(&[4f32]).unwrap();
        assert_eq!(writer.num_frames(), 2);
        drop(writer);
        open(4).unwrap().finish().unwrap();
        assert!(!part.exists());
        let stack = TiffStack::open_checked(&path).unwrap();
        assert_eq!(stack.num_frames(), 2);
        assert_eq!(stack.frame(1).unwrap().pixels, [3.0, 4.0]);
    }

    #[test]
    fn rows_that_are_not_there_are_not_made_up() {
        let folder = tempfile::tempdir().unwrap();
        let [path, part] = ["a.tif", "a.tif.part"].map(|name| folder.path().join(name));
        let error = TiffStackWriter::go_on::<f32>(&path, &part, 2, 1, 3).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("0 rows") && text.contains('3'), "{text}");
    }
}
