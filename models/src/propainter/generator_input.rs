use burn::tensor::Tensor;
use burn_memopt::impl_tensors;

use super::encoder::SCALE;
use super::feature_propagation::Flows;
use super::image_propagation::ImagePropagation;
use super::layers::with_references;

/// The frames of one call of an [`InpaintGenerator`](super::InpaintGenerator): local ones,
/// neighbours in time, first, and reference frames from elsewhere in the video after them.
#[derive(Clone, Debug)]
pub struct GeneratorInput {
    /// Frames with what image propagation filled in: `[batch_size, frames, 3, height, width]`, in
    /// [-1, 1], 0 where unknown.
    pub frames: Tensor<5>,
    /// Completed flows between the local frames, at full size.
    pub flows: Flows,
    /// 1 in the hole: `[batch_size, frames, 1, height, width]`.
    pub masks: Tensor<5>,
    /// 1 where image propagation left a pixel unknown, of the same shape.
    pub updated_masks: Tensor<5>,
    /// How many of the frames are local.
    pub num_local: usize,
}

// Flows stay in f32: they say where pixels come from.
impl_tensors!(GeneratorInput { frames, masks, updated_masks; uncast flows; plain num_local });

impl GeneratorInput {
    /// Fills the holes of the local frames with pixels of each other first, and blanks what is
    /// left of the holes of all.
    ///
    /// # Shapes
    /// - frames: `[batch_size, frames, 3, height, width]`, in [-1, 1], the local ones first
    /// - flows: completed, between the local frames
    /// - masks: `[batch_size, frames, 1, height, width]`, 1 in the hole
    pub fn propagated(
        frames: Tensor<5>,
        flows: Flows,
        masks: Tensor<5>,
        num_local: usize,
        propagation: ImagePropagation,
    ) -> Self {
        let known = frames * masks.clone().neg().add_scalar(1.0);
        let local = |x: &Tensor<5>| x.clone().narrow(1, 0, num_local);
        let (filled, left) = propagation.forward(local(&known), &flows, local(&masks));
        let filled = local(&known) + filled * local(&masks);
        Self {
            frames: with_references(filled, known),
            updated_masks: with_references(left, masks.clone()),
            flows,
            masks,
            num_local,
        }
    }

    /// Checks sizes and numbers.
    ///
    /// # Panics
    /// If a side is no multiple of 4, or there is no local frame.
    pub(super) fn check(&self) {
        let [_, count, _, height, width] = self.frames.dims();
        assert!(
            height.is_multiple_of(SCALE) && width.is_multiple_of(SCALE),
            "frame sides must be multiples of {SCALE} pixels, got {height}×{width}"
        );
        assert!(
            (1..=count).contains(&self.num_local),
            "local frames must be 1 to all {count}, got {}",
            self.num_local
        );
    }
}
