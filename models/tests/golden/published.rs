//! Checkpoints with the layout of the published ones.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufReader, Read};

use burn::store::{ModuleSnapshot, bridge};
use burn::tensor::{Device, TensorData};
use burn_memopt_models::propainter::raft::{Raft, RaftConfig};
use burn_memopt_models::propainter::{FlowCompletion, InpaintGeneratorConfig};
use burn_memopt_models::weights::{StateDict, WeightsError};
use flate2::bufread::GzDecoder;
use rstest::rstest;
use tempfile::NamedTempFile;
use zip::ZipArchive;

use crate::{harness, network};

#[rstest]
#[case::archive("raft-things")]
#[case::older_container("raft-things.legacy")]
fn golden_checkpoint_of_raft_loads(#[case] file: &str) {
    check(file, "raft", raft());
}

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

fn raft() -> Raft {
    RaftConfig::new().init(&Device::flex())
}

/// Loads a checkpoint, saves and loads it again as safetensors, and checks every value.
fn check<M: StateDict>(file: &str, manifest: &str, network: M) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("again.safetensors");
    let again = network.clone();
    let loaded = network
        .load_pytorch(unpacked(file).path())
        .expect("it fits");
    // The older container holds the same mapping.
    let mut storages = Storages::open(file.trim_end_matches(".legacy"));
    check_values(&loaded, manifest, &mut storages);
    loaded.save_safetensors(&path).expect("it can be written");
    drop(loaded);
    let again = again.load_safetensors(&path).expect("it fits");
    check_values(&again, manifest, &mut storages);
}

/// Every tensor has the values of its storage; constants have those of the manifest.
fn check_values<M: StateDict>(network: &M, manifest: &str, storages: &mut Storages) {
    let manifest = harness::json(&format!("manifest/{manifest}.json"));
    let entries = manifest["entries"].as_array().expect("entries");
    // Two names of one tensor are one here.
    let mut names = Vec::new();
    let mut constants = HashMap::new();
    for entry in entries {
        let name = entry["name"].as_str().expect("a name");
        let name = M::published_name(name).into_owned();
        if let Some(values) = entry["value"].as_array() {
            constants.insert(name.clone(), values);
        }
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let wanted: BTreeSet<_> = names
        .iter()
        .filter(|name| !M::is_bookkeeping(name))
        .collect();
    let tensors = network.collect(None, None, true);
    assert_eq!(tensors.len(), wanted.len());
    for tensor in tensors {
        let name = M::state_dict_name(&tensor.name);
        let data = bridge::to_data(&tensor).expect("the data is at hand");
        let index = names.iter().position(|known| *known == name);
        let index = index.unwrap_or_else(|| panic!("no {name} in the manifest"));
        match constants.get(&name) {
            None => assert!(data.iter::<f32>().eq(storages.floats(index)), "{name}"),
            Some(values) => {
                let wanted = values
                    .iter()
                    .map(|value| value.as_i64().expect("an integer"));
                assert!(data.iter::<i64>().eq(wanted), "{name}");
            }
        }
    }
}

/// The values of a checkpoint by their place, without the reader under test: PyTorch numbers the files
/// with the values in the order in which the state dict first names them.
struct Storages {
    archive: ZipArchive<File>,
    folder: String,
}

impl Storages {
    fn open(name: &str) -> Self {
        let file = unpacked(name).into_file();
        let archive = ZipArchive::new(file).expect("an archive");
        let folder = {
            let mut names = archive.file_names().flatten();
            names.find_map(|name| Some(name.strip_suffix("data.pkl")?.to_owned()))
        };
        let folder = folder.expect("a checkpoint");
        Self { archive, folder }
    }

    fn floats(&mut self, index: usize) -> Vec<f32> {
        let name = format!("{}data/{index}", self.folder);
        let mut bytes = Vec::new();
        let mut file = self.archive.by_name(&name).expect("a storage");
        file.read_to_end(&mut bytes).expect("it can be read");
        let (values, rest) = bytes.as_chunks();
        assert!(rest.is_empty(), "{name}");
        values
            .iter()
            .map(|value| f32::from_le_bytes(*value))
            .collect()
    }
}

pub fn unpacked(name: &str) -> NamedTempFile {
    let path = harness::root().join(format!("pth/{name}.pth.gz"));
    let packed = std::fs::File::open(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    let mut file = NamedTempFile::with_suffix(".pth").expect("a temporary file");
    io::copy(&mut GzDecoder::new(BufReader::new(packed)), &mut file).expect("it unpacks");
    file
}
