use burn::{
    module::{Module, ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::{Tensor, TensorData},
};

/// The gradients of a module's parameters, on the host.
pub(crate) fn on_host<M: Module>(module: &M, grads: &GradientsParams) -> Vec<TensorData> {
    let mut collect = Collect {
        grads,
        data: Vec::new(),
    };
    module.visit(&mut collect);
    collect.data
}

/// Draws the initial parameters, which burn puts off to their first use: they
/// are no part of a step.
pub(crate) fn initialise<M: Module>(module: &M) {
    struct Touch;
    impl ModuleVisitor for Touch {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            param.val();
        }
    }
    module.visit(&mut Touch);
}

struct Collect<'a> {
    grads: &'a GradientsParams,
    data: Vec<TensorData>,
}

impl ModuleVisitor for Collect<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let grad = self.grads.get::<D>(param.id);
        self.data.extend(grad.map(Tensor::into_data));
    }
}

/// Whether two lists of gradients agree within a tolerance relative to the
/// largest magnitude of each.
pub(crate) fn agree(got: &[TensorData], expected: &[TensorData], tolerance: f32) -> bool {
    let pair_agrees = |(got, expected): (&TensorData, &TensorData)| {
        let largest = expected.iter::<f32>().map(f32::abs).fold(0.0, f32::max);
        let pairs = got.iter::<f32>().zip(expected.iter::<f32>());
        got.shape() == expected.shape()
            && pairs
                .into_iter()
                .all(|(got, expected)| (got - expected).abs() <= tolerance * largest)
    };
    got.len() == expected.len() && got.iter().zip(expected).all(pair_agrees)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_agree_only_within_the_tolerance_and_in_full() {
        let expected = [TensorData::from([1.0f32, -2.0])];
        let near = [TensorData::from([1.0f32, -2.00001])];
        assert!(agree(&expected, &expected, 0.0));
        assert!(agree(&near, &expected, 1e-5));
        assert!(!agree(&near, &expected, 0.0));
        assert!(!agree(&[], &expected, 1.0));
    }
}
