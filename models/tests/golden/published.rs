//! Checkpoints with the layout of the published ones, whose values tell their place.

use std::io::{self, BufReader};

use burn::store::{ModuleSnapshot, bridge};
use burn::tensor::Device;
use burn_memopt_models::propainter::{FlowCompletion, InpaintGeneratorConfig};
use burn_memopt_models::weights::{StateDict, WeightsError};
use flate2::bufread::GzDecoder;
use tempfile::NamedTempFile;

use crate::harness;

#[test]
fn golden_checkpoint_of_the_generator_loads() {
    let generator = InpaintGeneratorConfig::new().init(&Device::flex());
    check("ProPainter", "propainter_generator", generator);
}

#[test]
fn golden_checkpoint_of_flow_completion_loads() {
    let completion = FlowCompletion::new(&Device::flex());
    let name = "recurrent_flow_completion";
    check(name, name, completion);
}

#[test]
fn golden_checkpoint_of_another_network_is_refused_with_every_difference() {
    let file = unpacked("recurrent_flow_completion");
    let generator = InpaintGeneratorConfig::new()
        .with_depth(1)
        .init(&Device::flex());
    let error = generator.load_pytorch(file.path()).unwrap_err();
    assert!(matches!(error, WeightsError::Mismatch { .. }), "{error:?}");
    let text = error.to_string();
    for part in ["missing", "ss.embedding.weight", "unexpected", "fusion"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
}

/// Loads a checkpoint, saves and loads it again as safetensors, and checks every value.
fn check<M: StateDict>(file: &str, manifest: &str, network: M) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("again.safetensors");
    let again = network.clone();
    let loaded = network
        .load_pytorch(unpacked(file).path())
        .expect("it fits");
    check_values(&loaded, manifest);
    loaded.save_safetensors(&path).expect("it can be written");
    drop(loaded);
    let again = again.load_safetensors(&path).expect("it fits");
    check_values(&again, manifest);
}

/// Floats are their place in the state dict in thousandths; constants have their own values.
fn check_values<M: StateDict>(network: &M, manifest: &str) {
    let manifest = harness::json(&format!("manifest/{manifest}.json"));
    let entries = manifest["entries"].as_array().expect("entries");
    let tensors = network.collect(None, None, true);
    assert_eq!(tensors.len(), entries.len());
    for tensor in tensors {
        let name = M::state_dict_name(&tensor.name);
        let data = bridge::to_data(&tensor).expect("the data is at hand");
        let place = entries.iter().position(|entry| entry["name"] == *name);
        let place = place.unwrap_or_else(|| panic!("no {name} in the manifest"));
        match entries[place]["value"].as_array() {
            None => {
                let wanted = ((place + 1) as f64 * 1e-3) as f32;
                assert!(data.iter::<f32>().all(|value| value == wanted), "{name}");
            }
            Some(values) => {
                let wanted = values
                    .iter()
                    .map(|value| value.as_i64().expect("an integer"));
                assert!(data.iter::<i64>().eq(wanted), "{name}");
            }
        }
    }
}

fn unpacked(name: &str) -> NamedTempFile {
    let path = harness::root().join(format!("pth/{name}.pth.gz"));
    let packed = std::fs::File::open(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    let mut file = NamedTempFile::with_suffix(".pth").expect("a temporary file");
    io::copy(&mut GzDecoder::new(BufReader::new(packed)), &mut file).expect("it unpacks");
    file
}
