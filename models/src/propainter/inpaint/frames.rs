use std::ops::Range;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use burn_memopt::chunked::Tile;

use super::progress::{Stage, Watch};
use super::store::FrameStore;
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
