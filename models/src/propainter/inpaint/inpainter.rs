use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use burn::tensor::Device;
use burn_memopt::batch::Failure;
use burn_memopt::chunked::BoxError;

use super::completion::Completion;
use super::finished::Finished;
use super::frames::Frames;
use super::generation::Generation;
use super::motion::Motion;
use super::propagation::Propagation;
use super::watch::{InpaintProgress, Stage, StageTime, Watch};
use super::{Fallback, Footage, FrameSink, InpaintConfig, InpaintError, Networks};

/// Completes the holes of a video of any length, in memory that does not grow with it.
///
/// Each stage asks the one before for what it needs: a neighbourhood of frames needs propagated
/// images, those need flows, and so on. What a stage has finished lies in files of a work folder
/// until no later stage needs it, so neither device nor host hold more than one sub-video. The
/// folder is also what an interrupted run goes on from.
///
/// On the disk, a frame takes about 52 bytes a pixel from where it is first needed to where it is
/// last: with the default lengths, of some 100 frames at a time, 0.5 GB at 432×240 pixels and 5 GB at
/// 1280×720.
///
/// # Exactness
/// The result does not depend on where frames are kept, on the number of pairs whose flow is
/// computed at once, on the feature cache, or on interruptions. It depends on the lengths and the
/// stride in [`InpaintConfig`] as in ProPainter. Pixels outside the holes are untouched.
///
/// # References
/// Zhou et al. 2023, "ProPainter: Improving Propagation and Transformer for Video Inpainting",
/// arXiv:2309.03897, section 3.
pub struct Inpainter<'a> {
    networks: &'a dyn Networks,
    config: InpaintConfig,
    device: Device,
    keeps_stages: bool,
    least: Option<InpaintConfig>,
    tell: &'a dyn Fn(&Fallback),
}

impl<'a> Inpainter<'a> {
    /// Completes with these networks, which are on `device`.
    pub fn new(networks: &'a dyn Networks, config: InpaintConfig, device: &Device) -> Self {
        Self {
            networks,
            config,
            device: device.clone(),
            keeps_stages: false,
            least: None,
            tell: &|_| {},
        }
    }

    /// Goes on with less at once where the device runs out of memory, and calls `tell` then. One
    /// step down the ladders of settings at a time, the stage that failed is tried again: fewer
    /// frames of flow, which changes nothing; a shorter sub-video; a shorter neighbourhood, then
    /// references further apart. None goes below its value in `least`. The size of frames stays.
    ///
    /// The default is that lack of memory is an error.
    ///
    /// # Exactness
    /// Frames that were finished before stay as they are; those after come out as with the settings
    /// that fit. A run that goes on after an interruption keeps to these.
    pub fn with_fallback(mut self, least: InpaintConfig, tell: &'a dyn Fn(&Fallback)) -> Self {
        self.least = Some(least);
        self.tell = tell;
        self
    }

    /// Keeps what every stage has finished in the work folder, for whoever wants to look at it. The
    /// disk space it takes grows with the video.
    ///
    /// The folders are `pixels` and `masks` (bytes, `[height, width, 3]` and `[height, width]`),
    /// `flows` and `completed` (two channels of flow forwards, two backwards) and `propagated`
    /// (three of colour, one of holes), those in f32 of this machine, `[4, height, width]`; a file
    /// is a frame, or a pair of frames, named by its number.
    pub fn keeping_stages(mut self) -> Self {
        self.keeps_stages = true;
        self
    }

    /// Completes a video, or what is left of it, and tells what each stage took, in the order of
    /// [`Stage::ALL`](super::Stage::ALL).
    ///
    /// `work` is a folder that keeps what stages have finished, empty at first. Call again with the
    /// same folder, video, networks and config to go on after an error or an interruption; the
    /// folder may be removed once this returns without one. `progress` is called before every piece
    /// of work.
    ///
    /// # Errors
    /// If a frame cannot be read or written, a network fails, memory runs out with the least
    /// settings too, or `progress` asks to stop.
    ///
    /// # Panics
    /// If the video has no frame, or its sides are no multiples of 8; if a length or the stride is
    /// zero, or the neighbourhood shorter than 2 frames.
    pub fn run(
        &self,
        footage: &mut dyn Footage,
        work: &Path,
        sink: &mut dyn FrameSink,
        progress: &mut dyn FnMut(&InpaintProgress) -> ControlFlow<()>,
    ) -> Result<[StageTime; 4], InpaintError> {
        let (size, total) = (footage.size(), footage.num_frames());
        assert!(total > 0, "a video must have frames, got 0");
        assert!(
            size.iter().all(|side| *side > 0 && side % 8 == 0),
            "sides must be multiples of 8, got {}×{}",
            size[0],
            size[1]
        );
        let finished = Finished::open(work, size[0] * size[1], &self.config)?;
        let schedule = finished.schedule();
        let frames = Frames::open(footage, work, &self.device)?;
        let motion = Motion::open(frames, work, schedule)?;
        let completion = Completion::open(motion, work, schedule)?;
        let propagation = Propagation::open(completion, work, schedule)?;
        let mut generation = Generation::open(propagation, finished, total);
        let mut watch = Watch::new(total, generation.finished(), progress);
        let mut tried = Vec::new();
        loop {
            match self.attempt(&mut generation, sink, &mut watch)? {
                Ok(true) if self.keeps_stages => {}
                Ok(true) => generation.release()?,
                Ok(false) => return Ok(watch.stages()),
                Err(source) => {
                    let lacking = Lacking {
                        at: watch.at(),
                        done: watch.done,
                        width: size[1],
                        source,
                    };
                    self.fall_back(lacking, &mut generation, &mut tried)?;
                }
            }
        }
    }

    /// Completes the next neighbourhood; the inner error is lack of memory.
    fn attempt(
        &self,
        generation: &mut Generation,
        sink: &mut dyn FrameSink,
        watch: &mut Watch,
    ) -> Result<Result<bool, BoxError>, InpaintError> {
        // Runtimes tell lack of memory by an error when values are read, or panic before.
        let advance = AssertUnwindSafe(|| generation.advance(self.networks, sink, watch));
        match catch_unwind(advance) {
            Ok(Err(InpaintError::Network { source, .. }))
                if Failure::of(&*source).is_out_of_memory() =>
            {
                Ok(Err(source))
            }
            Ok(result) => result.map(Ok),
            Err(panic) if Failure::of_panic(&*panic).is_out_of_memory() => {
                Ok(Err(Failure::panic_text(&*panic).into()))
            }
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Takes the next step down, if there is one.
    fn fall_back(
        &self,
        lacking: Lacking,
        generation: &mut Generation,
        tried: &mut Vec<Fallback>,
    ) -> Result<(), InpaintError> {
        let Lacking {
            at: (stage, index),
            done,
            width,
            source,
        } = lacking;
        let config = generation.config();
        let least = self.least.as_ref();
        let lowered = least.and_then(|least| config.lowered(stage, index, width, least));
        let Some((fallback, config)) = lowered else {
            return Err(InpaintError::OutOfMemory {
                stage,
                index,
                done,
                tried: std::mem::take(tried),
                source,
            });
        };
        generation.follow(config)?;
        self.device.memory_cleanup();
        (self.tell)(&fallback);
        tried.push(fallback);
        Ok(())
    }
}

/// Where memory ran out.
struct Lacking {
    /// The stage and the frame it began with.
    at: (Stage, usize),
    /// Frames that are finished.
    done: usize,
    width: usize,
    source: BoxError,
}
