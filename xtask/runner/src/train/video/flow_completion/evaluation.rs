//! Completing the flow of videos the network was not trained on.

use anyhow::Result;
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_memopt_models::propainter::{FlowCompletion, Flows, masks_of_pairs};

use super::FlowCompletionJob;
use crate::train::cut_plan::CutPlan;
use crate::train::job::{Job, Metrics};
use crate::train::video::clips::Clips;

/// Says how far completed flow is from the true flow in the holes of clips that were held out, on average
/// over their pixels: `epe_px` pixels; `epe_before_px` with the weights that training began with,
/// and `epe_zero_px` without any flow there.
///
/// # Errors
/// If a clip cannot be read.
pub fn judge(
    job: &FlowCompletionJob,
    network: &FlowCompletion,
    data: &Clips,
    device: &Device,
) -> Result<Metrics> {
    let (plain, first) = (
        device.clone().without_autodiff(),
        job.network(Some(data), &mut CutPlan::default(), device)?,
    );
    let (network, first) = (network.valid(), first.valid());
    let [mut trained, mut before, mut zero] = [EndpointError::default(); 3];
    for judged in data.judged(&plain) {
        let target = job.target(&judged?.1);
        let (flows, masks) = (&target.flows, &target.masks);
        trained.add(&network.predict(flows.clone(), masks), flows, masks);
        before.add(&first.predict(flows.clone(), masks), flows, masks);
        let none = Flows {
            forward: flows.forward.zeros_like(),
            backward: flows.backward.zeros_like(),
        };
        zero.add(&none, flows, masks);
    }
    let errors = [
        ("epe_px", trained),
        ("epe_before_px", before),
        ("epe_zero_px", zero),
    ];
    let known = errors.into_iter().filter(|(_, error)| error.pixels > 0.0);
    Ok(known
        .map(|(name, error)| (name.into(), error.mean()))
        .collect())
}

/// How far flows are from true ones in holes, summed over their pixels.
#[derive(Clone, Copy, Default)]
struct EndpointError {
    sum: f64,
    pixels: f64,
}

impl EndpointError {
    fn add(&mut self, predicted: &Flows, truth: &Flows, masks: &Tensor<5>) {
        let [there, back] = masks_of_pairs(masks);
        for (predicted, truth, mask) in [
            (&predicted.forward, &truth.forward, there),
            (&predicted.backward, &truth.backward, back),
        ] {
            let off = (predicted.clone() - truth.clone())
                .square()
                .sum_dim(2)
                .sqrt();
            self.sum += f64::from((off * mask.clone()).sum().into_scalar::<f32>());
            self.pixels += f64::from(mask.sum().into_scalar::<f32>());
        }
    }

    /// In pixels.
    fn mean(&self) -> f64 {
        self.sum / self.pixels
    }
}
