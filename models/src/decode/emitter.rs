use burn::tensor::{Device, Tensor, TensorData};

use super::scaling::OutputScale;

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

#[cfg(test)]
mod tests {
    use super::*;

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
}
