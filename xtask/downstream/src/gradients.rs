//! All gradients of a model, and the peak of computing them.

use burn::module::{ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::prelude::*;
use burn_memopt::prelude::*;

/// The gradients of every parameter, and the peak of a training step.
pub struct Step {
    pub gradients: Vec<TensorData>,
    pub peak: Bytes,
}

impl Step {
    /// Runs a training step up to its gradients.
    pub fn run<M: Module>(model: &M, device: &Device, loss: impl FnOnce(&M) -> Tensor<1>) -> Self {
        let meter = PeakMeter::start(device);
        let grads = GradientsParams::from_grads(loss(model).backward(), model);
        let peak = meter.finish().peak.expect("the allocator is installed");
        let mut visitor = Collect {
            grads: &grads,
            data: Vec::new(),
        };
        model.visit(&mut visitor);
        Self {
            gradients: visitor.data,
            peak,
        }
    }

    /// Whether every gradient is within `tolerance` of `expected`, relative to its largest number.
    pub fn agrees_with(&self, expected: &Self, tolerance: f32) -> bool {
        let is_close = |(got, expected): (&TensorData, &TensorData)| {
            let largest = expected.iter::<f32>().map(f32::abs).fold(0.0, f32::max);
            let mut pairs = got.iter::<f32>().zip(expected.iter::<f32>());
            pairs.all(|(got, expected)| (got - expected).abs() <= tolerance * largest)
        };
        self.gradients.len() == expected.gradients.len()
            && self.gradients.iter().zip(&expected.gradients).all(is_close)
    }
}

struct Collect<'a> {
    grads: &'a GradientsParams,
    data: Vec<TensorData>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let grad = self
            .grads
            .get::<D>(param.id)
            .expect("every parameter has a gradient");
        self.data.push(grad.into_data());
    }
}
