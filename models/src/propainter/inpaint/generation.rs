use std::collections::VecDeque;
use std::ops::Range;

use burn::tensor::Tensor;
use burn_memopt::clip::FrameWindow;
use burn_memopt::memory::Bytes;

use super::frames::host_values;
use super::pipeline::Pipeline;
use super::progress::{Stage, Watch};
use super::{FrameSink, InpaintError};

/// Colours of a propagated frame, and the hole that is left of it.
const IMAGE: Range<usize> = 0..3;
const LEFT: Range<usize> = 3..4;

/// The last stage: pixels that no frame shows, neighbourhood by neighbourhood.
impl Pipeline<'_> {
    /// Completes the next neighbourhood and hands on the frames that are finished with it; `false`
    /// if there is none.
    pub(super) fn advance(
        &mut self,
        sink: &mut dyn FrameSink,
        watch: &mut Watch,
    ) -> Result<bool, InpaintError> {
        let Some(window) = self.windows.get(self.state.next).cloned() else {
            return Ok(false);
        };
        let last = window.references.last().map_or(0, |last| last + 1);
        self.ensure_propagation(window.local.end.max(last), watch)?;
        watch.enter(Stage::Generation, window.center)?;
        self.complete(&window, watch)?;
        self.state.next += 1;
        for (index, pixels) in self.state.take_before(self.done()) {
            let failed = |source| InpaintError::Write { index, source };
            sink.write(index, &pixels).map_err(failed)?;
        }
        self.state.save()?;
        watch.done = self.done();
        watch.leave(watch.done);
        Ok(true)
    }

    /// Completes the frames of one neighbourhood.
    fn complete(&mut self, window: &FrameWindow, watch: &mut Watch) -> Result<(), InpaintError> {
        let masks = window.local.clone().map(|index| self.frames.mask(index));
        let masks = masks.collect::<Result<Vec<_>, _>>()?;
        // Without a hole, frames stay what they are.
        let has_hole = masks.iter().flatten().any(|&hole| hole != 0);
        let predicted = if has_hole {
            self.generate(window, watch)?
        } else {
            Vec::new()
        };
        let mut predicted = predicted.chunks(3 * self.frames.area());
        for (index, mask) in window.local.clone().zip(&masks) {
            let pixels = self.frames.pixels(index)?;
            let predicted = predicted.next().unwrap_or_default();
            let composed = compose(predicted, &pixels, mask, self.state.get(index));
            self.state.put(index, composed);
        }
        Ok(())
    }

    /// What the generator makes of the neighbourhood: `[frames, 3, height, width]`.
    fn generate(
        &mut self,
        window: &FrameWindow,
        watch: &mut Watch,
    ) -> Result<Vec<f32>, InpaintError> {
        let local = window.local.clone();
        let indices = local.clone().chain(window.references.iter().copied());
        let features = indices.map(|index| self.encode(index, watch));
        let features = features.collect::<Result<Vec<_>, _>>()?;
        let frames = &self.frames;
        let pairs = local.start..local.end - 1;
        let flows = frames.flows(&self.completion.store, pairs)?;
        let holes = frames.holes(local.clone())?;
        let left = frames.stored(&self.propagation.store, local.clone(), LEFT)?;
        // Devices compute when they are asked for what they have computed.
        watch.network(|| {
            let generated = self.networks.generate(features, flows, holes, left);
            host_values(generated, Stage::Generation, local.start)
        })
    }

    /// The features of a frame, from the cache or computed.
    fn encode(&mut self, index: usize, watch: &mut Watch) -> Result<Tensor<4>, InpaintError> {
        if let Some(features) = self.features.get(index) {
            return Ok(features);
        }
        let (frames, propagated) = (&self.frames, &self.propagation.store);
        let one = index..index + 1;
        let image = frames.stored(propagated, one.clone(), IMAGE)?;
        let left = frames.stored(propagated, one.clone(), LEFT)?;
        let hole = frames.holes(one)?;
        let features = watch.network(|| self.networks.encode(image, hole, left));
        self.features.put(index, features.clone());
        Ok(features)
    }
}

/// First frame that a neighbourhood reads.
pub(super) fn first_read(window: &FrameWindow) -> usize {
    let reference = window.references.first().copied();
    reference
        .unwrap_or(window.local.start)
        .min(window.local.start)
}

/// Puts a completed frame's hole into the frame, and averages with what an earlier neighbourhood
/// made of it.
///
/// Values of the generator are from -1 to 1. As in ProPainter, every value is cut off to eight bits,
/// not rounded.
///
/// # Shapes
/// - predicted: `[3, height, width]`
/// - frame, earlier: `[height, width, 3]`
/// - mask: `[height, width]`
fn compose(predicted: &[f32], frame: &[u8], mask: &[u8], earlier: Option<&[u8]>) -> Vec<u8> {
    let area = mask.len();
    let mut composed = frame.to_vec();
    for (place, _) in mask.iter().enumerate().filter(|(_, hole)| **hole != 0) {
        for channel in 0..3 {
            let value = (predicted[channel * area + place] + 1.0) / 2.0 * 255.0;
            composed[3 * place + channel] = value as u8;
        }
    }
    if let Some(earlier) = earlier {
        for (value, earlier) in composed.iter_mut().zip(earlier) {
            *value = (f32::from(*earlier) * 0.5 + f32::from(*value) * 0.5) as u8;
        }
    }
    composed
}

/// Encoded frames that the next neighbourhoods will want again, bounded in bytes.
#[derive(Debug)]
pub(super) struct FeatureCache {
    limit: Bytes,
    bytes: Bytes,
    /// Frames in the order of their last use.
    frames: VecDeque<(usize, Tensor<4>)>,
}

impl FeatureCache {
    /// Keeps up to `limit` bytes.
    pub(super) fn new(limit: Bytes) -> Self {
        Self {
            limit,
            bytes: Bytes::new(0),
            frames: VecDeque::new(),
        }
    }

    /// The features of frame `index`, if they are kept.
    fn get(&mut self, index: usize) -> Option<Tensor<4>> {
        let place = self.frames.iter().position(|(frame, _)| *frame == index)?;
        let frame = self.frames.remove(place)?;
        let features = frame.1.clone();
        self.frames.push_back(frame);
        Some(features)
    }

    /// Keeps the features of frame `index`; those used longest ago make room.
    fn put(&mut self, index: usize, features: Tensor<4>) {
        self.bytes += bytes_of(&features);
        self.frames.push_back((index, features));
        while self.bytes > self.limit {
            let Some((_, features)) = self.frames.pop_front() else {
                break;
            };
            self.bytes -= bytes_of(&features);
        }
    }

    /// Forgets the frames before `index`.
    pub(super) fn release_before(&mut self, index: usize) {
        self.frames.retain(|(frame, _)| *frame >= index);
        self.bytes = self
            .frames
            .iter()
            .map(|(_, features)| bytes_of(features))
            .sum();
    }
}

fn bytes_of(features: &Tensor<4>) -> Bytes {
    let values: usize = features.dims().iter().product();
    Bytes::new((values * features.dtype().size()) as u64)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let frame = || Tensor::<4>::zeros([1, 1, 2, 2], &Device::flex());
        let mut features = FeatureCache::new(Bytes::new(32));
        features.put(0, frame());
        features.put(1, frame());
        assert!(features.get(0).is_some());
        features.put(2, frame());
        assert!(features.get(0).is_some() && features.get(1).is_none());
        features.release_before(2);
        assert!(features.get(0).is_none() && features.get(2).is_some());
    }

    #[test]
    fn pixels_outside_the_hole_are_untouched_and_those_inside_are_cut_off_and_averaged() {
        let predicted = [0.999, 1.0, -1.0, 0.0, -0.5, 0.5];
        let frame = [1, 2, 3, 7, 8, 9];
        let once = compose(&predicted, &frame, &[1, 0], None);
        assert_eq!(once, [254, 0, 63, 7, 8, 9]);
        let twice = compose(&predicted, &frame, &[1, 0], Some(&[255, 1, 63, 7, 8, 9]));
        assert_eq!(twice, [254, 0, 63, 7, 8, 9]);
    }
}
