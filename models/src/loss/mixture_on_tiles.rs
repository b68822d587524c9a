//! The loss of localizations in frames that are seen tile by tile.

use std::ops::Range;

use burn::tensor::Tensor;
use burn_memopt::chunked::{BoxError, ImageSource, SumLoss};
use burn_memopt::precision::ops::full;
use burn_memopt::train::MicroLoss;

use super::MixtureLoss;
use super::mixture::{Pixels, check_channels, known_params, pixel_places};
use crate::decode::EmitterTargets;

/// A [`MixtureLoss`] of whole frames that are seen tile by tile, by
/// [`MixtureLoss::on_tiles`]: the loss and its targets in one.
///
/// As a source of targets it has four channels: the background, the row and the column of each pixel, and
/// the number of its frame. They are made for one tile at a time.
///
/// # Exactness
/// The sum of [`MixtureLoss::forward_sum`] over the whole frames, and its gradient, to f32 rounding. The density of an
/// emitter is a sum over all pixels of its frame, and is added up as a [logarithm](SumLoss::num_log_sums).
///
/// # Example
/// ```
/// use std::ops::ControlFlow;
///
/// use burn::optim::SgdConfig;
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_memopt::chunked::{TiledStep, measure_training_reach};
/// use burn_memopt::train::MicroBatchTrainerConfig;
/// use burn_memopt_models::decode::{
///     Emitter, EmitterTargets, MUNetConfig, OutputScale, SigmaMUNet, SigmaMUNetConfig,
/// };
/// use burn_memopt_models::loss::MixtureLossConfig;
///
/// let device = Device::flex().autodiff();
/// let core = MUNetConfig::new()
///     .with_depth_shared(1)
///     .with_depth_union(1)
///     .with_initial_features(2)
///     .with_inter_features(2);
/// let network = SigmaMUNetConfig::new().with_core(core).init(&device);
/// let windows = Tensor::random([1, 3, 72, 64], Distribution::Default, &device);
/// let emitters = [vec![Emitter { x: 50.2, y: 11.0, z: 0.0, photons: 500.0 }]];
/// let scale = OutputScale::new(1000.0, 50.0);
/// let targets = EmitterTargets::new(&emitters, &[20.0], [72, 64], &scale, &device);
///
/// let reach = measure_training_reach(&network, [3, 64, 64], 2, SigmaMUNet::forward_tiles);
/// let step = TiledStep::new([48, 48], &reach)?.without_randomness();
/// let mixture = MixtureLossConfig::new().init();
/// let loss = mixture.on_tiles(&targets);
/// let mut train = MicroBatchTrainerConfig::new().init(SgdConfig::new().init());
/// step.over(&windows, &loss)?.accumulate_sums(
///     &mut train,
///     &network,
///     SigmaMUNet::forward_tiles,
///     &loss,
///     |_| ControlFlow::Continue(()),
/// )?;
/// let (network, outcome) = train.flush(network, 0.001);
/// # let _ = (network, outcome?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct MixtureOnTiles<'a> {
    loss: &'a MixtureLoss,
    /// `[batch_size, most_emitters, 4]`
    params: Tensor<3>,
    /// `[batch_size, most_emitters]`
    mask: Tensor<2>,
    /// `[batch_size, height, width]`
    background: Tensor<3>,
}

impl<'a> MixtureOnTiles<'a> {
    pub(super) fn new(loss: &'a MixtureLoss, targets: &EmitterTargets) -> Self {
        Self {
            loss,
            params: known_params(targets).autodiff(),
            mask: targets.mask.clone().autodiff(),
            background: targets.background.clone(),
        }
    }
}

impl ImageSource for MixtureOnTiles<'_> {
    fn dims(&self) -> [usize; 4] {
        let [batch_size, height, width] = self.background.dims();
        [batch_size, 4, height, width]
    }

    fn read(
        &self,
        image: usize,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Result<Tensor<4>, BoxError> {
        let part = [image..image + 1, rows.clone(), columns.clone()];
        let background = self.background.clone().slice(part);
        let places = pixel_places(rows, columns, &background.device());
        let number = background.full_like(image as f64);
        Ok(Tensor::cat(vec![background, places, number], 0).unsqueeze())
    }
}

impl<M> SumLoss<M> for MixtureOnTiles<'_> {
    fn sums(&self, output: Tensor<4>, target: Tensor<4>) -> Tensor<2> {
        let output = full(output);
        check_channels(&output);
        let pixels = Pixels {
            background: target.clone().narrow(1, 0, 1).squeeze_dim(1),
            places: target.clone().narrow(1, 1, 2),
        };
        let numbers = target.narrow(1, 3, 1).narrow(2, 0, 1).narrow(3, 0, 1);
        let params = self
            .params
            .clone()
            .select(0, numbers.flatten::<1>(0, 3).int());
        self.loss.sums(output, pixels, params)
    }

    fn num_log_sums(&self) -> usize {
        self.params.dims()[1]
    }

    fn loss(&self, _: &M, sums: Tensor<2>) -> MicroLoss {
        let terms = self.loss.of_sums(sums, &self.mask);
        let weight = terms.shape().num_elements() as f64;
        MicroLoss::sum(terms.sum(), weight)
    }
}
