//! What completing a video takes against what is estimated. A binary of its own: the allocator
//! counts the whole process.
#![cfg(feature = "flex")]

use std::ops::ControlFlow;

use burn::tensor::Device;
use burn_memopt::chunked::BoxError;
use burn_memopt::memory::{Bytes, CountingAllocator, live, peak, reset_peak};
use burn_memopt_models::propainter::ProPainter;
use burn_memopt_models::propainter::inpaint::{
    BudgetRequest, Footage, FrameSink, InpaintConfig, InpaintProgress, Inpainter, Stage, Values,
    Workload, choose,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// A clip that is made up, all of it missing.
struct Clip {
    num_frames: usize,
    size: [usize; 2],
}

impl Footage for Clip {
    fn num_frames(&self) -> usize {
        self.num_frames
    }

    fn size(&self) -> [usize; 2] {
        self.size
    }

    fn frame(&mut self, index: usize) -> Result<Vec<u8>, BoxError> {
        let [height, width] = self.size;
        let pixels = (0..height * width).flat_map(|place| [place + 3 * index; 3]);
        Ok(pixels.map(|value| (value * 37 % 251) as u8).collect())
    }

    fn mask(&mut self, _: usize) -> Result<Vec<u8>, BoxError> {
        Ok(vec![1; self.size[0] * self.size[1]])
    }
}

struct Nowhere;

impl FrameSink for Nowhere {
    fn write(&mut self, _: usize, _: &[u8]) -> Result<(), BoxError> {
        Ok(())
    }
}

/// The highest bytes in each stage above what was live before.
fn measured(networks: &ProPainter, workload: &Workload) -> [u64; 4] {
    let device = Device::flex();
    let networks = networks
        .clone()
        .with_working_memory(workload.working, &device);
    let work = tempfile::tempdir().expect("a folder");
    let before = live().expect("the allocator counts");
    let (mut peaks, mut now) = ([0; 4], None);
    let above = |peaks: &mut [u64; 4], stage: Option<Stage>| {
        if let Some(stage) = stage {
            let highest = (peak().expect("the allocator counts") - before).get();
            peaks[stage as usize] = highest.max(peaks[stage as usize]);
        }
        reset_peak();
    };
    let mut progress = |progress: &InpaintProgress| {
        above(&mut peaks, now.replace(progress.stage));
        ControlFlow::Continue(())
    };
    let mut clip = Clip {
        num_frames: workload.num_frames,
        size: workload.size,
    };
    let inpainter = Inpainter::new(&networks, workload.config.clone(), &device);
    let run = inpainter.run(&mut clip, work.path(), &mut Nowhere, &mut progress);
    run.expect("the clip is completed");
    above(&mut peaks, now);
    peaks
}

/// One test, since the count is the process's.
#[test]
fn what_stages_take_is_estimated_from_above_and_budgets_are_kept() {
    let config = |subvideo_length| InpaintConfig {
        raft_iter: 1,
        raft_clip: Some(6),
        subvideo_length,
        neighbor_length: 4,
        ref_stride: 4,
        feature_cache: Bytes::ZERO,
    };
    let workload = |size, num_frames, subvideo_length| Workload {
        size,
        num_frames,
        precision: Default::default(),
        on_host: true,
        working: Bytes::mib(16),
        config: config(subvideo_length),
    };
    // One block of eight: the others take as much, one after the other.
    let mut networks = ProPainter::procedural(&Device::flex());
    networks.generator.transformers.transformer.truncate(1);
    let measured = |workload: &Workload| measured(&networks, workload);
    let small = workload([64, 64], 4, 5);
    // Threads keep buffers of their own after their first product.
    measured(&small);
    let (low, large) = (measured(&small), workload([96, 96], 10, 5));
    let high = measured(&large);
    for stage in Stage::ALL {
        let [least, most] = [low, high].map(|peaks| peaks[stage as usize]);
        let estimates = [&small, &large].map(|workload| workload.stage(stage).get());
        let (grown, estimated) = (most - least, estimates[1] - estimates[0]);
        println!("{stage}: {least} to {most} bytes, estimated {estimates:?}");
        assert!(least <= estimates[0] && most <= estimates[1], "{stage}");
        // Beside what is there at any size.
        let share = estimated as f64 / grown as f64;
        assert!(
            (1.0..8.0).contains(&share),
            "{stage}: {share:.2} of what is counted"
        );
    }

    for mib in [4096, 512, 400] {
        let request = BudgetRequest {
            config: config(80),
            subvideo_lengths: Values::new([80, 5]),
            ..BudgetRequest::new(Bytes::mib(mib), [64, 96], 6)
        };
        let choice = choose(&request).expect("it is enough");
        let highest = measured(&choice.settings)
            .into_iter()
            .max()
            .unwrap_or_default();
        let all = choice.settings.weights() + Bytes::new(highest);
        println!("{mib} MiB: {all} of {} predicted", choice.predicted_peak);
        assert!(all <= choice.predicted_peak && choice.predicted_peak <= request.budget);
    }
}
