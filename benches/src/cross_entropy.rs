//! The loss of a language model's head: its logits whole, and for some positions at a time.

use burn::{
    module::Param,
    optim::GradientsParams,
    tensor::{Distribution, Int, Tensor, activation::log_softmax},
};
use burn_memopt::{chunked::BoxError, grad_checkpoint::chunked_cross_entropy};

use crate::bench::{Bench, Variant};

const ROUNDS: usize = 3;

/// What comes into a head and goes out of it.
struct Workload {
    hidden: Param<Tensor<2>>,
    weight: Param<Tensor<2>>,
    targets: Tensor<1, Int>,
}

impl Workload {
    fn new(bench: &Bench) -> Self {
        let device = bench.device.clone().autodiff();
        device.seed(0);
        let [positions, words, features] = bench.pick([4096, 32_000, 256], [512, 1000, 32]);
        let random = |shape: [usize; 2], sd: f64| {
            Param::from_tensor(Tensor::random(
                shape,
                Distribution::Normal(0.0, sd),
                &device,
            ))
        };
        let words_drawn = Distribution::Uniform(0.0, words as f64);
        Self {
            hidden: random([positions, features], 1.0),
            weight: random([features, words], 0.05),
            targets: Tensor::random([positions], words_drawn, &device),
        }
    }

    fn step(&self, losses: impl Fn(Tensor<2>, Tensor<2>) -> Tensor<1>) -> GradientsParams {
        let loss = losses(self.hidden.val(), self.weight.val()).mean();
        GradientsParams::from_grads(loss.backward(), &(self.hidden.clone(), self.weight.clone()))
    }

    fn plain(&self) -> GradientsParams {
        self.step(|hidden, weight| {
            let log_probs = log_softmax(hidden.matmul(weight), 1);
            let targets = self.targets.clone().unsqueeze_dim(1);
            log_probs.gather(1, targets).squeeze_dim::<1>(1).neg()
        })
    }

    fn chunked(&self, len: usize) -> GradientsParams {
        self.step(|hidden, weight| {
            chunked_cross_entropy(hidden, weight, None, self.targets.clone(), len)
        })
    }
}

/// Some positions at a time.
pub(crate) fn chunked(bench: &mut Bench) -> Result<(), BoxError> {
    let work = Workload::new(bench);
    let len = bench.pick(128, 64);
    let variants = [
        Variant::new("plain", || work.plain()),
        // The gradient of the weight is added up in another order.
        Variant::new("chunked", || work.chunked(len)).with_other_gradients(),
    ];
    let params = (work.hidden.clone(), work.weight.clone());
    bench.steps(&params, ROUNDS, &variants);
    Ok(())
}
