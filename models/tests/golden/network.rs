//! The U-Net of a case, filled by the rule, and its tensors by state-dict name.

use std::collections::HashMap;

use burn::module::{Module, ParamId};
use burn::optim::GradientsParams;
use burn::store::{ModuleSnapshot, bridge};
use burn::tensor::{Device, TensorData};
use burn_memopt_models::unet::{UNet, UNetConfig, Upsample, state_dict_name};

use crate::fill::Fill;
use crate::harness::Case;

/// Builds the network that the parameters of the case describe.
pub fn filled_unet(case: &Case, device: &Device) -> UNet {
    let upsample = match case.flag("bilinear") {
        true => Upsample::Bilinear,
        false => Upsample::Transposed,
    };
    let channels = ["n_channels", "n_classes"].map(|name| case.require(name) as usize);
    let unet = UNetConfig::new(channels[0], channels[1])
        .with_upsample(upsample)
        .init(device);
    let fill = Fill::new(case.gain_table(), case.salt());
    let state: Vec<_> = entries(&unet)
        .into_iter()
        .map(|entry| {
            let values = fill.values(&entry.name, &entry.shape);
            (entry.name, TensorData::new(values, entry.shape))
        })
        .collect();
    unet.load_state_dict(state)
        .expect("the names and shapes fit")
}

/// A tensor of the network.
pub struct Entry {
    pub name: String,
    pub shape: Vec<usize>,
    pub id: ParamId,
}

/// All parameters and statistics in the order of the network.
pub fn entries(unet: &UNet) -> Vec<Entry> {
    let tensors = unet.collect(None, None, true);
    tensors
        .into_iter()
        .map(|tensor| Entry {
            name: state_dict_name(&tensor.name),
            shape: tensor.shape.to_vec(),
            id: ParamId::from(tensor.param_id.expect("a parameter has an id")),
        })
        .collect()
}

/// The values of all parameters and statistics.
pub fn values(unet: &UNet) -> HashMap<String, Vec<f32>> {
    let tensors = unet.valid().collect(None, None, true);
    tensors
        .into_iter()
        .map(|tensor| {
            let data = bridge::to_data(&tensor).expect("the data is at hand");
            (state_dict_name(&tensor.name), data.iter::<f32>().collect())
        })
        .collect()
}

/// The gradients of all parameters that have one.
pub fn gradients(unet: &UNet, grads: &GradientsParams) -> HashMap<String, Vec<f32>> {
    let mut found = HashMap::new();
    for entry in entries(unet) {
        let data = match entry.shape.len() {
            1 => grads.get::<1>(entry.id).map(|grad| grad.into_data()),
            4 => grads.get::<4>(entry.id).map(|grad| grad.into_data()),
            rank => panic!("{}: parameters of rank {rank} are not read yet", entry.name),
        };
        if let Some(data) = data {
            found.insert(entry.name, data.iter::<f32>().collect());
        }
    }
    found
}

/// Multiplies every gradient by `factor`.
pub fn scaled(unet: &UNet, mut grads: GradientsParams, factor: f64) -> GradientsParams {
    let mut out = GradientsParams::new();
    for entry in entries(unet) {
        if entry.shape.len() == 1 {
            if let Some(grad) = grads.remove::<1>(entry.id) {
                out.register(entry.id, grad.mul_scalar(factor));
            }
        } else if let Some(grad) = grads.remove::<4>(entry.id) {
            out.register(entry.id, grad.mul_scalar(factor));
        }
    }
    out
}

/// The Euclidean norm, summed in f64.
pub fn norm(values: &[f32]) -> f64 {
    let squares = values.iter().map(|&v| f64::from(v).powi(2));
    squares.sum::<f64>().sqrt()
}
