//! Small modules and the comparison of two runs, shared by the tests.
#![allow(dead_code, missing_docs)]

use burn::{
    module::{Module, ModuleVisitor, Param, ParamId},
    nn::{
        BatchNorm, BatchNormConfig, Dropout, DropoutConfig, GroupNorm, GroupNormConfig, Linear,
        LinearConfig, PaddingConfig2d,
        attention::{MhaInput, MultiHeadAttention, MultiHeadAttentionConfig},
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{Bool, Device, Distribution, Gradients, Tensor, TensorData, activation},
};

pub fn inner_device() -> Device {
    Device::flex()
}

pub fn test_device() -> Device {
    inner_device().autodiff()
}

/// A GPU through CUDA or wgpu, software included; `None`, with the reason printed,
/// where there is no adapter.
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "cuda"))]
pub fn gpu_device() -> Option<Device> {
    let open = || {
        #[cfg(feature = "cuda")]
        let device = Device::cuda(0);
        #[cfg(all(feature = "vulkan", not(feature = "cuda")))]
        let device = Device::vulkan(burn::tensor::DeviceKind::DefaultDevice);
        #[cfg(not(any(feature = "cuda", feature = "vulkan")))]
        let device = Device::wgpu(burn::tensor::DeviceKind::DefaultDevice);
        Tensor::<1>::ones([1], &device).into_data();
        device
    };
    match std::panic::catch_unwind(open) {
        Ok(device) => Some(device.autodiff()),
        Err(_) => {
            eprintln!("skipped: no GPU adapter (nor software Vulkan) on this machine");
            None
        }
    }
}

/// Convolution, normalisation, ReLU, convolution, dropout, around a residual.
#[derive(Module, Debug)]
pub struct Block {
    pub first: Conv2d,
    norm: Norm,
    pub second: Conv2d,
    dropout: Dropout,
}

#[derive(Module, Debug)]
enum Norm {
    Batch(BatchNorm),
    Group(GroupNorm),
}

impl Block {
    pub fn new(channels: usize, batch_norm: bool, dropout: f64, device: &Device) -> Self {
        let conv = Conv2dConfig::new([channels, channels], [3, 3])
            .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
        let norm = match batch_norm {
            true => Norm::Batch(BatchNormConfig::new(channels).init(device)),
            false => Norm::Group(GroupNormConfig::new(2, channels).init(device)),
        };
        Self {
            first: conv.init(device),
            norm,
            second: conv.init(device),
            dropout: DropoutConfig::new(dropout).init(),
        }
    }

    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.first.forward(x.clone());
        let y = match &self.norm {
            Norm::Batch(norm) => norm.forward(y),
            Norm::Group(norm) => norm.forward(y),
        };
        let y = self.second.forward(activation::relu(y));
        x + self.dropout.forward(y)
    }

    pub fn batch_norm(&self) -> Option<&BatchNorm> {
        match &self.norm {
            Norm::Batch(norm) => Some(norm),
            Norm::Group(_) => None,
        }
    }
}

#[derive(Module, Debug)]
pub struct Mlp {
    pub first: Linear,
    pub second: Linear,
}

impl Mlp {
    pub fn new(width: usize, device: &Device) -> Self {
        Self {
            first: LinearConfig::new(width, width).init(device),
            second: LinearConfig::new(width, width).init(device),
        }
    }

    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.second.forward(activation::gelu(self.first.forward(x)))
    }
}

#[derive(Module, Debug)]
pub struct Attention {
    attention: MultiHeadAttention,
    mlp: Mlp,
}

impl Attention {
    pub fn new(width: usize, device: &Device) -> Self {
        let attention = MultiHeadAttentionConfig::new(width, 2).with_dropout(0.0);
        Self {
            attention: attention.init(device),
            mlp: Mlp::new(width, device),
        }
    }

    pub fn forward(&self, x: Tensor<3>, mask: Tensor<2, Bool>) -> Tensor<3> {
        let input = MhaInput::self_attn(x.clone()).mask_pad(mask);
        self.mlp.forward(self.attention.forward(input).context + x)
    }
}

/// Draws the initial parameters, which burn puts off to the first use.
pub fn initialised<M: Module>(module: M) -> M {
    // Not between the seed and the draw of a test that runs beside this one.
    let _stream = burn_memopt::grad_checkpoint::hold_random_stream();
    struct Touch;
    impl ModuleVisitor for Touch {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            param.val();
        }
    }
    module.visit(&mut Touch);
    module
}

/// A stack of layers, as wide as they are deep.
pub fn linear_stack(num_layers: usize, width: usize, device: &Device) -> Vec<Linear> {
    let layer = |_| {
        LinearConfig::new(width, width)
            .with_bias(false)
            .init(device)
    };
    initialised((0..num_layers).map(layer).collect::<Vec<Linear>>())
}

pub fn run_linear_stack(stack: &[Linear], x: Tensor<2>) -> Tensor<2> {
    stack.iter().fold(x, |x, layer| layer.forward(x))
}

/// Every parameter and running statistic.
pub fn values<M: Module>(model: &M) -> Vec<TensorData> {
    struct Collect(Vec<TensorData>);
    impl ModuleVisitor for Collect {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.val().into_data());
        }
    }
    let mut collect = Collect(Vec::new());
    model.valid().visit(&mut collect);
    collect.0
}

pub fn image(channels: usize, device: &Device) -> Tensor<4> {
    Tensor::random([2, channels, 8, 8], Distribution::Normal(0.0, 1.0), device)
}

/// Loss and gradients of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub loss: TensorData,
    pub input: Option<TensorData>,
    pub params: Vec<(ParamId, Option<TensorData>)>,
}

impl Outcome {
    /// The largest difference of a gradient, as a share of the largest value of its tensor.
    pub fn deviation(&self, expected: &Self) -> f32 {
        let pairs = self.params.iter().zip(&expected.params);
        let pairs = pairs.filter_map(|(got, expected)| got.1.as_ref().zip(expected.1.as_ref()));
        let shares = pairs.map(|(got, expected)| {
            let largest = expected.iter::<f32>().map(f32::abs).fold(0.0, f32::max);
            let differences = got.iter::<f32>().zip(expected.iter::<f32>());
            let largest_difference = differences.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            largest_difference / largest.max(f32::MIN_POSITIVE)
        });
        shares.fold(0.0, f32::max)
    }

    /// Compares with a tolerance relative to the largest magnitude of each tensor.
    #[track_caller]
    pub fn assert_close(&self, expected: &Self, tolerance: f32) {
        let pairs = |outcome: &Self| {
            let params = outcome.params.iter().filter_map(|(_, grad)| grad.clone());
            let all = [outcome.loss.clone()]
                .into_iter()
                .chain(outcome.input.clone());
            all.chain(params).collect::<Vec<_>>()
        };
        let (got, expected) = (pairs(self), pairs(expected));
        assert_eq!(got.len(), expected.len());
        for (got, expected) in got.iter().zip(&expected) {
            let largest = expected.iter::<f32>().map(f32::abs).fold(0.0, f32::max);
            for (got, expected) in got.iter::<f32>().zip(expected.iter::<f32>()) {
                assert!(
                    (got - expected).abs() <= tolerance * largest,
                    "{got} is not {expected}"
                );
            }
        }
    }
}

/// Runs a step whose input is a leaf.
pub fn gradients_of<M: Module>(
    module: &M,
    x: &Tensor<4>,
    step: impl Fn(&M, Tensor<4>) -> Tensor<1>,
) -> Outcome {
    struct Collect<'a> {
        grads: &'a Gradients,
        params: Vec<(ParamId, Option<TensorData>)>,
    }
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let grad = param.val().grad(self.grads).map(Tensor::into_data);
            self.params.push((param.id, grad));
        }
    }
    let strategy = module.devices()[0]
        .gradient_checkpointing_strategy()
        .unwrap();
    let x = x.clone().without_autodiff().autodiff();
    let x = x
        .with_gradient_checkpointing_strategy(strategy)
        .require_grad();
    let loss = step(module, x.clone());
    let grads = loss.backward();
    let mut collect = Collect {
        grads: &grads,
        params: Vec::new(),
    };
    module.visit(&mut collect);
    // Buffers never have a gradient: leave them out.
    let params = collect.params;
    Outcome {
        loss: loss.into_data(),
        input: x.grad(&grads).map(Tensor::into_data),
        params,
    }
}
