//! Networks filled by the rule, and their tensors by state-dict name.

use std::collections::HashMap;

use burn::module::ParamId;
use burn::optim::GradientsParams;
use burn::store::{ModuleSnapshot, bridge};
use burn::tensor::{Device, TensorData};
use burn_memopt_models::unet::{UNet, UNetConfig, Upsample};
use burn_memopt_models::weights::StateDict;

use crate::fill::Fill;
use crate::harness::{Case, Comparison};

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
    filled(unet, case)
}

/// Fills all parameters and statistics of a network.
pub fn filled<M: StateDict>(network: M, case: &Case) -> M {
    filled_below(network, case, "")
}

/// Fills a network whose names begin with `prefix` where the case takes it from.
pub fn filled_below<M: StateDict>(network: M, case: &Case, prefix: &str) -> M {
    let fill = Fill::new(case.gain_table(), case.salt());
    filled_by(network, &fill, prefix)
}

/// Fills the floats of a network and leaves its integers, which are constants.
pub fn filled_by<M: StateDict>(network: M, fill: &Fill, prefix: &str) -> M {
    let tensors = network.collect(None, None, true);
    let state = tensors.into_iter().map(|tensor| {
        let name = M::state_dict_name(&tensor.name);
        let data = match tensor.dtype.is_float() {
            true => {
                let values = fill.values(&format!("{prefix}{name}"), &tensor.shape);
                TensorData::new(values, tensor.shape.to_vec())
            }
            false => bridge::to_data(&tensor).expect("the data is at hand"),
        };
        (name, data)
    });
    let state: Vec<_> = state.collect();
    network
        .load_state_dict(state)
        .expect("the names and shapes fit")
}

/// A tensor of the network.
pub struct Entry {
    pub name: String,
    pub shape: Vec<usize>,
    pub id: ParamId,
}

/// All parameters and statistics in the order of the network.
pub fn entries<M: StateDict>(network: &M) -> Vec<Entry> {
    let tensors = network.collect(None, None, true);
    tensors
        .into_iter()
        .map(|tensor| Entry {
            name: M::state_dict_name(&tensor.name),
            shape: tensor.shape.to_vec(),
            id: ParamId::from(tensor.param_id.expect("a parameter has an id")),
        })
        .collect()
}

/// The values of all parameters and statistics.
pub fn values<M: StateDict>(network: &M) -> HashMap<String, Vec<f32>> {
    let tensors = network.valid().collect(None, None, true);
    tensors
        .into_iter()
        .map(|tensor| {
            let data = bridge::to_data(&tensor).expect("the data is at hand");
            (
                M::state_dict_name(&tensor.name),
                data.iter::<f32>().collect(),
            )
        })
        .collect()
}

/// The gradients of all parameters that have one.
pub fn gradients<M: StateDict>(network: &M, grads: &GradientsParams) -> HashMap<String, Vec<f32>> {
    let mut found = HashMap::new();
    for entry in entries(network) {
        let data = match entry.shape.len() {
            1 => grads.get::<1>(entry.id).map(|grad| grad.into_data()),
            2 => grads.get::<2>(entry.id).map(|grad| grad.into_data()),
            4 => grads.get::<4>(entry.id).map(|grad| grad.into_data()),
            5 => grads.get::<5>(entry.id).map(|grad| grad.into_data()),
            rank => panic!("{}: parameters of rank {rank} are not read yet", entry.name),
        };
        if let Some(data) = data {
            found.insert(entry.name, data.iter::<f32>().collect());
        }
    }
    found
}

/// Multiplies every gradient by `factor`.
pub fn scaled<M: StateDict>(
    network: &M,
    mut grads: GradientsParams,
    factor: f64,
) -> GradientsParams {
    let mut out = GradientsParams::new();
    for entry in entries(network) {
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

/// The norm of all gradients together.
pub fn total_norm<M: StateDict>(network: &M, grads: &GradientsParams) -> f64 {
    let grads = gradients(network, grads);
    let squares = grads.values().map(|grad| norm(grad).powi(2));
    squares.sum::<f64>().sqrt()
}

/// Compares every stored gradient and the norms of all of them.
pub fn compare_gradients<M: StateDict>(
    comparison: &mut Comparison<'_>,
    case: &Case,
    network: &M,
    grads: &GradientsParams,
) {
    compare_gradients_of("grad", comparison, case, network, grads);
}

/// Compares the gradients stored as `<label>:<name>` and `<label>_norms`.
pub fn compare_gradients_of<M: StateDict>(
    label: &str,
    comparison: &mut Comparison<'_>,
    case: &Case,
    network: &M,
    grads: &GradientsParams,
) {
    let grads = gradients(network, grads);
    let prefix = format!("{label}:");
    for stored in case.names(&prefix) {
        comparison.values(stored, &grads[stored.trim_start_matches(&prefix)]);
    }
    norms(&format!("{label}_norms"), comparison, case, &grads);
}

/// Compares the norms of all gradients, stored as `name`.
pub fn compare_norms<M: StateDict>(
    name: &str,
    comparison: &mut Comparison<'_>,
    case: &Case,
    network: &M,
    grads: &GradientsParams,
) {
    norms(name, comparison, case, &gradients(network, grads));
}

fn norms(
    stored: &str,
    comparison: &mut Comparison<'_>,
    case: &Case,
    grads: &HashMap<String, Vec<f32>>,
) {
    let names = case.note_list(stored);
    assert_eq!(names.len(), grads.len(), "parameters with a gradient");
    let mine: Vec<f32> = names.iter().map(|name| norm(&grads[name]) as f32).collect();
    comparison.values(stored, &mine);
}

/// Compares the parameters stored as `<label>:<name>`.
pub fn compare_values<M: StateDict>(
    label: &str,
    comparison: &mut Comparison<'_>,
    case: &Case,
    network: &M,
) {
    let values = values(network);
    let prefix = format!("{label}:");
    for stored in case.names(&prefix) {
        comparison.values(stored, &values[stored.trim_start_matches(&prefix)]);
    }
}

/// The Euclidean norm, summed in f64.
pub fn norm(values: &[f32]) -> f64 {
    let squares = values.iter().map(|&v| f64::from(v).powi(2));
    squares.sum::<f64>().sqrt()
}
