//! Batches in a network's units: frames to inputs, emitters to targets.

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::networks::SigmaMUNet;

/// Brings camera counts to the size of a network's inputs: `(counts - offset) / scale`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputScale {
    /// Counts that become 0.
    pub offset: f32,
    /// Counts that become 1, above the offset.
    pub scale: f32,
}

impl InputScale {
    /// Scales one value.
    pub fn apply(&self, counts: f32) -> f32 {
        (counts - self.offset) / self.scale
    }

    /// Scales a tensor of any shape.
    pub fn forward<const D: usize>(&self, counts: Tensor<D>) -> Tensor<D> {
        counts.sub_scalar(self.offset).div_scalar(self.scale)
    }
}

/// The units of a network's output: what its values are multiplied by.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt_models::decode::OutputScale;
///
/// let output = Tensor::<4>::full([1, 6, 1, 1], 0.5, &Device::flex());
/// let physical = OutputScale::new(1000.0, 40.0).to_physical(output);
/// let values: Vec<f32> = physical.into_data().iter::<f32>().collect();
/// assert_eq!(values, [0.5, 500.0, 0.5, 0.5, 0.5, 20.0]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputScale {
    /// Photons.
    pub photons: f32,
    /// Offset along the rows' axis, in pixels.
    pub row: f32,
    /// Offset along the columns' axis, in pixels.
    pub column: f32,
    /// Position along the optical axis.
    pub z: f32,
    /// Background in photons a pixel where the output is 0.
    pub background_offset: f32,
    /// Background in photons a pixel of an output of 1, above the offset.
    pub background: f32,
    /// Factor on all of these, so that the largest values are not at the end of an activation's
    /// range.
    pub buffer: f32,
}

impl OutputScale {
    /// An output of 1 means `photons`, one pixel, and `background` in photons a pixel.
    pub fn new(photons: f32, background: f32) -> Self {
        Self {
            photons,
            row: 1.0,
            column: 1.0,
            z: 1.0,
            background_offset: 0.0,
            background,
            buffer: 1.0,
        }
    }

    /// Turns a network's output into physical units; probabilities stay.
    ///
    /// # Shapes
    /// - output, result: `[batch_size, channels, height, width]` with 5, 6 or 10 channels, those
    ///   of [`DoubleMUNet`](super::DoubleMUNet) and [`SigmaMUNet`]
    ///
    /// # Panics
    /// If there are other channels.
    pub fn to_physical(&self, output: Tensor<4>) -> Tensor<4> {
        let (factors, offsets) = self.channel_scale(&output);
        output * factors + offsets
    }

    /// Turns physical units into those of a network's output: the inverse of
    /// [`to_physical`](Self::to_physical).
    ///
    /// # Panics
    /// As [`to_physical`](Self::to_physical).
    pub fn to_network(&self, physical: Tensor<4>) -> Tensor<4> {
        let (factors, offsets) = self.channel_scale(&physical);
        (physical - offsets) / factors
    }

    /// Photons, row, column and z of an emitter as the loss compares them with an output.
    pub(super) fn target(&self, emitter: &Emitter) -> [f32; 4] {
        let photons = emitter.photons / (self.photons * self.buffer);
        [
            photons,
            emitter.y,
            emitter.x,
            emitter.z / (self.z * self.buffer),
        ]
    }

    /// A background as the loss compares it with an output.
    pub(super) fn background_target(&self, photons: f32) -> f32 {
        (photons - self.background_offset) / (self.background * self.buffer)
    }

    /// Factors and offsets, `[1, channels, 1, 1]`.
    fn channel_scale(&self, tensor: &Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let channels = tensor.dims()[1];
        assert!(
            [5, 6, SigmaMUNet::CHANNELS].contains(&channels),
            "channels must be 5, 6 or 10, got {channels}"
        );
        let attributes = [self.photons, self.row, self.column, self.z];
        let attributes = attributes.map(|scale| scale * self.buffer);
        let mut factors = vec![1.0];
        factors.extend(attributes);
        if channels == SigmaMUNet::CHANNELS {
            factors.extend(attributes);
        }
        let mut offsets = vec![0.0; factors.len()];
        if channels > 5 {
            factors.push(self.background * self.buffer);
            offsets.push(self.background_offset);
        }
        let row = |values: Vec<f32>| {
            let data = TensorData::new(values, [1, channels, 1, 1]);
            Tensor::from_data(data, &tensor.device())
        };
        (row(factors), row(offsets))
    }
}

/// An emitter in one frame.
///
/// Positions are in pixels; the centre of the first pixel is at 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Emitter {
    /// Column in pixels.
    pub x: f32,
    /// Row in pixels.
    pub y: f32,
    /// Position along the optical axis, in the unit of the data; 0 where it is not known.
    pub z: f32,
    /// Photons collected in this frame.
    pub photons: f32,
}

/// The emitters of a batch of frames, as [`MixtureLoss`](crate::loss::MixtureLoss) takes them.
///
/// Frames are padded to the most emitters of a frame in the batch, not of the data set.
#[derive(Clone, Debug)]
pub struct EmitterTargets {
    /// Photons, row, column and z of every emitter, in the units of the network's output.
    ///
    /// # Shapes
    /// - `[batch_size, most_emitters, 4]`
    pub params: Tensor<3>,
    /// 1 for an emitter, 0 for padding.
    ///
    /// # Shapes
    /// - `[batch_size, most_emitters]`
    pub mask: Tensor<2>,
    /// Background of every pixel, in the unit of the network's output.
    ///
    /// # Shapes
    /// - `[batch_size, height, width]`
    pub background: Tensor<3>,
}

impl EmitterTargets {
    /// Collects the emitters and the background, in photons a pixel, of each frame.
    ///
    /// Rows and columns stay in pixels: a network's offsets are pixels.
    ///
    /// # Panics
    /// If there are other numbers of frames and backgrounds, or none.
    ///
    /// # Example
    /// ```
    /// use burn::tensor::Device;
    /// use burn_memopt_models::decode::{Emitter, EmitterTargets, OutputScale};
    ///
    /// let emitter = Emitter { x: 3.0, y: 1.5, z: 0.0, photons: 800.0 };
    /// let frames = [vec![emitter, emitter], vec![]];
    /// let scale = OutputScale::new(1000.0, 50.0);
    /// let targets = EmitterTargets::new(&frames, &[20.0, 20.0], [8, 8], &scale, &Device::flex());
    /// assert_eq!(targets.params.dims(), [2, 2, 4]);
    /// assert_eq!(targets.mask.sum().into_scalar::<f32>(), 2.0);
    /// ```
    pub fn new(
        frames: &[Vec<Emitter>],
        backgrounds: &[f32],
        [height, width]: [usize; 2],
        scale: &OutputScale,
        device: &Device,
    ) -> Self {
        let batch_size = frames.len();
        assert!(
            batch_size > 0 && batch_size == backgrounds.len(),
            "there must be a background for each of at least one frame, got {} for {batch_size}",
            backgrounds.len()
        );
        let most = frames.iter().map(Vec::len).max().unwrap_or(0).max(1);
        let (mut params, mut mask) = (Vec::new(), Vec::new());
        for emitters in frames {
            for emitter in emitters {
                params.extend(scale.target(emitter));
                mask.push(1.0);
            }
            params.resize(params.len() + 4 * (most - emitters.len()), 0.0);
            mask.resize(mask.len() + most - emitters.len(), 0.0f32);
        }
        let backgrounds = backgrounds
            .iter()
            .map(|&photons| scale.background_target(photons));
        let backgrounds = TensorData::new(backgrounds.collect::<Vec<f32>>(), [batch_size, 1, 1]);
        let background = Tensor::<3>::from_data(backgrounds, device);
        Self {
            params: Tensor::from_data(TensorData::new(params, [batch_size, most, 4]), device),
            mask: Tensor::from_data(TensorData::new(mask, [batch_size, most]), device),
            background: background.expand([batch_size, height, width]),
        }
    }
}

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
    use burn::tensor::{Distribution, Tolerance};
    use burn_memopt::grad_checkpoint::hold_random_stream;

    #[test]
    fn deviations_have_the_units_of_their_means() {
        let ones = Tensor::<4>::ones([1, 10, 1, 1], &Device::flex());
        let physical = OutputScale::new(1000.0, 40.0).to_physical(ones);
        let values: Vec<f32> = physical.into_data().iter::<f32>().collect();
        assert_eq!(values[1..5], values[5..9]);
        assert_eq!((values[1], values[9]), (1000.0, 40.0));
    }

    #[test]
    fn scaling_back_and_forth_changes_nothing() {
        let _stream = hold_random_stream().seeded(&Device::flex(), 1);
        let mut scale = OutputScale::new(1200.0, 40.0);
        (scale.background_offset, scale.z, scale.buffer) = (7.0, 750.0, 1.2);
        let device = Device::flex();
        for channels in [5, 6, 10] {
            let shape = [2, channels, 3, 2];
            let output = Tensor::<4>::random(shape, Distribution::Default, &device);
            let again = scale.to_network(scale.to_physical(output.clone()));
            let tolerance = Tolerance::<f32>::rel_abs(1e-5, 1e-5);
            again
                .into_data()
                .assert_approx_eq::<f32>(&output.into_data(), tolerance);
        }
    }

    #[test]
    fn emitters_are_padded_within_their_frame() {
        let emitter = |x| Emitter {
            x,
            y: 1.0,
            z: 0.0,
            photons: 500.0,
        };
        let frames = [vec![emitter(1.0)], vec![emitter(2.0), emitter(3.0)], vec![]];
        let scale = OutputScale::new(1000.0, 100.0);
        let targets = EmitterTargets::new(
            &frames,
            &[10.0, 20.0, 30.0],
            [2, 3],
            &scale,
            &Device::flex(),
        );
        let mask: Vec<f32> = targets.mask.into_data().iter::<f32>().collect();
        assert_eq!(mask, [1.0, 0.0, 1.0, 1.0, 0.0, 0.0]);
        let params: Vec<f32> = targets.params.into_data().iter::<f32>().collect();
        assert_eq!(params[..4], [0.5, 1.0, 1.0, 0.0]);
        assert_eq!(params[8..16], [0.5, 1.0, 2.0, 0.0, 0.5, 1.0, 3.0, 0.0]);
        let background: Vec<f32> = targets.background.into_data().iter::<f32>().collect();
        assert_eq!((background[0], background[17]), (0.1, 0.3));
    }

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
