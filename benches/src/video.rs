//! Video: whole clips completed from pixels to pixels, a training step of ProPainter's generator, and
//! RAFT's comparison of frames.

use std::{hint::black_box, ops::ControlFlow, time::Instant};

use burn::{
    optim::GradientsParams,
    tensor::{Device, Distribution, Tensor},
};
use burn_memopt::{
    chunked::BoxError,
    grad_checkpoint::Policy,
    memory::{Bytes, PeakMeter},
    precision::{Autocast, Precision},
};
use burn_memopt_models::propainter::{
    Flows, GeneratorInput, InpaintGenerator, InpaintGeneratorConfig, ProPainter,
    inpaint::{Footage, FrameSink, InpaintConfig, InpaintProgress, Inpainter, Stage, StageTime},
    raft::{Correlation, CorrelationField},
    training::InpaintLoss,
};

use crate::{
    Row,
    bench::{Bench, Runs, Variant},
    busy::{BusyThreads, Looks},
};

/// Frames of a sub-video: 80 frames are four of them.
const SUB_VIDEO: usize = 20;

/// A whole run, which is to need the same memory whatever its length, and a row for each stage.
pub(crate) fn streamed<const NUM_FRAMES: usize>(bench: &mut Bench) -> Result<(), BoxError> {
    let config = InpaintConfig {
        raft_iter: 4,
        subvideo_length: SUB_VIDEO,
        ..InpaintConfig::default()
    };
    let clip = |num_frames| Clip {
        num_frames,
        size: [64, 64],
        hole: 24,
    };
    // What stays for ever, like the buffers of threads, is there after the first sub-videos.
    pipeline(bench, config, clip(2 * SUB_VIDEO), clip(NUM_FRAMES))
}

/// ProPainter's own example: its frame size and settings.
pub(crate) fn official(bench: &mut Bench) -> Result<(), BoxError> {
    let clip = |num_frames, size| Clip {
        num_frames,
        size,
        hole: 80,
    };
    let (first, clip) = (clip(2, [128, 128]), clip(12, [240, 432]));
    pipeline(bench, InpaintConfig::default(), first, clip)
}

/// Completes `clip` after a `first` one, which is not measured.
fn pipeline(
    bench: &mut Bench,
    config: InpaintConfig,
    first: Clip,
    clip: Clip,
) -> Result<(), BoxError> {
    let device = bench.device.clone();
    let networks = ProPainter::procedural(&device);
    let inpainter = Inpainter::new(&networks, config, &device);
    complete(&inpainter, first, &mut |_| {})?;
    let num_frames = clip.num_frames as f64;
    let meter = PeakMeter::start(&device);
    let busy = BusyThreads::<{ Stage::ALL.len() }>::watch();
    let start = Instant::now();
    let (stages, exact) = complete(&inpainter, clip, &mut |stage| busy.enter(stage))?;
    let seconds = start.elapsed().as_secs_f64();
    let looks = busy.finish();
    bench.push(Row {
        peak_bytes: meter.finish().peak.map(Bytes::get),
        network_seconds: Some(stages.iter().map(|stage| stage.network_seconds).sum()),
        items_per_second: Some(num_frames / seconds),
        single_thread: looks.into_iter().sum::<Looks>().single(),
        exact: Some(exact),
        ..Row::new("streamed", &device, seconds)
    });
    for ((stage, time), looks) in Stage::ALL.into_iter().zip(stages).zip(looks) {
        bench.push(Row {
            network_seconds: Some(time.network_seconds),
            items_per_second: time.frames_per_second(),
            single_thread: looks.single(),
            ..Row::new(name(stage), &device, time.seconds)
        });
    }
    Ok(())
}

fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Flow => "flow",
        Stage::Completion => "completion",
        Stage::Propagation => "propagation",
        Stage::Generation => "generation",
    }
}

/// Completes a clip and calls `enter` when a stage begins; says what each took, and whether every
/// frame came once with its known pixels untouched.
fn complete(
    inpainter: &Inpainter,
    mut clip: Clip,
    enter: &mut dyn FnMut(usize),
) -> Result<([StageTime; 4], bool), BoxError> {
    let work = tempfile::tempdir()?;
    let mut sink = Untouched {
        clip,
        next: 0,
        holds: true,
    };
    let mut go_on = |progress: &InpaintProgress| {
        enter(progress.stage as usize);
        ControlFlow::Continue(())
    };
    let stages = inpainter.run(&mut clip, work.path(), &mut sink, &mut go_on)?;
    Ok((stages, sink.holds && sink.next == clip.num_frames))
}

/// A texture that drifts behind a moving hole; frames are made when they are asked for.
#[derive(Clone, Copy)]
struct Clip {
    num_frames: usize,
    /// Height and width of a frame in pixels.
    size: [usize; 2],
    /// Height and width of the hole, which moves.
    hole: usize,
}

impl Clip {
    fn pixels(&self, index: usize) -> Vec<u8> {
        let [height, width] = self.size;
        let value = |place: usize| {
            let (channel, place) = (place % 3, place / 3);
            let (row, column) = (place / width + index, place % width + 2 * index);
            let wave = (row as f64 / 5.0).sin() + (column as f64 / (3 + channel) as f64).cos();
            (127.5 + 60.0 * wave) as u8
        };
        (0..3 * height * width).map(value).collect()
    }

    fn holes(&self, index: usize) -> Vec<u8> {
        let [height, width] = self.size;
        let first = index % (height - self.hole);
        let hole = first..first + self.hole;
        let is_hole =
            |place: usize| hole.contains(&(place / width)) && hole.contains(&(place % width));
        (0..height * width)
            .map(|place| u8::from(is_hole(place)))
            .collect()
    }
}

impl Footage for Clip {
    fn num_frames(&self) -> usize {
        self.num_frames
    }

    fn size(&self) -> [usize; 2] {
        self.size
    }

    fn frame(&mut self, index: usize) -> Result<Vec<u8>, BoxError> {
        Ok(self.pixels(index))
    }

    fn mask(&mut self, index: usize) -> Result<Vec<u8>, BoxError> {
        Ok(self.holes(index))
    }
}

/// Checks finished frames and keeps none.
struct Untouched {
    clip: Clip,
    next: usize,
    holds: bool,
}

impl FrameSink for Untouched {
    fn write(&mut self, index: usize, completed: &[u8]) -> Result<(), BoxError> {
        let (given, mask) = (self.clip.pixels(index), self.clip.holes(index));
        let is_kept = |place: usize| mask[place / 3] == 1 || completed[place] == given[place];
        self.holds &= index == self.next && completed.len() == given.len();
        self.holds = self.holds && (0..given.len()).all(is_kept);
        self.next = index + 1;
        Ok(())
    }
}

/// What a layer may allocate at a time, and so how finely work is divided, in bytes.
const WORKING_BYTES: usize = 16 << 20;
/// Scale of the loss in half precision, for gradients below the smallest f16 number.
const LOSS_SCALE: f32 = 1024.0;

/// The generator of the published weights, and frames with a hole.
struct GeneratorStep {
    generator: InpaintGenerator,
    input: GeneratorInput,
    truth: Tensor<5>,
    device: Device,
}

impl GeneratorStep {
    /// Frames with their neighbours, frames from elsewhere, and height and width of both in pixels; the
    /// hole is half as large.
    fn new(bench: &Bench) -> Self {
        let device = bench.device.clone().autodiff();
        device.seed(0);
        let full = InpaintGeneratorConfig::new();
        let small = InpaintGeneratorConfig::new().with_depth(2);
        let (config, num_local, num_references, side) =
            bench.pick((full, 10, 6, 128), (small, 3, 1, 64));
        let frames = num_local + num_references;
        let random = |frames: usize, channels: usize| {
            let normal = Distribution::Normal(0.0, 1.0);
            Tensor::<5>::random([1, frames, channels, side, side], normal, &device)
        };
        let truth = random(frames, 3).tanh();
        let border = side / 4;
        let hole = Tensor::<5>::ones([1, frames, 1, side / 2, side / 2], &device);
        let masks = hole.pad([(border, border), (border, border)], 0.0);
        let input = GeneratorInput {
            frames: truth.clone() * masks.clone().neg().add_scalar(1.0),
            flows: Flows {
                forward: random(num_local - 1, 2),
                backward: random(num_local - 1, 2),
            },
            updated_masks: masks.clone(),
            masks,
            num_local,
        };
        Self {
            generator: config.with_working_bytes(WORKING_BYTES).init(&device),
            input,
            truth,
            device,
        }
    }

    fn loss(&self, predicted: &Tensor<5>) -> Tensor<1> {
        let terms = InpaintLoss::new().terms(predicted, &self.truth, &self.input.masks, None);
        terms.total()
    }

    /// A step in f32.
    fn step(&self, generator: &InpaintGenerator) -> GradientsParams {
        let predicted = generator.forward_all(self.input.clone());
        GradientsParams::from_grads(self.loss(&predicted).backward(), generator)
    }

    /// A step in half precision, on parameters in f32.
    fn half_step(&self, autocast: &Autocast, generator: &InpaintGenerator) -> GradientsParams {
        let GeneratorInput {
            frames,
            flows,
            masks,
            updated_masks,
            num_local,
        } = self.input.clone();
        let input = [frames, flows.forward, flows.backward, masks, updated_masks];
        let predicted = autocast.run(generator, input, |half, input| {
            let [frames, forward, backward, masks, updated_masks] = input;
            half.forward_all(GeneratorInput {
                frames,
                flows: Flows { forward, backward },
                masks,
                updated_masks,
                num_local,
            })
        });
        let loss = self.loss(&predicted) * LOSS_SCALE;
        GradientsParams::from_grads(loss.backward(), generator)
    }
}

/// A training step recomputed in f32 and in half precision, where the device has it.
pub(crate) fn generator_step(bench: &mut Bench) -> Result<(), BoxError> {
    let work = GeneratorStep::new(bench);
    let autocast = Autocast::new(Precision::F16);
    let recomputed = work
        .generator
        .clone()
        .with_grad_checkpoint(Policy::EveryBlock);
    let mut variants = vec![
        Variant::new("plain", || work.step(&work.generator)),
        Variant::new("checkpoint", || work.step(&recomputed)),
    ];
    if Precision::F16.check(&work.device).is_ok() {
        let half = Variant::new("with_f16", || work.half_step(&autocast, &recomputed));
        variants.push(half.with_other_gradients());
    }
    bench.steps(&work.generator, 0, &variants);
    Ok(())
}

/// Channels of the features that are compared.
const CHANNELS: usize = 256;

/// Times that values are looked up; 20 is usual.
const LOOKUPS: usize = 4;

/// The features of two square frames, and where values are looked up.
struct FramePair {
    first: Tensor<4>,
    second: Tensor<4>,
    coords: Tensor<4>,
}

impl FramePair {
    fn new(side: usize) -> Self {
        let device = Device::flex();
        device.seed(0);
        let random = |channels, distribution| {
            Tensor::random([1, channels, side, side], distribution, &device)
        };
        Self {
            first: random(CHANNELS, Distribution::Default),
            second: random(CHANNELS, Distribution::Default),
            coords: random(2, Distribution::Uniform(0.0, side as f64)),
        }
    }

    fn look_up(&self, correlation: Correlation) -> Tensor<4> {
        let (first, second) = (self.first.clone(), self.second.clone());
        let field = CorrelationField::new(first, second, correlation);
        for _ in 1..LOOKUPS {
            field.lookup(self.coords.clone());
        }
        field.lookup(self.coords.clone())
    }
}

/// Values looked up on demand against all pairs at once, for frames of `FRAME_SIDE` pixels.
pub(crate) fn raft_lookup<const FRAME_SIDE: usize>(bench: &mut Bench) -> Result<(), BoxError> {
    let side = FRAME_SIDE / 8;
    let work = FramePair::new(side);
    let variants = [Correlation::AllPairs, Correlation::ON_DEMAND];
    let [plain, mine] = variants.map(|correlation| work.look_up(correlation));
    let scale = plain.clone().abs().max().into_scalar::<f32>();
    let deviation = (plain - mine).abs().max().into_scalar::<f32>() / scale;
    let runs = Runs {
        exact: Some(deviation <= 1e-5),
        ..Runs::on_host(&["plain", "on_demand"], side * side)
    };
    bench.runs(&runs, |variant| {
        black_box(work.look_up(variants[variant]));
        Ok(())
    })
}
