use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytemuck::Pod;

use super::InpaintError;

/// What one stage has finished, a file a frame, until no later stage needs it.
///
/// A file counts only with all its bytes, which are written in one go: so what is there says how far
/// an interrupted run was.
#[derive(Debug)]
pub(super) struct FrameStore {
    folder: PathBuf,
    /// Bytes of a frame.
    bytes: usize,
    /// The frames that are there; the last one's number shows how far an earlier run came.
    frames: Range<usize>,
}

impl FrameStore {
    /// The store `name` in `root`, of frames of `bytes` bytes; what an earlier run left is kept.
    pub(super) fn open(root: &Path, name: &str, bytes: usize) -> Result<Self, InpaintError> {
        let folder = root.join(name);
        let failed = |source| InpaintError::store(&folder, source);
        fs::create_dir_all(&folder).map_err(failed)?;
        let entries = folder.read_dir().map_err(failed)?;
        let names = entries.map(|entry| Ok(entry?.file_name()));
        let names = names.collect::<io::Result<Vec<_>>>().map_err(failed)?;
        let indices = names.iter().filter_map(|name| name.to_str()?.parse().ok());
        let first: usize = indices.min().unwrap_or(0);
        let mut store = Self {
            folder,
            bytes,
            frames: first..first,
        };
        while fs::metadata(store.path(store.frames.end)).is_ok_and(|f| f.len() == bytes as u64) {
            store.frames.end += 1;
        }
        Ok(store)
    }

    pub(super) fn first(&self) -> usize {
        self.frames.start
    }

    pub(super) fn next(&self) -> usize {
        self.frames.end
    }

    /// Keeps frame `index`.
    ///
    /// # Panics
    /// If it has another size, or one before it is missing.
    pub(super) fn put<T: Pod>(&mut self, index: usize, values: &[T]) -> Result<(), InpaintError> {
        let bytes: &[u8] = bytemuck::cast_slice(values);
        assert_eq!(
            bytes.len(),
            self.bytes,
            "a frame must have the size of its store"
        );
        assert!(
            index <= self.frames.end,
            "frames must be kept in their order, got {index} after {}",
            self.frames.end
        );
        let path = self.path(index);
        fs::write(&path, bytes).map_err(|source| InpaintError::store(&path, source))?;
        self.frames.end = self.frames.end.max(index + 1);
        Ok(())
    }

    /// Keeps the frames `range`, whose values follow each other.
    pub(super) fn put_all<T: Pod>(
        &mut self,
        range: Range<usize>,
        values: &[T],
    ) -> Result<(), InpaintError> {
        let len = values.len() / range.len();
        range
            .zip(values.chunks(len))
            .try_for_each(|(index, frame)| self.put(index, frame))
    }

    pub(super) fn get<T: Pod>(&self, index: usize) -> Result<Vec<T>, InpaintError> {
        self.get_all(index..index + 1)
    }

    /// Frames, one after the other.
    pub(super) fn get_all<T: Pod>(&self, range: Range<usize>) -> Result<Vec<T>, InpaintError> {
        self.get_parts(range, 0..self.bytes / size_of::<T>())
    }

    /// Of each frame the values `part`, one after the other.
    pub(super) fn get_parts<T: Pod>(
        &self,
        range: Range<usize>,
        part: Range<usize>,
    ) -> Result<Vec<T>, InpaintError> {
        let mut values = vec![T::zeroed(); range.len() * part.len()];
        range
            .zip(values.chunks_mut(part.len()))
            .try_for_each(|(index, values)| self.read(index, part.start, values))?;
        Ok(values)
    }

    /// Reads frame `index` from its value `first` on into `values`.
    fn read<T: Pod>(
        &self,
        index: usize,
        first: usize,
        values: &mut [T],
    ) -> Result<(), InpaintError> {
        let path = self.path(index);
        let mut read = || {
            let mut file = File::open(&path)?;
            let len = file.metadata()?.len();
            if len != self.bytes as u64 {
                let what = format!("{len} bytes instead of {}", self.bytes);
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            file.seek(SeekFrom::Start((first * size_of::<T>()) as u64))?;
            file.read_exact(bytemuck::cast_slice_mut(values))
        };
        read().map_err(|source| InpaintError::store(&path, source))
    }

    /// Removes the frames before `index`, but not the newest: it shows a later run how far this one
    /// came.
    pub(super) fn release_before(&mut self, index: usize) -> Result<(), InpaintError> {
        let until = index.min(self.frames.end.saturating_sub(1));
        while self.frames.start < until {
            let path = self.path(self.frames.start);
            fs::remove_file(&path).map_err(|source| InpaintError::store(&path, source))?;
            self.frames.start += 1;
        }
        Ok(())
    }

    fn path(&self, index: usize) -> PathBuf {
        self.folder.join(format!("{index:06}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_keeps_frames_until_they_are_released_and_outlives_the_process() {
        let root = tempfile::tempdir().unwrap();
        let mut store = FrameStore::open(root.path(), "flows", 8).unwrap();
        for index in 0..3 {
            store.put(index, &[index as f32, 0.5]).unwrap();
        }
        store.release_before(1).unwrap();
        assert!(store.get::<f32>(0).is_err());
        assert_eq!(store.get_parts::<f32>(1..3, 0..1).unwrap(), [1.0, 2.0]);
        assert_eq!(store.get_parts::<f32>(1..3, 1..2).unwrap(), [0.5, 0.5]);
        let mut again = FrameStore::open(root.path(), "flows", 8).unwrap();
        assert_eq!(
            (again.get::<f32>(1).unwrap(), again.next()),
            (vec![1.0, 0.5], 3)
        );
        again.release_before(9).unwrap();
        let last = FrameStore::open(root.path(), "flows", 8).unwrap();
        assert_eq!(last.next(), 3);
    }

    #[test]
    fn a_frame_that_was_cut_off_counts_as_missing() {
        let root = tempfile::tempdir().unwrap();
        let mut store = FrameStore::open(root.path(), "masks", 8).unwrap();
        (0..2).for_each(|index| store.put(index, &[1_u8; 8]).unwrap());
        fs::write(root.path().join("masks/000001"), [1; 5]).unwrap();
        let store = FrameStore::open(root.path(), "masks", 8).unwrap();
        assert_eq!(store.next(), 1);
        let error = store.get::<u8>(1).unwrap_err();
        assert!(error.to_string().contains("masks"), "{error}");
    }
}
