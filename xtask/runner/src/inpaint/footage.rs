//! A video with holes, as the networks see it.

use anyhow::{Context, Result};
use burn_memopt::chunked::BoxError;
use burn_memopt_datasets::masks::{HoleMask, MaskSource};
use burn_memopt_datasets::video::{FrameFolderWriter, Resampling, VideoFrame, VideoSource};
use burn_memopt_models::propainter::inpaint::Footage;

use super::geometry::Geometry;
use super::in_order::InOrder;

/// What is missing in the frames.
pub enum Holes {
    /// What masks mark, grown by some pixels.
    Masks(Box<InOrder<MaskSource, HoleMask>>, usize),
    /// What lies around the frames.
    Around,
}

/// A video and its holes, in the size that the networks see.
pub struct VideoFootage {
    frames: InOrder<VideoSource, VideoFrame>,
    holes: Holes,
    geometry: Geometry,
    num_frames: usize,
    /// Where frames with painted holes go.
    masked: Option<FrameFolderWriter>,
}

impl VideoFootage {
    /// The video `source` of `num_frames` frames.
    pub fn new(source: VideoSource, num_frames: usize, holes: Holes, geometry: Geometry) -> Self {
        Self {
            frames: InOrder::new(source),
            holes,
            geometry,
            num_frames,
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
    let mut masks_in_order = InOrder::new(masks.clone());
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

/// The mask of what lies around a frame.
fn around(geometry: &Geometry) -> HoleMask {
    let ([height, width], [top, left]) = (geometry.worked, geometry.offset());
    let [rows, columns] = geometry.frame;
    let mut values = vec![1; height * width];
    for row in values.chunks_exact_mut(width).skip(top).take(rows) {
        row[left..left + columns].fill(0);
    }
    HoleMask::new(height, width, values)
}

/// Paints the holes green, so that what is around shows through.
fn paint(frame: &mut VideoFrame, mask: &HoleMask) {
    for (pixel, hole) in frame.pixels.chunks_exact_mut(3).zip(mask.values()) {
        if *hole == 1 {
            for (value, green) in pixel.iter_mut().zip([0_u8, 255, 0]) {
                *value = value.midpoint(green);
            }
        }
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
}
