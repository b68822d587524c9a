use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use burn_memopt::precision::ops::{full, mean};

/// The hinge loss of adversarial training.
///
/// # References
/// Lim and Ye 2017, "Geometric GAN", arXiv:1705.02894, eq. 6 and 7.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HingeLoss;

impl HingeLoss {
    /// What a generator makes small: how clearly its results are taken for made up.
    pub fn generator<const D: usize>(&self, verdict: Tensor<D>) -> Tensor<1> {
        mean(verdict).neg()
    }

    /// What a discriminator makes small: the mean of [`real`](Self::real) and
    /// [`made_up`](Self::made_up).
    pub fn discriminator<const D: usize>(&self, real: Tensor<D>, made_up: Tensor<D>) -> Tensor<1> {
        (self.real(real) + self.made_up(made_up)).div_scalar(2.0)
    }

    /// What a discriminator makes small on real clips.
    pub fn real<const D: usize>(&self, verdict: Tensor<D>) -> Tensor<1> {
        relu(full(verdict).neg().add_scalar(1.0)).mean()
    }

    /// What a discriminator makes small on a generator's results.
    pub fn made_up<const D: usize>(&self, verdict: Tensor<D>) -> Tensor<1> {
        relu(full(verdict).add_scalar(1.0)).mean()
    }
}
