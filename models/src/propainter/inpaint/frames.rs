//! The first stage, and the files that hold what a stage has finished.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use burn_memopt::chunked::Tile;
use bytemuck::Pod;

use super::progress::{Stage, Watch};
use super::{Footage, InpaintError};
use crate::propainter::Flows;

/// What a later stage keeps of each frame: two flows of two channels, or colours and a hole.
const STORED_CHANNELS: usize = 4;

/// The first stage: frames and masks, read once.
pub(super) struct Frames<'a> {
    footage: &'a mut dyn Footage,
    pixels: FrameStore,
    masks: FrameStore,
    /// At least 2: a single frame is its own neighbour.
    pub(super) num_frames: usize,
    pub(super) size: [usize; 2],
    device: Device,
}

impl<'a> Frames<'a> {
    /// Opens the stage.
    pub(super) fn open(
        footage: &'a mut dyn Footage,
        root: &Path,
        device: &Device,
    ) -> Result<Self, InpaintError> {
        let size = footage.size();
        let area = size[0] * size[1];
        Ok(Self {
            pixels: FrameStore::open(root, "pixels", 3 * area)?,
            masks: FrameStore::open(root, "masks", area)?,
            num_frames: footage.num_frames().max(2),
            footage,
            size,
            device: device.clone(),
        })
    }

    /// Reads the frames before `end`.
    pub(super) fn ensure(&mut self, end: usize, watch: &Watch) -> Result<(), InpaintError> {
        // A mask is kept after its pixels, so what has a mask is whole.
        while self.masks.next() < end {
            let index = self.masks.next();
            let failed = |what| {
                let done = watch.done;
                move |source| InpaintError::Read {
                    what,
                    index,
                    done,
                    source,
                }
            };
            let given = index.min(self.footage.num_frames() - 1);
            let pixels = self.footage.frame(given).map_err(failed("pixels"))?;
            let mask = self.footage.mask(given).map_err(failed("mask"))?;
            self.pixels.put(index, &pixels)?;
            self.masks.put(index, &mask)?;
        }
        Ok(())
    }

    /// `[height, width, 3]`.
    pub(super) fn pixels(&self, index: usize) -> Result<Vec<u8>, InpaintError> {
        self.pixels.get(index)
    }

    /// `[height, width]` of 0 and 1.
    pub(super) fn mask(&self, index: usize) -> Result<Vec<u8>, InpaintError> {
        self.masks.get(index)
    }

    /// Frames from -1 to 1: `[1, frames, 3, height, width]`.
    pub(super) fn images(&self, range: Range<usize>) -> Result<Tensor<5>, InpaintError> {
        let mut values = Vec::with_capacity(range.len() * 3 * self.area());
        for index in range.clone() {
            let pixels = self.pixels(index)?;
            for channel in 0..3 {
                let of_channel = pixels.chunks_exact(3).map(|colors| colors[channel]);
                values.extend(of_channel.map(|value| f32::from(value) / 255.0 * 2.0 - 1.0));
            }
        }
        Ok(self.tensor(values, [range.len(), 3]))
    }

    /// Holes of frames: `[1, frames, 1, height, width]`.
    pub(super) fn holes(&self, range: Range<usize>) -> Result<Tensor<5>, InpaintError> {
        let masks: Vec<u8> = self.masks.get_all(range.clone())?;
        let values = masks.into_iter().map(f32::from).collect();
        Ok(self.tensor(values, [range.len(), 1]))
    }

    /// `[1, frames, channels, height, width]` on the device.
    fn tensor(&self, values: Vec<f32>, [num_frames, channels]: [usize; 2]) -> Tensor<5> {
        let [height, width] = self.size;
        let data = TensorData::new(values, [1, num_frames, channels, height, width]);
        Tensor::from_data(data, &self.device)
    }

    /// Pixels of a frame.
    pub(super) fn area(&self) -> usize {
        self.size[0] * self.size[1]
    }

    /// Opens the store of a later stage, which keeps [`STORED_CHANNELS`] of each frame.
    pub(super) fn open_store(&self, root: &Path, name: &str) -> Result<FrameStore, InpaintError> {
        FrameStore::open(root, name, STORED_CHANNELS * size_of::<f32>() * self.area())
    }

    /// Some channels of what a later stage keeps: `[1, frames, channels, height, width]`.
    pub(super) fn stored(
        &self,
        store: &FrameStore,
        range: Range<usize>,
        channels: Range<usize>,
    ) -> Result<Tensor<5>, InpaintError> {
        let part = channels.start * self.area()..channels.end * self.area();
        let values = store.get_parts(range.clone(), part)?;
        Ok(self.tensor(values, [range.len(), channels.len()]))
    }

    /// Stored flows, from pair to pair.
    pub(super) fn flows(
        &self,
        store: &FrameStore,
        pairs: Range<usize>,
    ) -> Result<Flows, InpaintError> {
        Ok(Flows {
            forward: self.stored(store, pairs.clone(), 0..2)?,
            backward: self.stored(store, pairs, 2..4)?,
        })
    }

    /// Forgets the frames before `index`.
    pub(super) fn release_before(&mut self, index: usize) -> Result<(), InpaintError> {
        self.pixels.release_before(index)?;
        self.masks.release_before(index)
    }
}

/// What `stage` made of the frames `tile.read`, read from the device: for each frame that is kept
/// the channels of both.
pub(super) fn host_frames(
    made: [Tensor<5>; 2],
    tile: &Tile,
    stage: Stage,
) -> Result<Vec<f32>, InpaintError> {
    let first = tile.read.start;
    let kept = tile.keep.start - first..tile.keep.end - first;
    let made = made.map(|made| made.slice_dim(1, kept.clone()));
    host_values(Tensor::cat(made.to_vec(), 2), stage, tile.keep.start)
}

/// The values that `stage` made of frame `index` and those after it.
pub(super) fn host_values<const D: usize>(
    made: Tensor<D>,
    stage: Stage,
    index: usize,
) -> Result<Vec<f32>, InpaintError> {
    // On a GPU, a failure of what came before shows here.
    let values = made.try_into_vec_as::<f32>();
    let values = values.map_err(|source| InpaintError::Network {
        stage,
        index,
        source: source.into(),
    })?;
    if values.iter().all(|value| value.is_finite()) {
        Ok(values)
    } else {
        Err(InpaintError::NotFinite { stage, index })
    }
}

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
