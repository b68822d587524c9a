//! Completing a video from pixels to pixels: memory that does not grow with its length, and
//! where the time goes.

use std::{ops::ControlFlow, time::Instant};

use burn::tensor::Device;
use burn_memopt::{
    chunked::BoxError,
    memory::{Bytes, PeakMeter},
};
use burn_memopt_models::propainter::{
    ProPainter,
    inpaint::{Footage, FrameSink, InpaintConfig, InpaintProgress, Inpainter, Stage, StageTime},
};

use crate::{Row, measure::backend_name};

/// Height and width of a frame in pixels.
const SIDE: usize = 64;
/// Height and width of the hole, which moves.
const HOLE: usize = 24;
/// Frames of a sub-video: 80 frames are four of them.
const SUB_VIDEO: usize = 20;

/// A whole run, which is to need the same memory whatever its length, and a row for each stage.
pub(crate) fn streamed(num_frames: usize, device: &Device) -> Result<Vec<Row>, String> {
    let networks = ProPainter::procedural(device);
    let config = InpaintConfig {
        raft_iter: 4,
        subvideo_length: SUB_VIDEO,
        ..InpaintConfig::default()
    };
    let inpainter = Inpainter::new(&networks, config, device);
    // What stays for ever, like the buffers of threads, is there after the first sub-videos.
    complete(&inpainter, 2 * SUB_VIDEO)?;
    let meter = PeakMeter::start(device);
    let start = Instant::now();
    let (stages, exact) = complete(&inpainter, num_frames)?;
    let seconds = start.elapsed().as_secs_f64();
    let peak = meter.finish().peak;
    let row = |variant: &str, seconds| Row {
        case: String::new(),
        variant: variant.to_owned(),
        backend: backend_name(device),
        peak_bytes: None,
        predicted_bytes: None,
        seconds,
        network_seconds: None,
        items_per_second: None,
        exact: None,
    };
    let whole = Row {
        peak_bytes: peak.map(Bytes::get),
        network_seconds: Some(stages.iter().map(|stage| stage.network_seconds).sum()),
        items_per_second: Some(num_frames as f64 / seconds),
        exact: Some(exact),
        ..row("streamed", seconds)
    };
    let of_stage = |(stage, time): (Stage, StageTime)| Row {
        network_seconds: Some(time.network_seconds),
        items_per_second: time.frames_per_second(),
        ..row(name(stage), time.seconds)
    };
    let of_stages = Stage::ALL.into_iter().zip(stages).map(of_stage);
    Ok([whole].into_iter().chain(of_stages).collect())
}

fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Flow => "flow",
        Stage::Completion => "completion",
        Stage::Propagation => "propagation",
        Stage::Generation => "generation",
    }
}

/// Completes a clip; says what each stage took, and whether every frame came once with its known
/// pixels untouched.
fn complete(inpainter: &Inpainter, num_frames: usize) -> Result<([StageTime; 4], bool), String> {
    let work = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut sink = Untouched {
        next: 0,
        holds: true,
    };
    let mut go_on = |_: &InpaintProgress| ControlFlow::Continue(());
    let stages = inpainter
        .run(&mut Clip { num_frames }, work.path(), &mut sink, &mut go_on)
        .map_err(|error| error.to_string())?;
    Ok((stages, sink.holds && sink.next == num_frames))
}

/// A texture that drifts behind a moving hole; frames are made when they are asked for.
struct Clip {
    num_frames: usize,
}

fn pixels(index: usize) -> Vec<u8> {
    let value = |place: usize| {
        let (channel, place) = (place % 3, place / 3);
        let (row, column) = (place / SIDE + index, place % SIDE + 2 * index);
        let wave = (row as f64 / 5.0).sin() + (column as f64 / (3 + channel) as f64).cos();
        (127.5 + 60.0 * wave) as u8
    };
    (0..3 * SIDE * SIDE).map(value).collect()
}

fn mask(index: usize) -> Vec<u8> {
    let first = index % (SIDE - HOLE);
    let hole = first..first + HOLE;
    let value =
        |place: usize| u8::from(hole.contains(&(place / SIDE)) && hole.contains(&(place % SIDE)));
    (0..SIDE * SIDE).map(value).collect()
}

impl Footage for Clip {
    fn num_frames(&self) -> usize {
        self.num_frames
    }

    fn size(&self) -> [usize; 2] {
        [SIDE; 2]
    }

    fn frame(&mut self, index: usize) -> Result<Vec<u8>, BoxError> {
        Ok(pixels(index))
    }

    fn mask(&mut self, index: usize) -> Result<Vec<u8>, BoxError> {
        Ok(mask(index))
    }
}

/// Checks finished frames and keeps none.
struct Untouched {
    next: usize,
    holds: bool,
}

impl FrameSink for Untouched {
    fn write(&mut self, index: usize, completed: &[u8]) -> Result<(), BoxError> {
        let (given, mask) = (pixels(index), mask(index));
        let is_kept = |place: usize| mask[place / 3] == 1 || completed[place] == given[place];
        self.holds &= index == self.next && completed.len() == given.len();
        self.holds = self.holds && (0..given.len()).all(is_kept);
        self.next = index + 1;
        Ok(())
    }
}
