//! The forward cases of the video networks on a GPU through wgpu, software included, within five
//! times their tolerances.

use burn::tensor::{Device, DeviceKind, Tensor};
use rstest::rstest;

use crate::{flow_completion, propainter, radiance, raft, video_operators};

const TIMES: f64 = 5.0;
/// The variable that asks for the cases that take minutes.
const ALL: &str = "BURN_MEMOPT_GOLDEN_GPU";

fn gpu() -> Option<Device> {
    let open = || {
        let device = Device::wgpu(DeviceKind::DefaultDevice);
        Tensor::<1>::ones([1], &device).into_data();
        device
    };
    match std::panic::catch_unwind(open) {
        Ok(device) => Some(device),
        Err(_) => {
            eprintln!("skipped: no GPU adapter (nor software Vulkan) on this machine");
            None
        }
    }
}

fn check(case: fn(&Device, f64)) {
    if let Some(device) = gpu() {
        case(&device, TIMES);
    }
}

#[rstest]
#[case::warp(video_operators::warps)]
#[case::patches(video_operators::patches)]
#[case::radiance_field(radiance::mlp)]
#[case::radiance_rendering(radiance::render_at_once)]
#[case::conditional_field(radiance::conditional_field)]
#[case::discriminator(radiance::discriminator_of_32)]
#[case::super_resolution(radiance::ccsr_module)]
#[case::raft_lookups(raft::lookups)]
#[case::raft_cell(raft::cell_and_motion_encoder)]
#[case::flow_completion(flow_completion::two_frames)]
#[case::nearest_images(propainter::nearest_images)]
#[case::bilinear_images(propainter::bilinear_images)]
#[case::transformer(propainter::exact_transformer)]
#[case::clip_discriminator(propainter::clip_discriminator)]
#[case::frame_discriminator(propainter::frame_discriminator)]
fn golden_on_a_gpu(#[case] case: fn(&Device, f64)) {
    check(case);
}

/// Minutes each in software, for the many kernels to be compiled.
#[rstest]
#[case::raft(raft::flow)]
#[case::flow_completion(flow_completion::stages_and_both_directions)]
#[case::feature_propagation(propainter::feature_propagation)]
#[case::padded_transformer(propainter::padded_transformer)]
#[case::generator(propainter::generator_with_references)]
#[case::generator_without_references(propainter::generator_without_references)]
fn golden_whole_networks_on_a_gpu(#[case] case: fn(&Device, f64)) {
    match std::env::var_os(ALL) {
        Some(_) => check(case),
        None => eprintln!("skipped: takes minutes in software; set {ALL} to run it"),
    }
}
