use std::cell::RefCell;

use burn::tensor::Tensor;

use super::clip::SIDE;
use crate::propainter::Flows;
use crate::propainter::inpaint::{Networks, Stage};

/// Networks that mix values of neighbouring frames, so that a wrong window shows in the result, and
/// that note how many frames they were given at once.
#[derive(Default)]
pub(super) struct Mixing {
    pub(super) longest: RefCell<[usize; 4]>,
}

impl Mixing {
    fn note(&self, stage: Stage, num_frames: usize) {
        let longest = &mut self.longest.borrow_mut()[stage as usize];
        *longest = num_frames.max(*longest);
    }
}

/// Each frame and the mean of its neighbours as far as `reach`, half and half.
fn blur(values: Tensor<5>, reach: usize) -> Tensor<5> {
    let num_frames = values.dims()[1];
    let blurred = (0..num_frames).map(|frame| {
        let around = frame.saturating_sub(reach)..(frame + reach + 1).min(num_frames);
        values.clone().slice_dim(1, around).mean_dim(1)
    });
    (Tensor::cat(blurred.collect(), 1) + values) / 2.0
}

impl Networks for Mixing {
    fn flows(&self, images: Tensor<5>, iterations: usize) -> Flows {
        self.note(Stage::Flow, images.dims()[1]);
        let last = images.dims()[1] - 1;
        let first = images.clone().slice_dim(1, 0..last).slice_dim(2, 0..2);
        let second = images.slice_dim(1, 1..last + 1).slice_dim(2, 0..2);
        let forward = (second - first) * iterations as f32;
        Flows {
            backward: -forward.clone(),
            forward,
        }
    }

    fn complete(&self, flows: Flows, holes: Tensor<5>) -> Flows {
        self.note(Stage::Completion, holes.dims()[1]);
        let last = holes.dims()[1] - 1;
        assert_eq!(flows.forward.dims()[1], last);
        let holes = holes.slice_dim(1, 0..last);
        // As far as the halo reaches.
        let completed = |flow| blur(flow, 5) + holes.clone() * 0.25;
        Flows {
            forward: completed(flows.forward),
            backward: completed(flows.backward),
        }
    }

    fn propagate(&self, images: Tensor<5>, flows: Flows, holes: Tensor<5>) -> [Tensor<5>; 2] {
        let num_frames = images.dims()[1];
        self.note(Stage::Propagation, num_frames);
        assert_eq!(flows.backward.dims()[1], num_frames - 1);
        let moved = flows.forward.mean_dim(2);
        let moved = Tensor::cat(
            vec![
                moved.clone(),
                moved.slice_dim(1, num_frames - 2..num_frames - 1),
            ],
            1,
        );
        let images = blur(images + moved, 10) * 0.1 + holes.clone() * 0.2;
        [images, holes * 0.5]
    }

    fn encode(&self, image: Tensor<5>, hole: Tensor<5>, left: Tensor<5>) -> Tensor<4> {
        let whole = image + hole + left * 2.0;
        whole.reshape([1, 3, SIDE, SIDE])
    }

    fn generate(
        &self,
        features: Vec<Tensor<4>>,
        flows: Flows,
        holes: Tensor<5>,
        left: Tensor<5>,
    ) -> Tensor<4> {
        let local = holes.dims()[1];
        self.note(Stage::Generation, features.len());
        assert_eq!(
            (flows.forward.dims()[1], left.dims()[1]),
            (local - 1, local)
        );
        let all = Tensor::cat(features, 0);
        let whole = flows.forward.mean() * 0.1 + left.mean();
        let mean = all.clone().mean_dim(0) + whole.reshape([1, 1, 1, 1]);
        ((all.slice_dim(0, 0..local) + mean) * 0.2).tanh()
    }
}
