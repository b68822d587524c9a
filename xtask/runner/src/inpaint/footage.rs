//! Frames on their way: a video with holes as the networks see it, and what they complete.

use anyhow::{Context, Result};
use burn_memopt::chunked::BoxError;
use burn_memopt_datasets::masks::{HoleMask, MaskSource};
use burn_memopt_datasets::stream::{Records, StreamingDataset};
use burn_memopt_datasets::video::{FrameFolderWriter, Resampling, VideoFrame, VideoSource};
use burn_memopt_models::propainter::inpaint::{Footage, FrameSink};

use super::geometry::Geometry;
use super::settings::InpaintSettings;

/// What is missing in the frames.
enum Holes {
    /// What masks mark, grown by some pixels.
    Masks(Box<SequentialReader<MaskSource, HoleMask>>, usize),
    /// What is around the frames.
    Around,
}

/// A video and its holes, in the size that the networks see.
pub struct VideoFootage {
    frames: SequentialReader<VideoSource, VideoFrame>,
    holes: Holes,
    geometry: Geometry,
    num_frames: usize,
    /// Where frames with painted holes go.
    masked: Option<FrameFolderWriter>,
}

impl VideoFootage {
    /// The video `source`, with holes where `masks` mark them; without masks, around its frames.
    pub fn new(source: VideoSource, masks: Option<MaskSource>, settings: &InpaintSettings) -> Self {
        let holes = masks.map_or(Holes::Around, |masks| {
            let masks = Box::new(SequentialReader::new(masks));
            Holes::Masks(masks, settings.mask_dilation)
        });
        Self {
            frames: SequentialReader::new(source),
            holes,
            geometry: settings.geometry,
            num_frames: settings.num_frames,
            masked: None,
        }
    }

    /// Also writes the frames with their holes painted.
    pub fn with_masked(mut self, masked: Option<FrameFolderWriter>) -> Self {
        self.masked = masked;
        self
    }

    fn prepared(&mut self, index: usize) -> Result<VideoFrame, BoxError> {
        let frame = self.frames.get(index)?;
        Ok(match self.holes {
            Holes::Masks(..) => {
                let [height, width] = self.geometry.worked;
                frame.resized(height, width, Resampling::Bicubic)
            }
            Holes::Around => {
                let [height, width] = self.geometry.frame;
                let frame = frame.resized(height, width, Resampling::Bicubic);
                extended(&frame, &self.geometry)
            }
        })
    }
}

impl Footage for VideoFootage {
    fn num_frames(&self) -> usize {
        self.num_frames
    }

    fn size(&self) -> [usize; 2] {
        self.geometry.worked
    }

    fn frame(&mut self, index: usize) -> Result<Vec<u8>, BoxError> {
        Ok(self.prepared(index)?.pixels)
    }

    fn mask(&mut self, index: usize) -> Result<Vec<u8>, BoxError> {
        let [height, width] = self.geometry.worked;
        let mask = match &mut self.holes {
            Holes::Masks(masks, dilation) => {
                masks.get(index)?.resized(height, width).dilated(*dilation)
            }
            Holes::Around => around(&self.geometry),
        };
        if let Some(masked) = self.masked.take() {
            let mut frame = self.prepared(index)?;
            paint(&mut frame, &mask);
            masked.write(&frame)?;
            self.masked = Some(masked);
        }
        Ok(mask.values().to_vec())
    }
}

/// Refuses masks that mark nothing.
///
/// # Errors
/// If a mask cannot be read, or none has a hole.
pub fn check_not_empty(masks: &MaskSource, num_frames: usize) -> Result<()> {
    let mut masks_in_order = SequentialReader::new(masks.clone());
    for index in 0..num_frames {
        let mask = masks_in_order.get(index).map_err(anyhow::Error::from_boxed);
        if mask
            .with_context(|| format!("cannot read the mask of frame {index}"))?
            .num_holes()
            > 0
        {
            return Ok(());
        }
        // The same for every frame.
        if matches!(masks, MaskSource::ForAll { .. }) {
            break;
        }
    }
    anyhow::bail!("the masks are all black: mark what is to be filled in white")
}

/// Puts a frame into the middle of a larger one; black around it.
fn extended(frame: &VideoFrame, geometry: &Geometry) -> VideoFrame {
    let ([height, width], [top, left]) = (geometry.worked, geometry.offset());
    let mut pixels = vec![0; height * width * 3];
    for (y, row) in frame.pixels.chunks_exact(frame.width * 3).enumerate() {
        let start = ((top + y) * width + left) * 3;
        pixels[start..start + row.len()].copy_from_slice(row);
    }
    VideoFrame {
        index: frame.index,
        height,
        width,
        pixels,
    }
}

/// The mask of what is around a frame.
fn around(geometry: &Geometry) -> HoleMask {
    let ([height, width], [top, left]) = (geometry.worked, geometry.offset());
    let [rows, columns] = geometry.frame;
    let mut values = vec![1; height * width];
    for row in values.chunks_exact_mut(width).skip(top).take(rows) {
        row[left..left + columns].fill(0);
    }
    HoleMask::new(height, width, values)
}

/// Paints the holes half green, so that their pixels still show.
fn paint(frame: &mut VideoFrame, mask: &HoleMask) {
    for (pixel, hole) in frame.pixels.chunks_exact_mut(3).zip(mask.values()) {
        if *hole == 1 {
            for (value, green) in pixel.iter_mut().zip([0_u8, 255, 0]) {
                *value = value.midpoint(green);
            }
        }
    }
}

/// Writes completed frames in the size of the result.
pub struct Results {
    writer: FrameFolderWriter,
    geometry: Geometry,
    original: Option<Original>,
}

/// The video as it was given, for results of another size than that of the networks.
struct Original {
    frames: SequentialReader<VideoSource, VideoFrame>,
    masks: SequentialReader<MaskSource, HoleMask>,
    dilation: usize,
}

impl Original {
    /// Pastes what was completed, and nothing else, into the frame as it was given.
    fn with(
        &mut self,
        completed: VideoFrame,
        [height, width]: [usize; 2],
    ) -> Result<VideoFrame, BoxError> {
        let index = completed.index;
        let frame = self.frames.get(index)?;
        let mut frame = frame.resized(height, width, Resampling::Bicubic);
        let mask = self
            .masks
            .get(index)?
            .resized(height, width)
            .dilated(self.dilation);
        let completed = completed.resized(height, width, Resampling::Bilinear);
        paste(&mut frame, &completed, &mask);
        Ok(frame)
    }
}

impl Results {
    /// Writes what is completed; where the result has another size, into `video` where it has `masks`.
    pub fn new(
        writer: FrameFolderWriter,
        video: VideoSource,
        masks: Option<MaskSource>,
        settings: &InpaintSettings,
    ) -> Self {
        let geometry = settings.geometry;
        let masks = masks.filter(|_| geometry.is_scaled_back());
        let original = masks.map(|masks| Original {
            frames: SequentialReader::new(video),
            masks: SequentialReader::new(masks),
            dilation: settings.mask_dilation,
        });
        Self {
            writer,
            geometry,
            original,
        }
    }
}

impl FrameSink for Results {
    fn write(&mut self, index: usize, pixels: &[u8]) -> Result<(), BoxError> {
        let [height, width] = self.geometry.worked;
        let mut frame = VideoFrame {
            index,
            height,
            width,
            pixels: pixels.to_vec(),
        };
        if let Some(original) = &mut self.original {
            frame = original.with(frame, self.geometry.result)?;
        }
        Ok(self.writer.write(&frame)?)
    }
}

/// Takes the pixels of `completed` where the mask has a hole.
fn paste(frame: &mut VideoFrame, completed: &VideoFrame, mask: &HoleMask) {
    let pixels = frame.pixels.chunks_exact_mut(3);
    for ((pixel, completed), hole) in pixels
        .zip(completed.pixels.chunks_exact(3))
        .zip(mask.values())
    {
        if *hole == 1 {
            pixel.copy_from_slice(completed);
        }
    }
}

/// Reads items of a source by their number, which must not fall, with one in memory.
struct SequentialReader<S: StreamingDataset<I>, I> {
    source: S,
    records: Option<Records<S::Record>>,
    /// Number of the next record.
    next: usize,
    last: Option<(usize, I)>,
}

impl<I: Clone, S: StreamingDataset<I>> SequentialReader<S, I> {
    fn new(source: S) -> Self {
        Self {
            source,
            records: None,
            next: 0,
            last: None,
        }
    }

    /// The item of a number; that of the one before is still at hand.
    ///
    /// # Errors
    /// If it cannot be read, or the source ends before it.
    fn get(&mut self, index: usize) -> Result<I, BoxError> {
        if let Some((last, item)) = &self.last
            && *last == index
        {
            return Ok(item.clone());
        }
        let records = match self.records.take() {
            Some(records) if index >= self.next => self.records.insert(records),
            // A resumed run begins where the one before stopped.
            _ => {
                self.next = index;
                self.records.insert(self.source.records(index as u64)?)
            }
        };
        let Some(record) = records.nth(index - self.next) else {
            self.records = None;
            return Err(
                format!("it ends before frame {index}, with fewer than were counted").into(),
            );
        };
        self.next = index + 1;
        let item = self.source.load(record?)?;
        self.last = Some((index, item.clone()));
        Ok(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry = Geometry {
        source: [2, 2],
        frame: [2, 2],
        worked: [2, 4],
        result: [2, 4],
    };

    #[test]
    fn an_extended_frame_holds_the_whole_frame_where_nothing_is_missing() {
        let frame = VideoFrame {
            index: 0,
            height: 2,
            width: 2,
            pixels: (1..=12).collect(),
        };
        let extended = extended(&frame, &GEOMETRY);
        let mask = around(&GEOMETRY);
        assert_eq!(mask.values(), [1, 0, 0, 1, 1, 0, 0, 1]);
        let pixels = extended.pixels.chunks(3).zip(mask.values());
        let known: Vec<u8> = pixels
            .filter(|(_, hole)| **hole == 0)
            .flat_map(|(pixel, _)| pixel.to_vec())
            .collect();
        assert_eq!(known, frame.pixels);
    }

    #[test]
    fn only_holes_are_painted() {
        let mut frame = VideoFrame {
            index: 0,
            height: 1,
            width: 2,
            pixels: vec![100; 6],
        };
        paint(&mut frame, &HoleMask::new(1, 2, vec![1, 0]));
        assert_eq!(frame.pixels, [50, 177, 50, 100, 100, 100]);
    }

    #[test]
    fn only_holes_are_pasted_into() {
        let frame = |value| VideoFrame {
            index: 0,
            height: 1,
            width: 2,
            pixels: vec![value; 6],
        };
        let mut given = frame(1);
        paste(&mut given, &frame(9), &HoleMask::new(1, 2, vec![0, 1]));
        assert_eq!(given.pixels, [1, 1, 1, 9, 9, 9]);
    }
}
