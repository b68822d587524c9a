use burn::tensor::Tensor;
use burn_memopt::clip::FrameWindow;

use super::compose::compose;
use super::features::Features;
use super::finished::Finished;
use super::frames::{Frames, host_values};
use super::propagation::Propagation;
use super::schedule::Schedule;
use super::watch::{Stage, Watch};
use super::{FrameSink, InpaintConfig, InpaintError, Networks};

/// The last stage: pixels that no frame shows, neighbourhood by neighbourhood.
pub(super) struct Generation<'a> {
    pub(super) propagation: Propagation<'a>,
    finished: Finished,
    features: Features,
    windows: Vec<FrameWindow>,
    /// Frames of the video, of which a neighbourhood may have one more.
    total: usize,
}

impl<'a> Generation<'a> {
    /// Opens the stage for a video of `total` frames, of which `finished` are done.
    pub(super) fn open(propagation: Propagation<'a>, finished: Finished, total: usize) -> Self {
        let frames = &propagation.completion.motion.frames;
        let schedule = finished.schedule();
        Self {
            features: Features::new(schedule.config.feature_cache),
            windows: schedule.windows(frames.num_frames),
            finished,
            propagation,
            total,
        }
    }

    /// What is worked with.
    pub(super) fn config(&self) -> &InpaintConfig {
        &self.finished.schedule().config
    }

    /// Works with `config` from now on, behind what every stage has finished.
    pub(super) fn follow(&mut self, config: InpaintConfig) -> Result<(), InpaintError> {
        let completion = &self.propagation.completion;
        let next = self.windows.get(self.finished.next);
        let schedule = Schedule {
            flow: completion.motion.finished(),
            completion: completion.finished(),
            propagation: self.propagation.finished(),
            generation: next.map_or(self.total, |next| next.local.start),
            references: self.propagation.first(),
            config,
        };
        self.features = Features::new(schedule.config.feature_cache);
        self.windows = schedule.windows(self.frames().num_frames);
        self.propagation.completion.motion.follow(&schedule);
        self.propagation.completion.follow(&schedule);
        self.propagation.follow(&schedule);
        self.finished.follow(schedule)
    }

    /// Frames that each stage has finished.
    pub(super) fn finished(&self) -> [usize; 4] {
        let completion = &self.propagation.completion;
        [
            completion.motion.finished(),
            completion.finished(),
            self.propagation.finished(),
            self.done(),
        ]
    }

    /// Frames that no neighbourhood changes any more.
    fn done(&self) -> usize {
        let next = self.windows.get(self.finished.next);
        next.map_or(self.total, |next| next.local.start.min(self.total))
    }

    /// Completes the next neighbourhood and hands on the frames that are finished with it; `false`
    /// if there is none.
    pub(super) fn advance(
        &mut self,
        networks: &dyn Networks,
        sink: &mut dyn FrameSink,
        watch: &mut Watch,
    ) -> Result<bool, InpaintError> {
        let Some(window) = self.windows.get(self.finished.next).cloned() else {
            return Ok(false);
        };
        let FrameWindow {
            local, references, ..
        } = &window;
        let end = references
            .last()
            .map_or(local.end, |last| local.end.max(last + 1));
        self.propagation.ensure(end, networks, watch)?;
        watch.enter(Stage::Generation, window.center)?;
        self.complete(&window, networks, watch)?;
        self.finished.next += 1;
        for (index, pixels) in self.finished.take_before(self.done()) {
            let failed = |source| InpaintError::Write { index, source };
            sink.write(index, &pixels).map_err(failed)?;
        }
        self.finished.save()?;
        watch.done = self.done();
        watch.leave(watch.done);
        Ok(true)
    }

    /// Completes the frames of one neighbourhood.
    fn complete(
        &mut self,
        window: &FrameWindow,
        networks: &dyn Networks,
        watch: &mut Watch,
    ) -> Result<(), InpaintError> {
        let local = window.local.clone();
        let masks = local.clone().map(|index| self.frames().mask(index));
        let masks = masks.collect::<Result<Vec<_>, _>>()?;
        // Without a hole, frames stay what they are.
        let predicted = match masks.iter().flatten().any(|&hole| hole != 0) {
            true => self.generate(window, networks, watch)?,
            false => Vec::new(),
        };
        let mut predicted = predicted.chunks(3 * self.frames().size.iter().product::<usize>());
        for (index, mask) in local.zip(&masks) {
            let pixels = self.frames().pixels(index)?;
            let earlier = self.finished.get(index);
            let predicted = predicted.next().unwrap_or_default();
            let composed = compose(predicted, &pixels, mask, earlier);
            self.finished.put(index, composed);
        }
        Ok(())
    }

    /// What the generator makes of the neighbourhood: `[frames, 3, height, width]`.
    fn generate(
        &mut self,
        window: &FrameWindow,
        networks: &dyn Networks,
        watch: &mut Watch,
    ) -> Result<Vec<f32>, InpaintError> {
        let local = window.local.clone();
        let indices = local.clone().chain(window.references.iter().copied());
        let features = indices.map(|index| self.encode(index, networks, watch));
        let features = features.collect::<Result<Vec<_>, _>>()?;
        let frames = self.frames();
        let completed = &self.propagation.completion.flows;
        let flows = frames.flows(completed, local.start..local.end - 1)?;
        let holes = frames.holes(local.clone())?;
        let left = self.propagation.left(local.clone())?;
        // Devices compute when they are asked for what they have computed.
        watch.network(|| {
            let generated = networks.generate(features, flows, holes, left);
            host_values(generated, Stage::Generation, local.start)
        })
    }

    /// The features of a frame, kept or anew.
    fn encode(
        &mut self,
        index: usize,
        networks: &dyn Networks,
        watch: &mut Watch,
    ) -> Result<Tensor<4>, InpaintError> {
        if let Some(features) = self.features.get(index) {
            return Ok(features);
        }
        let one = index..index + 1;
        let image = self.propagation.images(one.clone())?;
        let left = self.propagation.left(one.clone())?;
        let hole = self.frames().holes(one)?;
        let features = watch.network(|| networks.encode(image, hole, left));
        self.features.put(index, features.clone());
        Ok(features)
    }

    /// Forgets what no later neighbourhood needs.
    pub(super) fn release(&mut self) -> Result<(), InpaintError> {
        let next = &self.windows[self.finished.next..];
        let first = next.iter().map(first_read).min().unwrap_or(usize::MAX);
        let local = next.first().map_or(usize::MAX, |window| window.local.start);
        self.features.release_before(first);
        self.propagation.release_before(first, local)
    }

    fn frames(&self) -> &Frames<'a> {
        &self.propagation.completion.motion.frames
    }
}

/// First frame that a neighbourhood reads.
fn first_read(window: &FrameWindow) -> usize {
    let reference = window.references.first().copied();
    reference
        .unwrap_or(window.local.start)
        .min(window.local.start)
}
