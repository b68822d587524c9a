//! The gradients of a step, in parts that the learner steps with one after the other.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;

/// A part has at least this share of all bytes, unless it is the last.
const NUM_PARTS: usize = 16;

/// Divides `grads` by the parameters of `model`, in their order. A part has a sixteenth of all bytes or less, or
/// one parameter; so there are at most twice as many and one.
///
/// A `Learner` steps a clone of its model. Parameters without a gradient are shared with it, those with one
/// are there twice until it is done.
pub(super) fn in_parts<M: Module>(model: &M, grads: GradientsParams) -> Vec<GradientsParams> {
    let mut all = Count { grads, bytes: 0 };
    model.visit(&mut all);
    let mut parts = Divide {
        grads: all.grads,
        most: all.bytes / NUM_PARTS,
        parts: Vec::new(),
        bytes: 0,
    };
    model.visit(&mut parts);
    parts.parts
}

struct Count {
    grads: GradientsParams,
    bytes: usize,
}

impl ModuleVisitor for Count {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.get::<D>(param.id) {
            self.bytes += bytes_of(&grad);
        }
    }
}

struct Divide {
    grads: GradientsParams,
    most: usize,
    parts: Vec<GradientsParams>,
    /// Of the last part.
    bytes: usize,
}

impl ModuleVisitor for Divide {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        // A parameter that several layers share has one gradient.
        let Some(grad) = self.grads.remove::<D>(param.id) else {
            return;
        };
        let bytes = bytes_of(&grad);
        self.bytes += bytes;
        if self.parts.is_empty() || self.bytes > self.most {
            self.parts.push(GradientsParams::new());
            self.bytes = bytes;
        }
        let part = self.parts.last_mut().expect("one was pushed");
        part.register(param.id, grad);
    }
}

fn bytes_of<const D: usize>(tensor: &Tensor<D>) -> usize {
    tensor.shape().num_elements() * tensor.dtype().size()
}

#[cfg(test)]
mod tests {
    use burn::nn::LinearConfig;
    use burn::tensor::Device;

    use super::*;

    fn lens(sizes: &[usize]) -> Vec<usize> {
        let device = Device::flex().autodiff();
        let layer = |&size: &usize| LinearConfig::new(size, 1).with_bias(false).init(&device);
        let model: Vec<_> = sizes.iter().map(layer).collect();
        let mut grads = GradientsParams::new();
        for layer in &model {
            let weight = layer.weight.val().inner();
            grads.register(layer.weight.id, weight);
        }
        let parts = in_parts(&model, grads);
        parts.iter().map(GradientsParams::len).collect()
    }

    #[test]
    fn a_part_is_a_sixteenth_or_one_parameter() {
        assert_eq!(lens(&[10; 16]), [1; 16]);
        assert_eq!(lens(&[10; 64]), [4; 16]);
        assert_eq!(lens(&[1, 1, 160, 1, 1, 1]), [2, 1, 3]);
        assert_eq!(lens(&[5]), [1]);
        assert!(lens(&[]).is_empty());
    }

    #[test]
    fn there_are_no_more_than_twice_as_many_and_one() {
        // Each pair is too large for a part.
        let sizes: Vec<_> = (0..200).map(|index| 1 + 11 * (index % 2)).collect();
        assert!(lens(&sizes).len() <= 2 * NUM_PARTS + 1);
    }
}
