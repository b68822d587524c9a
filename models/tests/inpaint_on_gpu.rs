//! Memory on a GPU, software included, does not grow with the length of a video. The networks are
//! simple, so that many frames are done soon; image propagation and the pipeline are the real ones.
//! A binary of its own: a device's pools serve the whole process.
#![cfg(feature = "wgpu")]

use std::ops::ControlFlow;
use std::panic::catch_unwind;

use burn::tensor::{Device, DeviceKind, Tensor};
use burn_memopt::chunked::BoxError;
use burn_memopt_models::propainter::inpaint::{
    Footage, FrameSink, InpaintConfig, InpaintProgress, Inpainter, Networks,
};
use burn_memopt_models::propainter::{Flows, ImagePropagation, Sampling};

/// Height and width.
const SIDE: usize = 64;
/// What the device would keep of a frame, if it kept anything: propagated colours and a hole.
const FRAME_BYTES: u64 = (4 * SIDE * SIDE * size_of::<f32>()) as u64;

struct Simple;

impl Networks for Simple {
    fn flows(&self, images: Tensor<5>, _: usize) -> Flows {
        let pairs = images.dims()[1] - 1;
        let [first, second] = [0, 1].map(|at| images.clone().narrow(1, at, pairs));
        let forward = (second - first).narrow(2, 0, 2);
        Flows {
            backward: forward.clone().neg(),
            forward,
        }
    }

    fn complete(&self, flows: Flows, holes: Tensor<5>) -> Flows {
        let known = holes.narrow(1, 0, flows.forward.dims()[1]).neg() + 1.0;
        Flows {
            forward: flows.forward * known.clone(),
            backward: flows.backward * known,
        }
    }

    fn propagate(&self, images: Tensor<5>, flows: Flows, holes: Tensor<5>) -> [Tensor<5>; 2] {
        let propagation = ImagePropagation {
            sampling: Sampling::Nearest,
        };
        let known = images * (holes.clone().neg() + 1.0);
        propagation.forward(known, &flows, holes).into()
    }

    fn encode(&self, image: Tensor<5>, _: Tensor<5>, _: Tensor<5>) -> Tensor<4> {
        image.squeeze_dim(1)
    }

    fn generate(
        &self,
        features: Vec<Tensor<4>>,
        _: Flows,
        holes: Tensor<5>,
        _: Tensor<5>,
    ) -> Tensor<4> {
        let all = Tensor::cat(features, 0);
        let local = all.clone().narrow(0, 0, holes.dims()[1]);
        local + all.mean_dim(0)
    }
}

struct Clip(usize);

impl Footage for Clip {
    fn num_frames(&self) -> usize {
        self.0
    }

    fn size(&self) -> [usize; 2] {
        [SIDE; 2]
    }

    fn frame(&mut self, index: usize) -> Result<Vec<u8>, BoxError> {
        let places = 0..3 * SIDE * SIDE;
        Ok(places.map(|place| (place * index % 251) as u8).collect())
    }

    fn mask(&mut self, index: usize) -> Result<Vec<u8>, BoxError> {
        let places = 0..SIDE * SIDE;
        Ok(places
            .map(|place| u8::from((place + index) % 64 < 16))
            .collect())
    }
}

#[derive(Default)]
struct Counted(usize);

impl FrameSink for Counted {
    fn write(&mut self, _: usize, _: &[u8]) -> Result<(), BoxError> {
        self.0 += 1;
        Ok(())
    }
}

/// Bytes that the device's pools hold after a video of `num_frames` frames, and the most that are in
/// use between two pieces of work.
fn held(num_frames: usize, device: &Device) -> [u64; 2] {
    let config = InpaintConfig {
        subvideo_length: 20,
        ..InpaintConfig::default()
    };
    let usage = || {
        device
            .memory_pool_usage()
            .expect("the device tells its memory")
    };
    let (work, mut counted, mut in_use) = (tempfile::tempdir().unwrap(), Counted::default(), 0);
    let mut look = |_: &InpaintProgress| {
        in_use = usage().bytes_in_use.max(in_use);
        ControlFlow::Continue(())
    };
    Inpainter::new(&Simple, config, device)
        .run(&mut Clip(num_frames), work.path(), &mut counted, &mut look)
        .expect("the clip is completed");
    assert_eq!(counted.0, num_frames);
    [usage().bytes_reserved, in_use]
}

#[test]
fn a_video_of_twice_the_length_takes_no_more_memory_of_the_device() {
    let open = || {
        let device = Device::wgpu(DeviceKind::DefaultDevice);
        Tensor::<1>::ones([1], &device).into_data();
        device
    };
    let Ok(gpu) = catch_unwind(open) else {
        eprintln!("skipped: no GPU adapter (nor software Vulkan) on this machine");
        return;
    };
    let short = held(80, &gpu);
    let long = held(160, &gpu);
    println!("reserved and in use: {short:?} for 80 frames, {long:?} for 160");
    // 80 frames more would double what is in use, if they were kept.
    assert!(80 * FRAME_BYTES > short[1], "{short:?}");
    for (short, long) in short.into_iter().zip(long) {
        assert!(long <= short + short / 20, "{long} after {short}");
    }
}
