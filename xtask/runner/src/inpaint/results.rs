//! Completed frames on their way to the disk.

use burn_memopt::chunked::BoxError;
use burn_memopt_datasets::masks::{HoleMask, MaskSource};
use burn_memopt_datasets::video::{FrameFolderWriter, Resampling, VideoFrame, VideoSource};
use burn_memopt_models::propainter::inpaint::FrameSink;

use super::geometry::Geometry;
use super::in_order::InOrder;

/// Writes completed frames in the size of the result.
pub struct Results {
    writer: FrameFolderWriter,
    geometry: Geometry,
    original: Option<Original>,
}

/// The video as it was given, for results of another size than that of the networks.
pub struct Original {
    frames: InOrder<VideoSource, VideoFrame>,
    masks: InOrder<MaskSource, HoleMask>,
    dilation: usize,
}

impl Original {
    /// Reads what is pasted into a second time.
    pub fn new(frames: VideoSource, masks: MaskSource, dilation: usize) -> Self {
        Self {
            frames: InOrder::new(frames),
            masks: InOrder::new(masks),
            dilation,
        }
    }

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
    /// Writes what is completed; into `original`, where the result has another size.
    pub fn new(writer: FrameFolderWriter, geometry: Geometry, original: Option<Original>) -> Self {
        let original = original.filter(|_| geometry.is_scaled_back());
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

#[cfg(test)]
mod tests {
    use super::*;

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
