use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::emitter::Emitter;
use super::sigma_munet::SigmaMUNet;

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
    /// Background in photons a pixel that 1 in the output stands for, above the offset.
    pub background: f32,
    /// Factor on all of these, so that the largest values are not at the end of an activation's
    /// range.
    pub buffer: f32,
}

impl OutputScale {
    /// Outputs of 1 stand for `photons`, for a pixel, and for `background` in photons a pixel.
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
        let (factors, offsets) = self.of_channels(&output);
        output * factors + offsets
    }

    /// Turns physical units into those of a network's output: the inverse of
    /// [`to_physical`](Self::to_physical).
    ///
    /// # Panics
    /// As [`to_physical`](Self::to_physical).
    pub fn to_network(&self, physical: Tensor<4>) -> Tensor<4> {
        let (factors, offsets) = self.of_channels(&physical);
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
    fn of_channels(&self, tensor: &Tensor<4>) -> (Tensor<4>, Tensor<4>) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution, Tolerance};

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
}
