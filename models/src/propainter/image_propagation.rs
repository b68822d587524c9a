use burn::tensor::{DType, Tensor};

use super::direction::Direction;
use super::feature_propagation::Flows;
use super::layers::{clip, frames};
use super::warp::{Sampling, consistency, in_dtype, warp};

/// Fills holes with pixels of other frames that the completed flows lead to, backward and then
/// forward in time; has no parameters.
///
/// # References
/// Zhou et al. 2023, "ProPainter", arXiv:2309.03897, section 3.3 (image propagation).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImagePropagation {
    /// How pixels are taken from other frames; holes always bilinearly.
    pub sampling: Sampling,
}

/// Frames with the hole that is left in each.
#[derive(Clone, Debug)]
pub struct Filled {
    /// The frames, one by one: `[batch_size, 3, height, width]`.
    pub images: Vec<Tensor<4>>,
    /// 1 where a pixel is still unknown: `[batch_size, 1, height, width]`.
    pub masks: Vec<Tensor<4>>,
}

impl ImagePropagation {
    /// Fills what can be filled.
    ///
    /// # Shapes
    /// - images: `[batch_size, frames, 3, height, width]`, 0 in the holes
    /// - flows: at this height and width
    /// - masks: `[batch_size, frames, 1, height, width]`, 1 in the holes
    /// - output: images and masks of the same shapes; only pixels of holes are meaningful
    pub fn forward(
        &self,
        images: Tensor<5>,
        flows: &Flows,
        masks: Tensor<5>,
    ) -> (Tensor<5>, Tensor<5>) {
        let filled = Filled {
            images: frames(images),
            masks: frames(masks),
        };
        let filled = self.backward(filled, flows);
        let filled = self.pass(Direction::Forward, filled, flows);
        (clip(filled.images), clip(filled.masks))
    }

    /// The first of the two passes, against the direction of time.
    pub fn backward(&self, filled: Filled, flows: &Flows) -> Filled {
        self.pass(Direction::Backward, filled, flows)
    }

    fn pass(&self, direction: Direction, given: Filled, flows: &Flows) -> Filled {
        type Before<'a> = Option<(usize, &'a (Tensor<4>, Tensor<4>))>;
        let results = direction.run(given.images.len(), |at, before: Before<'_>| {
            let current = (given.images[at].clone(), given.masks[at].clone());
            match before {
                None => current,
                Some((from, carried)) => {
                    self.fill(current, carried.clone(), flows.between(at, from))
                }
            }
        });
        let (images, masks) = results.into_iter().unzip();
        Filled { images, masks }
    }

    /// Fills the hole of one frame from its neighbour.
    fn fill(
        &self,
        (image, mask): (Tensor<4>, Tensor<4>),
        (carried, carried_mask): (Tensor<4>, Tensor<4>),
        [flow, opposite]: [Tensor<4>; 2],
    ) -> (Tensor<4>, Tensor<4>) {
        let dtype = image.dtype();
        let valid = consistency(flow.clone(), opposite);
        let warped = warp(carried, flow.clone(), self.sampling);
        let unknown = binary(warp(carried_mask, flow, Sampling::Bilinear));
        // Where the flow can be trusted and leads to a known pixel.
        let known = in_dtype(valid, dtype) * unknown.neg().add_scalar(1.0);
        let fill = binary(mask.clone() * known.clone());
        let left = binary(mask * known.neg().add_scalar(1.0));
        let kept = fill.clone().neg().add_scalar(1.0);
        (fill * warped + kept * image, left)
    }
}

/// 1 above a tenth, else 0.
fn binary(mask: Tensor<4>) -> Tensor<4> {
    let dtype: DType = mask.dtype();
    in_dtype(mask.greater_elem(0.1).float(), dtype)
}
