//! The layers of DECODE's networks.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{GroupNorm, GroupNormConfig};
use burn::tensor::{DType, Device, Tensor};
use burn_memopt::nn::{conv2d, relu};

use super::config::{Activation, convolution};
use crate::chain::Keep;
use crate::layers::group_norm;

/// Layers in the order in which they run, numbered as in a PyTorch `Sequential`.
#[derive(Module, Debug)]
pub(super) struct Layers {
    /// The layers.
    pub(super) layers: Vec<Layer>,
}

/// One of the [`Layers`].
#[derive(Module, Debug)]
pub(super) enum Layer {
    /// Group normalization.
    Norm(GroupNorm),
    /// 3×3 convolution.
    Conv(Conv2d),
    /// Activation.
    Activation(ActivationLayer),
}

/// An activation as a layer, without parameters.
#[derive(Module, Debug)]
pub(super) struct ActivationLayer {
    #[module(skip)]
    kind: Activation,
}

impl Layers {
    /// Convolutions between `channels`, each with an activation after it and, where there are
    /// groups, a normalization before it.
    pub(super) fn new(
        channels: &[usize],
        activation: Activation,
        norm_groups: Option<usize>,
        device: &Device,
    ) -> Self {
        let mut layers = Vec::new();
        for pair in channels.windows(2) {
            if let Some(groups) = norm_groups {
                let config = GroupNormConfig::new(dividing(groups, pair[0]), pair[0]);
                layers.push(Layer::Norm(config.init(device)));
            }
            let conv = convolution([pair[0], pair[1]], 3, 1, device);
            layers.push(Layer::Conv(conv));
            layers.push(Layer::Activation(ActivationLayer { kind: activation }));
        }
        Self { layers }
    }

    /// Runs all layers. Keeps the image size.
    pub(super) fn forward(&self, keep: Keep, x: Tensor<4>) -> Tensor<4> {
        self.layers.iter().fold(x, |x, layer| match layer {
            Layer::Norm(norm) => group_norm(norm, x),
            Layer::Conv(conv) => conv2d(conv, x),
            Layer::Activation(activation) => activation.forward(keep, x),
        })
    }
}

/// The most groups up to `most` that divide the channels.
fn dividing(most: usize, channels: usize) -> usize {
    let groups = (1..=most.min(channels)).rev();
    let mut fitting = groups.filter(|&groups| channels.is_multiple_of(groups));
    fitting.next().unwrap_or(1)
}

impl ActivationLayer {
    fn forward(&self, keep: Keep, x: Tensor<4>) -> Tensor<4> {
        match self.kind {
            // A ReLU keeps no more than its result, which the next layer keeps anyway.
            Activation::Relu => relu(x),
            Activation::Elu => keep.run(self, x, |_, x| elu(x)),
        }
    }
}

/// `x` above zero, `exp(x) - 1` below.
///
/// `burn::tensor::activation::elu` takes the exponential of all values, and its gradient is NaN
/// where that overflows: above 11 in f16. Here positive values never reach it.
fn elu(x: Tensor<4>) -> Tensor<4> {
    let negative = x.clone().clamp_max(0.0);
    // A small |x| in half precision would be lost between the 1 of the exponential and the 1
    // subtracted.
    let below = match x.dtype() {
        half @ (DType::F16 | DType::BF16) => {
            let wide = negative.cast(DType::F32).exp().sub_scalar(1.0);
            wide.cast(half)
        }
        _ => negative.exp().sub_scalar(1.0),
    };
    relu(x) + below
}

/// An output of a localization network: a 3×3 convolution, an activation, a 1×1 convolution.
#[derive(Module, Debug)]
pub struct Head {
    /// The first convolution and its activation.
    pub(super) core: Layers,
    /// The last convolution, without activation.
    pub out_conv: Conv2d,
}

impl Head {
    pub(super) fn new(
        features: usize,
        channels: usize,
        activation: Activation,
        device: &Device,
    ) -> Self {
        Self {
            core: Layers::new(&[features; 2], activation, None, device),
            out_conv: convolution([features, channels], 1, 1, device),
        }
    }

    pub(super) fn forward(&self, keep: Keep, x: Tensor<4>) -> Tensor<4> {
        conv2d(&self.out_conv, self.core.forward(keep, x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Tolerance, activation};

    fn values(device: &Device) -> Tensor<4> {
        let values = [-20.0f32, -1.0, -1e-3, 0.0, 1e-3, 1.0, 20.0, 100.0];
        Tensor::<1>::from_floats(values, device).reshape([1, 1, 2, 4])
    }

    #[test]
    fn elu_is_that_of_burn_where_that_is_finite() {
        let device = Device::flex();
        let (mine, burns) = (elu(values(&device)), activation::elu(values(&device), 1.0));
        let tolerance = Tolerance::<f32>::rel_abs(1e-6, 1e-7);
        mine.into_data()
            .assert_approx_eq::<f32>(&burns.into_data(), tolerance);
    }

    #[test]
    fn gradients_of_elu_stay_finite_for_values_whose_exponential_overflows() {
        let device = Device::flex().autodiff();
        for dtype in [DType::F32, DType::F16] {
            let x = values(&device).cast(dtype).require_grad();
            let grads = elu(x.clone()).sum().backward();
            let grad = x.grad(&grads).unwrap().cast(DType::F32).into_data();
            assert!(
                grad.iter::<f32>().all(|g| (0.0..=2.0).contains(&g)),
                "{grad}"
            );
        }
    }

    #[test]
    fn an_activation_that_keeps_its_input_gives_bit_equal_gradients() {
        let device = Device::flex().autodiff();
        let layers = Layers::new(&[1, 3, 3], Activation::Elu, Some(2), &device);
        let run = |keep| {
            let x = values(&device).require_grad();
            let y = layers.forward(keep, x.clone());
            let grads = y.clone().square().sum().backward();
            (y.into_data(), x.grad(&grads).unwrap().into_data())
        };
        assert_eq!(run(Keep::All), run(Keep::Input));
    }
}
