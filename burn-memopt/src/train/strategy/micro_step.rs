use burn::tensor::Device;
use burn::train::{LearnerModel, TrainOutput, TrainStep};

use crate::precision::Autocast;
use crate::train::MicroLoss;

/// A model that computes the loss of one micro-batch, so that a
/// [`MicroBatchStrategy`](super::MicroBatchStrategy) can scale it before its
/// backward pass and accumulate after.
///
/// burn-train's own `TrainStep` gives gradients that are already computed. It
/// has to be there too, because `SupervisedTraining` asks for it; let it call
/// [`plain_step`](Self::plain_step), which trains the model as burn's own
/// strategies do: in f32, without accumulation.
///
/// # Example
/// ```
/// use burn::module::Module;
/// use burn::nn::{Linear, loss::{MseLoss, Reduction}};
/// use burn::tensor::Tensor;
/// use burn::train::{InferenceStep, RegressionOutput, TrainOutput, TrainStep};
/// use burn_memopt::precision::Autocast;
/// use burn_memopt::train::{MicroLoss, MicroStep};
///
/// type Batch = (Tensor<2>, Tensor<2>);
///
/// #[derive(Module, Debug)]
/// struct Net {
///     layer: Linear,
/// }
///
/// impl Net {
///     fn output(&self, (x, targets): Batch, autocast: &Autocast) -> RegressionOutput {
///         let output = autocast.run(self, x, |net, x| net.layer.forward(x));
///         let loss = MseLoss::new().forward(output.clone(), targets.clone(), Reduction::Mean);
///         RegressionOutput::new(loss, output, targets)
///     }
/// }
///
/// impl MicroStep for Net {
///     fn micro_step(&self, batch: Batch, autocast: &Autocast) -> (MicroLoss, RegressionOutput) {
///         let num_items = batch.0.dims()[0];
///         let output = self.output(batch, autocast);
///         (MicroLoss::mean(output.loss.clone(), num_items as f64), output)
///     }
/// }
///
/// impl TrainStep for Net {
///     type Input = Batch;
///     type Output = RegressionOutput;
///     fn step(&self, batch: Batch) -> TrainOutput<RegressionOutput> {
///         self.plain_step(batch)
///     }
/// }
///
/// impl InferenceStep for Net {
///     type Input = Batch;
///     type Output = RegressionOutput;
///     fn step(&self, batch: Batch) -> RegressionOutput {
///         self.output(batch, &Autocast::default())
///     }
/// }
/// ```
pub trait MicroStep: LearnerModel + TrainStep {
    /// Runs the model on `batch` and computes its loss, with what the metrics are to see.
    ///
    /// Run the model through `autocast`, which shows it in the precision of the run; losses are
    /// computed from its f32 outputs. The loss is not scaled and no backward pass is run here.
    fn micro_step(
        &self,
        batch: <Self as TrainStep>::Input,
        autocast: &Autocast,
    ) -> (MicroLoss, <Self as TrainStep>::Output);

    /// Moves a batch to the device of a replica: only asked for by
    /// [`MicroBatchStrategy::with_devices`](super::MicroBatchStrategy::with_devices) with devices that differ.
    /// By default there is no way, which ends such a training with an error.
    fn batch_to_device(
        _batch: <Self as TrainStep>::Input,
        _device: &Device,
    ) -> Option<<Self as TrainStep>::Input> {
        None
    }

    /// The gradients of [`micro_step`](Self::micro_step) in f32, for burn-train's
    /// `TrainStep::step`.
    ///
    /// A loss that is a sum is divided by its weight, as the strategy does.
    ///
    /// # Panics
    /// If the weight is zero: burn's own strategies cannot leave a batch out.
    fn plain_step(
        &self,
        batch: <Self as TrainStep>::Input,
    ) -> TrainOutput<<Self as TrainStep>::Output> {
        let (loss, output) = self.micro_step(batch, &Autocast::default());
        assert!(
            loss.weight > 0.0,
            "a plain step must have a loss over at least one item, got a weight of zero: leave out \
             empty and fully masked batches, or train by MicroBatchStrategy, which does"
        );
        TrainOutput::new(self, loss.into_mean().loss.backward(), output)
    }
}

#[cfg(test)]
mod tests {
    use burn::module::{Module, Param};
    use burn::tensor::Tensor;
    use burn::train::InferenceStep;

    use super::*;

    #[derive(Module, Debug)]
    struct Net {
        weight: Param<Tensor<1>>,
    }

    impl MicroStep for Net {
        /// The sum of a loss over `weight` items.
        fn micro_step(&self, weight: f64, _: &Autocast) -> (MicroLoss, ()) {
            let loss = self.weight.val().mul_scalar(weight);
            (MicroLoss::sum(loss, weight), ())
        }
    }

    impl TrainStep for Net {
        type Input = f64;
        type Output = ();

        fn step(&self, weight: f64) -> TrainOutput<()> {
            self.plain_step(weight)
        }
    }

    impl InferenceStep for Net {
        type Input = f64;
        type Output = ();

        fn step(&self, _: f64) {}
    }

    fn net() -> Net {
        let weight = Tensor::ones([1], &Device::flex().autodiff());
        Net {
            weight: Param::from_tensor(weight),
        }
    }

    #[test]
    fn a_plain_step_takes_the_mean_of_a_sum() {
        let net = net();
        let grads = TrainStep::step(&net, 4.0).grads;
        let grad = grads.get::<1>(net.weight.id).expect("trained");
        assert_eq!(grad.into_scalar::<f32>(), 1.0);
    }

    #[test]
    #[should_panic(expected = "a loss over at least one item, got a weight of zero")]
    fn a_plain_step_refuses_an_empty_batch() {
        TrainStep::step(&net(), 0.0);
    }
}
