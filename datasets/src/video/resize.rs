use image::imageops::{self, FilterType};
use image::{ImageBuffer, Rgb};

use super::VideoFrame;

/// How the pixels of a [resized](VideoFrame::resized) frame are mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resampling {
    /// Sharp; for making frames smaller.
    Bicubic,
    /// Soft, without overshoot; for making frames larger.
    Bilinear,
}

impl VideoFrame {
    /// The frame at another size.
    ///
    /// Where it gets smaller, every pixel is a mean over all that it stands for.
    ///
    /// # Panics
    /// If a side is zero, or the frame does not hold the pixels that its sides say.
    #[must_use]
    pub fn resized(&self, height: usize, width: usize, resampling: Resampling) -> Self {
        assert!(
            height > 0 && width > 0,
            "frame must have pixels, got {height}×{width}"
        );
        self.check();
        if (height, width) == (self.height, self.width) {
            return self.clone();
        }
        let filter = match resampling {
            Resampling::Bicubic => FilterType::CatmullRom,
            Resampling::Bilinear => FilterType::Triangle,
        };
        let (columns, rows) = (self.width as u32, self.height as u32);
        let image = ImageBuffer::<Rgb<u8>, _>::from_raw(columns, rows, &self.pixels[..]);
        let image = image.expect("invariant: the number of pixels was checked");
        let resized = imageops::resize(&image, width as u32, height as u32, filter);
        Self {
            index: self.index,
            height,
            width,
            pixels: resized.into_raw(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(height: usize, width: usize, pixels: Vec<u8>) -> VideoFrame {
        VideoFrame {
            index: 3,
            height,
            width,
            pixels,
        }
    }

    #[test]
    fn a_plain_frame_stays_plain_at_any_size() {
        let grey = frame(5, 7, vec![90; 5 * 7 * 3]);
        for resampling in [Resampling::Bicubic, Resampling::Bilinear] {
            let resized = grey.resized(8, 3, resampling);
            assert_eq!(resized, frame(8, 3, vec![90; 8 * 3 * 3]));
        }
    }

    #[test]
    fn the_same_size_changes_nothing() {
        let frame = frame(1, 2, vec![1, 2, 3, 4, 5, 6]);
        assert_eq!(frame.resized(1, 2, Resampling::Bicubic), frame);
    }

    #[test]
    #[should_panic(expected = "frame must have pixels, got 0×2")]
    fn an_empty_frame_is_refused() {
        let _ = frame(1, 1, vec![0; 3]).resized(0, 2, Resampling::Bilinear);
    }
}
