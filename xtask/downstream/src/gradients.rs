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

    /// The largest difference from `expected`, relative to the largest of its numbers.
    pub fn distance(&self, expected: &Self) -> f32 {
        let numbers = |step: &Self| -> Vec<f32> {
            let gradients = step.gradients.iter();
            gradients
                .flat_map(|gradient| gradient.iter::<f32>().collect::<Vec<_>>())
                .collect()
        };
        let (got, expected) = (numbers(self), numbers(expected));
        assert_eq!(got.len(), expected.len(), "both have all gradients");
        let largest = expected
            .iter()
            .fold(0.0, |largest: f32, number| largest.max(number.abs()));
        let distances = got
            .iter()
            .zip(&expected)
            .map(|(got, expected)| (got - expected).abs());
        // Not `f32::max`, which drops a number that is none.
        let furthest = distances.fold(0.0, |furthest: f32, distance| {
            if distance <= furthest {
                furthest
            } else {
                distance
            }
        });
        furthest / largest
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
