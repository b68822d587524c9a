use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::Device;

use super::completion::Completion;
use super::frames::Frames;
use super::generation::Generation;
use super::motion::Motion;
use super::propagation::Propagation;
use super::watch::{InpaintProgress, StageTime, Watch};
use super::{Footage, FrameSink, InpaintConfig, InpaintError, Networks};

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
}

impl<'a> Inpainter<'a> {
    /// Completes with these networks, which are on `device`.
    pub fn new(networks: &'a dyn Networks, config: InpaintConfig, device: &Device) -> Self {
        Self {
            networks,
            config,
            device: device.clone(),
            keeps_stages: false,
        }
    }

    /// Keeps what every stage has finished in the work folder, for whoever wants to look at it. The
    /// disk space it takes grows with the video.
    ///
    /// The folders are `pixels` and `masks` (bytes, `[height, width, 3]` and `[height, width]`),
    /// `flow-forward`, `flow-backward`, `completed-forward`, `completed-backward`, `propagated` and
    /// `left` (f32 of this machine, `[channels, height, width]`); a file is a frame, named by its
    /// number.
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
    /// If a frame cannot be read or written, a network fails, or `progress` asks to stop.
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
        let frames = Frames::open(footage, work, &self.device)?;
        let motion = Motion::open(frames, work, &self.config)?;
        let completion = Completion::open(motion, work, &self.config)?;
        let propagation = Propagation::open(completion, work, &self.config)?;
        let mut generation = Generation::open(propagation, work, &self.config, total)?;
        let mut watch = Watch::new(total, generation.finished(), progress);
        while generation.advance(self.networks, sink, &mut watch)? {
            if !self.keeps_stages {
                generation.release()?;
            }
        }
        Ok(watch.stages())
    }
}
