use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use burn_memopt::batch::Failure;
use burn_memopt::budget::{AttemptError, catch_out_of_memory, retry};
use burn_memopt::chunked::BoxError;

use super::pipeline::Pipeline;
use super::progress::{InpaintProgress, Stage, StageTime, Watch};
use super::{Fallback, Footage, FrameSink, InpaintConfig, Networks};

/// Completes the holes of a video of any length, in memory that does not grow with it.
///
/// Each stage asks the one before for what it needs: a neighbourhood of frames needs propagated
/// images, those need flows, and so on. What a stage has finished is in files of a work folder
/// until no later stage needs it, so neither device nor host hold more than one sub-video. The
/// folder is also what an interrupted run resumes from.
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

    /// Continues with less at once where the device runs out of memory, and calls `tell` then. One
    /// step down the ladders of settings at a time, the stage that failed is tried again: fewer
    /// frames of flow, which changes nothing; a shorter sub-video; a shorter neighbourhood, then
    /// references further apart. None goes below its value in `least`. The size of frames stays.
    ///
    /// The default is that lack of memory is an error.
    ///
    /// # Exactness
    /// Frames that were finished before stay as they are; those after come out as with the settings
    /// that fit. A run that is resumed after an interruption keeps them.
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

    /// Completes a video, or what is left of it, and returns what each stage took, in the order of
    /// [`Stage::ALL`].
    ///
    /// `work` is a folder that keeps what stages have finished, empty at first. Call again with the
    /// same folder, video, networks and config to resume after an error or an interruption; the
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
        let pipeline = Pipeline::open(self.networks, footage, work, &self.config, &self.device)?;
        let mut run = Run {
            watch: Watch::new(total, pipeline.finished(), progress),
            pipeline,
            tried: Vec::new(),
        };
        let devices = std::slice::from_ref(&self.device);
        while retry(
            &mut run,
            devices,
            |run| run.advance(sink),
            |run, source| self.shrink(run, source),
        )? {
            if !self.keeps_stages {
                run.pipeline.release()?;
            }
        }
        Ok(run.watch.stages)
    }

    /// Takes the next step down, if there is one.
    fn shrink(&self, run: &mut Run, source: BoxError) -> Result<(), InpaintError> {
        let (stage, index) = run.watch.at;
        let (config, width) = (run.pipeline.config(), run.pipeline.frames.size[1]);
        let least = self.least.as_ref();
        let lowered = least.and_then(|least| config.lowered(stage, index, width, least));
        let Some((fallback, config)) = lowered else {
            return Err(InpaintError::OutOfMemory {
                stage,
                index,
                done: run.watch.done,
                tried: std::mem::take(&mut run.tried),
                source,
            });
        };
        run.pipeline.change(config)?;
        (self.tell)(&fallback);
        run.tried.push(fallback);
        Ok(())
    }
}

/// What an attempt and a step down work on.
struct Run<'a> {
    pipeline: Pipeline<'a>,
    watch: Watch<'a>,
    tried: Vec<Fallback>,
}

impl Run<'_> {
    /// Completes the next neighbourhood; `false` if there is none.
    fn advance(&mut self, sink: &mut dyn FrameSink) -> Result<bool, AttemptError<InpaintError>> {
        catch_out_of_memory(|| {
            let done = self.pipeline.advance(sink, &mut self.watch);
            done.map_err(|error| match error {
                InpaintError::Network { source, .. }
                    if Failure::of(&*source).is_out_of_memory() =>
                {
                    AttemptError::OutOfMemory(source)
                }
                error => AttemptError::Failed(error),
            })
        })
    }
}

/// Why a video could not be completed. Frames that were finished stay.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum InpaintError {
    /// A frame or mask cannot be read.
    #[error(
        "cannot read the {what} of frame {index}; {done} frames before it are finished and kept"
    )]
    Read {
        /// "pixels" or "mask".
        what: &'static str,
        /// The frame, from 0.
        index: usize,
        /// Frames that are finished.
        done: usize,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// A finished frame cannot be kept.
    #[error("cannot write frame {index}; check that the output has room")]
    Write {
        /// The frame, from 0.
        index: usize,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// What a stage keeps on the disk cannot be written or read.
    #[error("{path}: cannot keep what later stages need; check that the disk has room", path = .path.display())]
    Store {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What an earlier run left in the work folder cannot be used.
    #[error(
        "{path}: cannot resume from this file: {why}; remove the unfinished run to begin again",
        path = .path.display()
    )]
    Resume {
        /// The file.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// A network failed on the device.
    #[error("{stage} failed at frame {index}")]
    Network {
        /// The stage.
        stage: Stage,
        /// First frame that it worked on.
        index: usize,
        /// What the device says.
        #[source]
        source: BoxError,
    },
    /// A network's output holds infinities, or what is no number.
    #[error(
        "{stage} gave values that are no numbers at frame {index}; compute in f32, and check that the weights are those of this network"
    )]
    NotFinite {
        /// The stage.
        stage: Stage,
        /// First frame that it worked on.
        index: usize,
    },
    /// Memory ran out, and nothing is left that could be computed with less.
    #[error(
        "{stage} runs out of memory at frame {index}{tried}; {done} frames before it are finished \
         and kept: give a smaller size or budget, or free memory",
        tried = after(.tried)
    )]
    OutOfMemory {
        /// The stage.
        stage: Stage,
        /// First frame that it worked on.
        index: usize,
        /// Frames that are finished.
        done: usize,
        /// The settings that were tried, one after the other.
        tried: Vec<Fallback>,
        /// What the device says.
        #[source]
        source: BoxError,
    },
    /// The caller asked to stop.
    #[error("stopped after {done} of {total} frames; the same call resumes there")]
    Cancelled {
        /// Finished frames.
        done: usize,
        /// Frames of the video.
        total: usize,
    },
}

fn after(fallbacks: &[Fallback]) -> String {
    if fallbacks.is_empty() {
        return String::new();
    }
    let tried: Vec<_> = fallbacks.iter().map(Fallback::to_string).collect();
    format!(", and did with {}", tried.join(", "))
}

impl InpaintError {
    pub(super) fn store(path: &Path, source: io::Error) -> Self {
        Self::Store {
            path: path.into(),
            source,
        }
    }
}
