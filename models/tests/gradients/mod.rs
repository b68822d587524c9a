//! Gradients of two ways to train, compared.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsParams, SgdConfig};
use burn::tensor::Tensor;
use burn_memopt::train::{MicroBatchTrainer, MicroBatchTrainerConfig};

pub fn trainer() -> MicroBatchTrainer {
    MicroBatchTrainerConfig::new().init(SgdConfig::new().init())
}

/// The gradient of every parameter that has one, in the order of the network's.
pub type Gradients = Vec<Vec<f64>>;

/// What was accumulated.
pub fn take<M: Module>(train: &mut MicroBatchTrainer, model: &M) -> Gradients {
    let grads = train.take_gradients(model).expect("finite");
    listed(model, &grads.expect("something was accumulated"))
}

pub fn listed<M: Module>(model: &M, grads: &GradientsParams) -> Gradients {
    struct Listed<'a>(&'a GradientsParams, Gradients);
    impl ModuleVisitor for Listed<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.0.get::<D>(param.id) {
                let data = grad.into_data().convert::<f64>();
                self.1.push(data.try_into_vec().expect("f64"));
            }
        }
    }
    let mut listed = Listed(grads, Gradients::new());
    model.visit(&mut listed);
    assert!(listed.1.len() > 10);
    listed.1
}

/// The largest difference of any gradient, in shares of the largest value of the same parameter.
pub fn furthest(got: &Gradients, wanted: &Gradients) -> f64 {
    assert_eq!(got.len(), wanted.len());
    let shares = got.iter().zip(wanted).map(|(got, wanted)| {
        let largest =
            |values: &mut dyn Iterator<Item = f64>| values.map(f64::abs).fold(0.0, f64::max);
        let off = largest(&mut got.iter().zip(wanted).map(|(got, wanted)| got - wanted));
        let all = largest(&mut wanted.iter().copied());
        assert!(all > 0.0 && off.is_finite());
        off / all
    });
    shares.fold(0.0, f64::max)
}
