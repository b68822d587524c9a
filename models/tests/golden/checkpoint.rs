//! Checkpoints of the published layout: every tensor arrives, and what does not fit is named.

use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;

use burn::tensor::{Device, TensorData};
use burn_memopt_models::propainter::raft::{Raft, RaftConfig};
use burn_memopt_models::weights::{StateDict, WeightsError};
use flate2::read::GzDecoder;
use rstest::rstest;
use tempfile::TempDir;

use crate::{harness, network};

fn raft() -> Raft {
    RaftConfig::new().init(&Device::flex())
}

/// Unpacks a checkpoint into `folder`.
fn unpacked(name: &str, folder: &TempDir) -> PathBuf {
    let packed = std::fs::File::open(harness::root().join("pth").join(name));
    let mut bytes = Vec::new();
    let mut reader = GzDecoder::new(packed.expect("the checkpoint is there"));
    reader.read_to_end(&mut bytes).expect("it is whole");
    let path = folder.path().join(name.trim_end_matches(".gz"));
    std::fs::write(&path, bytes).expect("it is written");
    path
}

/// The constant of every tensor of the network, by its name.
fn constants<M: StateDict>(manifest: &str) -> HashMap<String, f32> {
    let manifest = harness::json(&format!("manifest/{manifest}.json"));
    let entries = manifest["entries"].as_array().expect("a list").iter();
    let names = entries.map(|entry| entry["name"].as_str().expect("a name").to_owned());
    let constants = names.enumerate().map(|(position, name)| {
        let constant = ((position + 1) as f64 * 1e-3) as f32;
        (M::published_name(&name).into_owned(), constant)
    });
    // Of two names of one tensor, the later one's constant is kept.
    constants
        .filter(|(name, _)| !M::is_bookkeeping(name))
        .collect()
}

#[track_caller]
fn check_constants<M: StateDict>(network: &M, manifest: &str) {
    let wanted = constants::<M>(manifest);
    let values = network::values(network);
    assert_eq!(values.len(), wanted.len());
    for (name, values) in values {
        let wanted = wanted[&name];
        assert!(
            values.iter().all(|&value| value == wanted),
            "{name} must be {wanted}"
        );
    }
}

#[rstest]
#[case::archive("raft-things.pth.gz")]
#[case::older_container("raft-things.legacy.pth.gz")]
fn golden_checkpoint_of_raft_loads_and_saves(#[case] name: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let loaded = raft().load_pytorch(unpacked(name, &folder));
    let loaded = loaded.unwrap_or_else(|error| panic!("{error}"));
    check_constants(&loaded, "raft");

    let converted = folder.path().join("raft.safetensors");
    loaded.save_safetensors(&converted).expect("it is saved");
    let again = raft().load_safetensors(&converted);
    check_constants(&again.expect("it loads again"), "raft");
}

#[test]
fn golden_names_of_raft_that_do_not_fit_are_all_listed() {
    let entries = network::entries(&raft()).into_iter();
    let mut state: HashMap<_, _> = entries.map(|entry| (entry.name, entry.shape)).collect();
    state.remove("fnet.conv1.bias");
    state.insert("cnet.conv3.bias".into(), vec![4]);
    state.insert("cnet.conv1.weight".into(), vec![64, 1, 7, 7]);
    let tensors = state.into_iter().map(|(name, shape)| {
        let values = vec![0.0_f32; shape.iter().product()];
        (format!("module.{name}"), TensorData::new(values, shape))
    });
    let Err(WeightsError::Mismatch { mismatch, .. }) = raft().load_state_dict(tensors) else {
        panic!("the state dict does not fit");
    };
    assert_eq!(mismatch.missing, ["fnet.conv1.bias"]);
    assert_eq!(mismatch.unexpected, ["cnet.conv3.bias"]);
    let shapes = (vec![64, 3, 7, 7], vec![64, 1, 7, 7]);
    assert_eq!(
        mismatch.reshaped,
        [("cnet.conv1.weight".into(), shapes.0, shapes.1)]
    );
}

#[test]
fn golden_either_name_of_a_tensor_will_do() {
    let names = network::entries(&raft()).into_iter().map(|entry| {
        let name = entry.name.replace(".downsample.1.", ".norm3.");
        let values = vec![1.0_f32; entry.shape.iter().product()];
        (name, TensorData::new(values, entry.shape))
    });
    let loaded = raft().load_state_dict(names).expect("it loads");
    let values = network::values(&loaded);
    assert_eq!(values["cnet.layer2.0.downsample.1.bias"], [1.0; 96]);
}
