use burn::tensor::{Device, Tensor, TensorData};

use super::scaling::InputScale;

/// Makes network inputs of frames: scales their pixels and pads them to sides that a network
/// takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FrameBatcher {
    /// Height and width of a frame in pixels.
    pub size: [usize; 2],
    /// How counts are scaled.
    pub scale: InputScale,
    /// What the sides must be multiples of: see [`MUNet::size_multiple`](super::MUNet::size_multiple).
    pub multiple: usize,
}

impl FrameBatcher {
    /// Height and width of the tensors made, in pixels.
    pub fn padded_size(&self) -> [usize; 2] {
        self.size.map(|side| side.next_multiple_of(self.multiple))
    }

    /// Puts frames, row by row, into a tensor, `frames_per_item` to an item.
    ///
    /// Every pixel is copied once; nothing but the frames of the batch is in memory. What is
    /// added below and to the right repeats the last row and column.
    ///
    /// # Shapes
    /// - output: `[frames.len() / frames_per_item, frames_per_item, padded_height, padded_width]`
    ///
    /// # Panics
    /// If the frames do not fill the items, or one has another number of pixels.
    ///
    /// # Example
    /// ```
    /// use burn::tensor::Device;
    /// use burn_memopt_models::decode::{FrameBatcher, InputScale};
    ///
    /// let stack = [[100u16; 15], [102; 15]];
    /// let frames = [&stack[0][..], &stack[0], &stack[1]];
    /// let scale = InputScale { offset: 100.0, scale: 2.0 };
    /// let batcher = FrameBatcher { size: [3, 5], scale, multiple: 4 };
    /// let windows = batcher.batch(&frames, 3, &Device::flex());
    /// assert_eq!(windows.dims(), [1, 3, 4, 8]);
    /// assert_eq!(windows.sum().into_scalar::<f32>(), 32.0);
    /// ```
    pub fn batch<P: Copy + Into<f32>>(
        &self,
        frames: &[&[P]],
        frames_per_item: usize,
        device: &Device,
    ) -> Tensor<4> {
        assert!(
            !frames.is_empty() && frames.len().is_multiple_of(frames_per_item),
            "frames must fill items of {frames_per_item}, got {}",
            frames.len()
        );
        let [height, width] = self.padded_size();
        let mut values = Vec::with_capacity(frames.len() * height * width);
        for frame in frames {
            self.append(frame, &mut values);
        }
        let shape = [
            frames.len() / frames_per_item,
            frames_per_item,
            height,
            width,
        ];
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    fn append<P: Copy + Into<f32>>(&self, frame: &[P], values: &mut Vec<f32>) {
        let [height, width] = self.size;
        assert!(
            frame.len() == height * width,
            "a frame must have {height}×{width} pixels, got {}",
            frame.len()
        );
        let [padded_height, padded_width] = self.padded_size();
        for row in 0..padded_height {
            let start = row.min(height - 1) * width;
            let pixels = &frame[start..start + width];
            values.extend(pixels.iter().map(|&pixel| self.scale.apply(pixel.into())));
            let last = self.scale.apply(pixels[width - 1].into());
            values.resize(values.len() + padded_width - width, last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "a frame must have 2×2 pixels, got 3")]
    fn a_frame_of_another_size_is_refused() {
        let scale = InputScale {
            offset: 0.0,
            scale: 1.0,
        };
        let batcher = FrameBatcher {
            size: [2, 2],
            scale,
            multiple: 2,
        };
        batcher.batch(&[&[1.0f32; 3][..]], 1, &Device::flex());
    }
}
