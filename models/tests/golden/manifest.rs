//! The fill rule against its vectors, and the networks' names against the manifests.

use burn::tensor::Device;
use burn_memopt_models::decode::SigmaMUNetConfig;
use burn_memopt_models::gan::{CcsrConfig, PatchDiscriminatorConfig, RadianceFieldConfig};
use burn_memopt_models::propainter::raft::RaftConfig;
use burn_memopt_models::propainter::{Discriminator, FlowCompletion, InpaintGeneratorConfig, View};
use burn_memopt_models::unet::{UNetConfig, Upsample};
use burn_memopt_models::weights::StateDict;
use rstest::rstest;

use crate::fill::{Fill, bit_sum};
use crate::{decode, harness, network};

#[test]
fn golden_vectors_of_the_fill_rule_are_reproduced_bit_for_bit() {
    let rule = harness::json("fill_rule.json");
    let salt = rule["salt"].as_str().unwrap();
    for vector in rule["vectors"].as_array().unwrap() {
        let name = vector["name"].as_str().unwrap();
        let fill = Fill::new(vector["gain_table"].as_str().unwrap(), salt);
        let hash = format!("{:#018x}", fill.seed(name));
        assert_eq!(vector["fnv1a64"].as_str(), Some(&*hash), "hash of {name}");
        let values = fill.values(name, &shape_of(vector));
        for (value, bits) in values.iter().zip(vector["first_bits"].as_array().unwrap()) {
            let mine = format!("{:#010x}", value.to_bits());
            assert_eq!(bits.as_str(), Some(&*mine), "first values of {name}");
        }
        let sum = bit_sum(&values).to_string();
        assert_eq!(vector["bit_sum"].as_str(), Some(&*sum), "bit sum of {name}");
    }
}

#[rstest]
#[case::bilinear("unet_milesial_bilinear", Upsample::Bilinear)]
#[case::transposed("unet_milesial_transposed", Upsample::Transposed)]
fn golden_manifest_names_shapes_and_fill_are_those_of_the_network(
    #[case] network: &str,
    #[case] upsample: Upsample,
) {
    let unet = UNetConfig::new(3, 1).with_upsample(upsample);
    check_manifest(network, &unet.init(&Device::flex()));
}

#[test]
fn golden_manifest_of_raft_is_that_of_the_network() {
    check_manifest("raft", &RaftConfig::new().init(&Device::flex()));
}

#[test]
fn golden_manifest_of_decode_is_that_of_its_networks() {
    let device = Device::flex();
    check_manifest("decode_sigma_munet", &SigmaMUNetConfig::new().init(&device));
    check_manifest("decode_double_munet", &decode::double_munet().init(&device));
    let unet = decode::unet2d_groupnorm().init(&device);
    check_manifest("decode_unet2d_groupnorm", &unet);
}

#[test]
fn golden_manifest_of_propainter_is_that_of_its_networks() {
    let device = Device::flex();
    let completion = FlowCompletion::new(&device);
    check_manifest("recurrent_flow_completion", &completion);
    let generator = InpaintGeneratorConfig::new().init(&device);
    check_manifest("propainter_generator", &generator);
    let temporal = Discriminator::new(View::Clip, &device);
    check_manifest("propainter_discriminator", &temporal);
    let single = Discriminator::new(View::Frame, &device);
    check_manifest("propainter_discriminator_2d", &single);
}

#[test]
fn golden_manifest_of_the_gan_is_that_of_its_networks() {
    let device = Device::flex();
    check_manifest("graf_nerf", &RadianceFieldConfig::new().init(&device));
    let conditional = RadianceFieldConfig::conditional(4);
    check_manifest("graf_conditional_field", &conditional.init(&device));
    for size in PatchDiscriminatorConfig::PATCH_SIZES {
        let discriminator = PatchDiscriminatorConfig::new(size).init(&device);
        check_manifest(&format!("graf_discriminator_{size}"), &discriminator);
    }
    let conditional = PatchDiscriminatorConfig::new(64).with_base_channels(16);
    let conditional = conditional.with_num_classes(Some(4)).init(&device);
    check_manifest("graf_conditional_discriminator_64", &conditional);
    check_manifest("ccsr", &CcsrConfig::new().init(&device));
}

fn check_manifest<M: StateDict>(name: &str, model: &M) {
    let manifest = harness::json(&format!("manifest/{name}.json"));
    let fill = Fill::new(
        manifest["gain_table"].as_str().unwrap(),
        manifest["salt"].as_str().unwrap(),
    );
    let mut mine: Vec<_> = network::entries(model)
        .into_iter()
        .map(|entry| (entry.name, entry.shape))
        .collect();
    let mut wanted = Vec::new();
    for entry in manifest["entries"].as_array().unwrap() {
        let (name, shape) = (entry["name"].as_str().unwrap(), shape_of(entry));
        // burn keeps no counter of training batches, and a tensor of two names once.
        if name.ends_with("num_batches_tracked") || M::published_name(name) != name {
            continue;
        }
        if entry["kind"] == "parameter" || entry["dtype"] == "float32" {
            let sum = bit_sum(&fill.values(name, &shape)).to_string();
            let wanted = entry["fill_bit_sum"].as_str();
            assert_eq!(wanted, Some(&*sum), "fill of {name}");
        }
        wanted.push((name.to_string(), shape));
    }
    mine.sort();
    wanted.sort();
    assert_eq!(mine, wanted);
}

fn shape_of(entry: &serde_json::Value) -> Vec<usize> {
    let shape = entry["shape"].as_array().unwrap();
    shape.iter().map(|d| d.as_u64().unwrap() as usize).collect()
}
