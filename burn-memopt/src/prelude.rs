//! What a model of your own needs of this crate, to be imported together with burn's prelude.
//!
//! ```
//! use burn::prelude::*;
//! use burn_memopt::prelude::*;
//!
//! let device = Device::flex().autodiff();
//! let layer = nn::LinearConfig::new(4, 4).init(&device);
//! let x = Tensor::<2>::ones([2, 4], &device);
//! let y = grad_checkpoint(&layer, x, |layer: &nn::Linear, x: Tensor<2>| layer.forward(x));
//! assert!(layer.weight.val().grad(&y.sum().backward()).is_some());
//! ```
//!

pub use crate::accumulate::WeightedAccumulator;
pub use crate::chunked::{Blend, SlidingWindow};
pub use crate::grad_checkpoint::{
    Boundary, Chain, Policy, Segment, checkpoint_sequential, grad_checkpoint, own_gradient,
};
pub use crate::gradients::Clipping;
pub use crate::impl_tensors;
pub use crate::memory::{Bytes, CountingAllocator, PeakMeter};
pub use crate::precision::{
    Autocast, AutocastPolicy, LossScaler, LossScalerConfig, Precision, batch_norm, full_precision,
};
pub use crate::tensors::Tensors;
pub use crate::train::{
    DataParallel, MicroBatchTrainer, MicroBatchTrainerConfig, MicroLoss, StepError, StepOutcome,
    TrainState,
};
#[cfg(feature = "train")]
#[cfg_attr(docsrs, doc(cfg(feature = "train")))]
pub use crate::train::{MicroBatchStrategy, MicroStep};

#[cfg(test)]
#[cfg(feature = "flex")]
mod tests {
    use burn::nn::*;
    use burn::optim::*;
    use burn::prelude::*;

    use super::*;

    struct State {
        hidden: Tensor<2>,
    }

    impl_tensors!(State { hidden });

    fn is_tensors<T: Tensors>() {}

    /// A name that two of the globs above have does not compile where it is used.
    #[test]
    fn no_name_is_one_of_burns() {
        is_tensors::<State>();
        let device = Device::flex().autodiff();
        let layer: Linear = LinearConfig::new(4, 2).init(&device);
        let mut accumulator = WeightedAccumulator::new();
        let mut train: MicroBatchTrainer = MicroBatchTrainerConfig::new()
            .with_clipping(Some(Clipping::Norm(1.0)))
            .with_precision(Precision::F32)
            .init(SgdConfig::new().init());
        let forward = |layer: &Linear, x: Tensor<2>| layer.forward(x);
        let segment = Segment::new()
            .with_boundary(Boundary::Device)
            .without_randomness();
        let meter = PeakMeter::start(&device);
        let x = Tensor::<2>::ones([3, 4], &device);
        let in_segment = segment.run(&layer, x.clone(), forward);
        let output = Autocast::new(Precision::F32).run(&layer, x, forward);
        assert_eq!(in_segment.clone().into_data(), output.clone().into_data());
        train.backward(&layer, MicroLoss::mean(output.mean(), 3.0));
        let grads = GradientsParams::from_grads(in_segment.mean().backward(), &layer);
        accumulator.accumulate(&layer, grads, 3.0);
        assert_eq!(accumulator.finish(&layer).unwrap().len(), 2);
        let peak: Option<Bytes> = meter.finish().peak;
        assert!(peak.is_none_or(|peak| peak > Bytes::ZERO));
        let state: &TrainState = train.state();
        assert_eq!(state.steps, 0);
        let (_, outcome): (_, Result<StepOutcome, StepError>) = train.step(layer, 0.1);
        assert!(matches!(outcome.unwrap(), StepOutcome::Stepped { .. }));
    }
}
