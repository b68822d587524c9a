//! Whole videos: every stage, and the frames that come out.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use burn_memopt::chunked::BoxError;
use burn_memopt_models::propainter::inpaint::{
    Footage, FrameSink, InpaintConfig, Inpainter, Networks,
};
use burn_memopt_models::propainter::raft::{Correlation, RaftConfig};
use burn_memopt_models::propainter::{FlowCompletion, Flows, InpaintGeneratorConfig, ProPainter};
use rstest::rstest;

use crate::fill::Fill;
use crate::harness::{Case, Comparison, number_in};
use crate::network;

/// The clip of a case, with the masks that its networks saw.
struct Clip<'a> {
    case: &'a Case,
    size: [usize; 2],
}

impl Clip<'_> {
    fn bytes(&self, name: &str, index: usize, channels: usize) -> Vec<u8> {
        let len = channels * self.size[0] * self.size[1];
        let values = &self.case.ints(name)[index * len..(index + 1) * len];
        values.iter().map(|&value| value as u8).collect()
    }
}

impl Footage for Clip<'_> {
    fn num_frames(&self) -> usize {
        self.case.shape("frames_u8")[0]
    }

    fn size(&self) -> [usize; 2] {
        self.size
    }

    fn frame(&mut self, index: usize) -> Result<Vec<u8>, BoxError> {
        Ok(self.bytes("frames_u8", index, 3))
    }

    fn mask(&mut self, index: usize) -> Result<Vec<u8>, BoxError> {
        Ok(self.bytes("dilated_mask_u8", index, 1))
    }
}

#[derive(Default)]
struct Kept(BTreeMap<usize, Vec<u8>>);

impl FrameSink for Kept {
    fn write(&mut self, index: usize, pixels: &[u8]) -> Result<(), BoxError> {
        self.0.insert(index, pixels.to_vec());
        Ok(())
    }
}

fn networks(case: &Case, correlation: Correlation, device: &Device) -> ProPainter {
    let fill = |network: &str| {
        let table = case.word(&format!("gains/{network}"));
        Fill::new(&table.expect("the gain table of the network"), case.salt())
    };
    ProPainter {
        flow: network::filled_by(
            RaftConfig::new().with_correlation(correlation).init(device),
            &fill("raft"),
            "",
        ),
        completion: network::filled_by(FlowCompletion::new(device), &fill("flowcomp"), ""),
        generator: network::filled_by(
            InpaintGeneratorConfig::new().init(device),
            &fill("generator"),
            "",
        ),
    }
}

#[rstest]
#[case::in_parts("pipeline_a", Correlation::AllPairs)]
#[case::whole("pipeline_b", Correlation::ON_DEMAND)]
fn golden_pipeline(#[case] name: &str, #[case] correlation: Correlation) {
    let (case, device) = (Case::open(name), Device::flex());
    let shape = case.shape("frames_u8");
    let size = [shape[1], shape[2]];
    let networks = networks(&case, correlation, &device);
    let config = InpaintConfig {
        raft_iter: case.require("raft_iter") as usize,
        raft_clip: Some(case.require("raft_clip_length") as usize),
        subvideo_length: case.require("subvideo_length") as usize,
        neighbor_length: case.require("neighbor_length") as usize,
        ref_stride: case.require("ref_stride") as usize,
        ..InpaintConfig::default()
    };
    let (work, mut kept) = (tempfile::tempdir().expect("a folder"), Kept::default());
    let inpainter = Inpainter::new(&networks, config, &device).keeping_stages();
    let mut clip = Clip { case: &case, size };
    inpainter
        .run(&mut clip, work.path(), &mut kept, &mut |_| {
            ControlFlow::Continue(())
        })
        .expect("the clip is completed");

    let stages = Stages {
        work: work.path(),
        size,
    };
    let mut comparison = Comparison::new(&case);
    let num_frames = shape[0];
    for (name, part) in [
        ("raft_flow_f", FLOW_FORWARD),
        ("raft_flow_b", FLOW_BACKWARD),
        ("completed_flow_f", COMPLETED_FORWARD),
        ("completed_flow_b", COMPLETED_BACKWARD),
    ] {
        let stored = case.names(&format!("{name}_stride"))[0];
        let stride = number_in(stored, "_stride").expect("a stride");
        comparison.values(stored, &stages.strided(part, num_frames - 1, stride));
    }
    let first = stages.first_prediction(&case, &networks, &device);
    comparison.values("first_prediction_0_255", &first);
    comparison.finish();

    let left = stages.bytes(LEFT, num_frames, |value| value);
    few_differ(&case, "updated_mask_u8", &left);
    let filled = stages.bytes(FILLED, num_frames, |value| {
        ((value + 1.0) / 2.0 * 255.0).round()
    });
    few_differ(&case, "updated_frames_u8", &filled);
    let composed: Vec<u8> = kept.0.into_values().flatten().collect();
    few_differ(&case, "composed_u8", &composed);
}

/// Some channels of the frames that a stage has kept.
#[derive(Clone, Copy)]
struct Part {
    folder: &'static str,
    first: usize,
    channels: usize,
}

const fn part(folder: &'static str, first: usize, channels: usize) -> Part {
    Part {
        folder,
        first,
        channels,
    }
}

const FLOW_FORWARD: Part = part("flows", 0, 2);
const FLOW_BACKWARD: Part = part("flows", 2, 2);
const COMPLETED_FORWARD: Part = part("completed", 0, 2);
const COMPLETED_BACKWARD: Part = part("completed", 2, 2);
const FILLED: Part = part("propagated", 0, 3);
const LEFT: Part = part("propagated", 3, 1);

/// What the stages have kept.
struct Stages<'a> {
    work: &'a Path,
    size: [usize; 2],
}

impl Stages<'_> {
    /// A frame of a stage, `[channels, height, width]`.
    fn frame(&self, part: Part, index: usize) -> Vec<f32> {
        let bytes = fs::read(self.work.join(part.folder).join(format!("{index:06}")));
        let bytes = bytes.expect("the stage has kept it");
        let (values, rest) = bytes.as_chunks::<4>();
        let area: usize = self.size.iter().product();
        assert!(rest.is_empty() && values.len() == 4 * area);
        values[part.first * area..][..part.channels * area]
            .iter()
            .map(|&value| f32::from_le_bytes(value))
            .collect()
    }

    /// Every `stride`th pixel of `num_frames` frames in both directions.
    fn strided(&self, part: Part, num_frames: usize, stride: usize) -> Vec<f32> {
        let [height, width] = self.size;
        let frames = (0..num_frames).flat_map(|index| self.frame(part, index));
        let is_kept = |place: usize| {
            let (y, x) = (place / width % height, place % width);
            y.is_multiple_of(stride) && x.is_multiple_of(stride)
        };
        let kept = frames.enumerate().filter(|(place, _)| is_kept(*place));
        kept.map(|(_, value)| value).collect()
    }

    /// `num_frames` frames as bytes, channels last.
    fn bytes(&self, part: Part, num_frames: usize, byte: impl Fn(f32) -> f32) -> Vec<u8> {
        let area = self.size[0] * self.size[1];
        let mut bytes = Vec::new();
        for index in 0..num_frames {
            let frame = self.frame(part, index);
            let channels = part.channels;
            let places = (0..area).flat_map(|place| (0..channels).map(move |c| c * area + place));
            bytes.extend(places.map(|place| byte(frame[place]) as u8));
        }
        bytes
    }

    fn tensor(&self, part: Part, indices: &[usize], device: &Device) -> Tensor<5> {
        let [height, width] = self.size;
        let values: Vec<f32> = indices
            .iter()
            .flat_map(|index| self.frame(part, *index))
            .collect();
        let shape = [1, indices.len(), part.channels, height, width];
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    /// The first frame as the generator's first call makes it, from 0 to 255, channels last.
    fn first_prediction(&self, case: &Case, networks: &ProPainter, device: &Device) -> Vec<f32> {
        let ids = |which: usize| -> Vec<usize> {
            let ids = case.param(&format!("local_and_reference_ids/0/{which}"));
            let ids = ids.and_then(|ids| ids.as_array()).expect("a list");
            ids.iter()
                .map(|id| id.as_u64().expect("a frame") as usize)
                .collect()
        };
        let (local, references) = (ids(0), ids(1));
        let clip = Clip {
            case,
            size: self.size,
        };
        let [height, width] = self.size;
        let holes = |indices: &[usize]| {
            let holes = indices
                .iter()
                .flat_map(|index| clip.bytes("dilated_mask_u8", *index, 1));
            let values: Vec<f32> = holes.map(f32::from).collect();
            let shape = [1, indices.len(), 1, height, width];
            Tensor::<5>::from_data(TensorData::new(values, shape), device)
        };
        let features = local.iter().chain(&references).map(|&index| {
            let [image, left] = [FILLED, LEFT].map(|part| self.tensor(part, &[index], device));
            networks.encode(image, holes(&[index]), left)
        });
        let pairs = &local[..local.len() - 1];
        let flows = Flows {
            forward: self.tensor(COMPLETED_FORWARD, pairs, device),
            backward: self.tensor(COMPLETED_BACKWARD, pairs, device),
        };
        let left = self.tensor(LEFT, &local, device);
        let made = networks.generate(features.collect(), flows, holes(&local), left);
        let first = made.narrow(0, 0, 1).permute([0, 2, 3, 1]);
        let values = first.into_data();
        values
            .iter::<f32>()
            .map(|value| (value + 1.0) / 2.0 * 255.0)
            .collect()
    }
}

/// At most one in a thousand bytes differs, and one in ten thousand by more than 1: values next to a
/// whole number, and masks next to their threshold.
fn few_differ(case: &Case, name: &str, mine: &[u8]) {
    let stored = case.ints(name);
    assert_eq!(mine.len(), stored.len(), "{name}");
    let differences = mine
        .iter()
        .zip(stored)
        .map(|(&mine, &stored)| i64::from(mine).abs_diff(stored));
    let differences: Vec<_> = differences.filter(|difference| *difference > 0).collect();
    let large = differences
        .iter()
        .filter(|difference| **difference > 1)
        .count();
    println!(
        "{}: {name}: {} of {} differ, {large} by more than 1",
        case.name,
        differences.len(),
        mine.len()
    );
    assert!(
        differences.len() * 1_000 <= mine.len(),
        "{name}: {} differ",
        differences.len()
    );
    assert!(
        large * 10_000 <= mine.len(),
        "{name}: {large} differ by more than 1"
    );
}
