//! The forward cases of the video networks on a GPU through wgpu, software included, within five
//! times their tolerances.

use burn::tensor::{Device, DeviceKind, Tensor};
use burn_memopt_models::propainter::Sampling;
use rstest::rstest;

use crate::{flow_completion, propainter, video_operators};

const TIMES: f64 = 5.0;

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

#[rstest]
#[case::warp(video_operators::warps)]
#[case::patches(video_operators::patches)]
#[case::flow_completion(flow_completion::two_frames)]
#[case::feature_propagation(propainter::feature_propagation)]
#[case::nearest_images(|device: &Device, times: f64| propainter::image_propagation(device, "nearest", Sampling::Nearest, times))]
#[case::bilinear_images(|device: &Device, times: f64| propainter::image_propagation(device, "bilinear", Sampling::Bilinear, times))]
#[case::transformer(|device: &Device, times: f64| propainter::transformer(device, "propainter_transformer_padded", usize::MAX, times))]
#[case::transformer_window_by_window(|device: &Device, times: f64| propainter::transformer(device, "propainter_transformer_padded", 1, times))]
#[case::generator(propainter::generator_without_references)]
fn golden_on_a_gpu(#[case] check: fn(&Device, f64)) {
    if let Some(device) = gpu() {
        check(&device, TIMES);
    }
}
