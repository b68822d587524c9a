//! Clips of videos in two parts, and batches of them with random holes.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use burn::data::dataset::Dataset;
use burn::tensor::{Device, Tensor, TensorData};
use burn_memopt_datasets::lazy::{LazyDatasetExt, Slice};
use burn_memopt_datasets::loader::{Loader, SeededBatcher};
use burn_memopt_datasets::masks::{RandomMask, RandomMaskConfig};
use burn_memopt_datasets::shuffle::mix;
use burn_memopt_datasets::synthetic::clip::{
    MovingClip, MovingClipConfig, generate_clips, write_clips,
};
use burn_memopt_datasets::video::{Clip, ClipConfig, ClipFolder, FrameFormat, VideoFrame};
use burn_memopt_models::propainter::Flows;

use crate::report::note_unread;
use crate::settings::{ClipSettings, RunSettings};
use crate::train::job::{Load, parts};
use crate::train::{generate_once, num_training};

/// Clips that are evaluated at most.
const NUM_EVALUATED: usize = 8;

/// Frames of a generated video, at least.
const GENERATED_FRAMES: usize = 20;
/// Clips that begin in a generated video, at least.
const GENERATED_CLIPS: usize = 4;

/// The clips of the first videos, and of those that are held out.
pub struct Clips {
    training: Slice<ClipFolder>,
    held_out: Option<Slice<ClipFolder>>,
    collate: Collate,
    seed: u64,
}

impl Clips {
    /// What is learned from, and what is held out.
    pub fn parts(&self) -> Vec<&dyn Dataset<Clip>> {
        parts(&self.training, &self.held_out)
    }

    /// Opens a folder of videos for clips with `num_reference` frames from elsewhere.
    pub fn open(
        root: &Path,
        settings: &ClipSettings,
        num_reference: usize,
        run: &RunSettings,
    ) -> Result<Self> {
        let config = ClipConfig::new(settings.height, settings.width)
            .with_num_local(settings.num_local)
            .with_num_reference(num_reference)
            .with_seed(run.seed);
        let clips = ClipFolder::open(root, config)?;
        clips.verify()?;
        clips.folders().try_for_each(note_unread)?;
        let num_videos = clips.num_videos();
        let kept = num_training(num_videos, run.holdout, &root.display().to_string())?;
        let is_held_out = kept < num_videos;
        let cut = if is_held_out {
            clips.clips_of(kept).start
        } else {
            clips.len()
        };
        let end = clips.len();
        Ok(Self {
            training: clips.clone().slice(0..cut),
            held_out: is_held_out.then(|| clips.slice(cut..end)),
            collate: Collate { known: None },
            seed: run.seed,
        })
    }

    /// Opens the generated videos in `folder`, and generates them if they are not there yet. Their flow
    /// is known.
    pub fn generate(
        folder: &Path,
        settings: &ClipSettings,
        num_reference: usize,
        run: &RunSettings,
    ) -> Result<Self> {
        let needed = settings.num_local + num_reference + GENERATED_CLIPS - 1;
        let config = MovingClipConfig::new()
            .with_num_frames(needed.max(GENERATED_FRAMES))
            .with_height(settings.height)
            .with_width(settings.width)
            .with_seed(run.seed);
        let num_videos = settings.num_videos;
        generate_once(folder, &folder.join("JPEGImages"), |folder| {
            write_clips(folder, &config, num_videos, FrameFormat::Png)?;
            Ok(())
        })?;
        let known = Some(Arc::new(generate_clips(&config, num_videos)));
        Ok(Self {
            collate: Collate { known },
            ..Self::open(folder, settings, num_reference, run)?
        })
    }

    /// Batches of the training part, each clip with another random hole in every epoch.
    pub fn loader(&self, load: &Load, device: &Device) -> Result<Loader<Clip, ClipBatch>> {
        let config = load.config(self.seed);
        Ok(Loader::seeded(
            self.training.clone(),
            self.collate.clone(),
            config,
            device,
        )?)
    }

    /// Clips that were held out, each with the name of its video and always with the same hole: none
    /// where nothing was.
    pub fn evaluated(
        &self,
        device: &Device,
    ) -> impl Iterator<Item = Result<(String, ClipBatch)>> + use<'_> {
        let device = device.clone();
        let clips = self.held_out.iter().flat_map(|held_out| {
            let step = held_out.len().div_ceil(NUM_EVALUATED);
            (0..held_out.len())
                .step_by(step)
                .map(move |index| (held_out, index))
        });
        clips.map(move |(held_out, index)| {
            let clip = held_out.get(index)?;
            let name = format!("{}-{}", clip.video, clip.local[0].index);
            let seed = mix(self.seed, index as u64);
            Ok((name, self.collate.batch(vec![clip], &[seed], &device)))
        })
    }
}

/// Clips and their holes, without autodiff.
#[derive(Clone, Debug)]
pub struct ClipBatch {
    /// Neighbouring frames, then those from elsewhere, in [-1, 1]:
    /// `[batch_size, frames, 3, height, width]`.
    pub frames: Tensor<5>,
    /// 1 in the hole: `[batch_size, frames, 1, height, width]`.
    pub masks: Tensor<5>,
    /// The flows between neighbouring frames, where they are known.
    pub flows: Option<Flows>,
    /// Neighbouring frames of a clip.
    pub num_local: usize,
}

impl ClipBatch {
    /// Clips.
    pub fn num_items(&self) -> usize {
        self.frames.dims()[0]
    }

    /// The neighbouring frames.
    pub fn local(&self, frames: &Tensor<5>) -> Tensor<5> {
        frames.clone().narrow(1, 0, self.num_local)
    }
}

/// Draws a hole for each clip by its seed: one shape, which moves or does not.
#[derive(Clone)]
struct Collate {
    /// The videos whose flow is known, if they are generated.
    known: Option<Arc<Vec<MovingClip>>>,
}

impl Collate {
    /// The flows between the local frames of `clips`, if they are known.
    fn flows(&self, clips: &[Clip], device: &Device) -> Option<Flows> {
        let known = self.known.as_ref()?;
        let first = &clips[0].local[0];
        let pairs = clips[0].local.len() - 1;
        let shape = [clips.len(), pairs, 2, first.height, first.width];
        let flows = |steps: [usize; 2]| {
            let of_clip = |clip: &Clip| {
                let video = &known[number(&clip.video)];
                let begin = clip.local[0].index;
                let pair = |pair: usize| {
                    let [from, to] = steps.map(|step| begin + pair + step);
                    video.flow(from, to)
                };
                (0..pairs).flat_map(pair).collect::<Vec<f32>>()
            };
            let values: Vec<f32> = clips.iter().flat_map(of_clip).collect();
            Tensor::from_data(TensorData::new(values, shape), device)
        };
        Some(Flows {
            forward: flows([0, 1]),
            backward: flows([1, 0]),
        })
    }
}

/// The number in the name of a generated video.
fn number(video: &str) -> usize {
    let number = video.rsplit('-').next().and_then(|text| text.parse().ok());
    number.expect("invariant: generated videos are numbered")
}

impl SeededBatcher<Clip, ClipBatch> for Collate {
    fn batch(&self, clips: Vec<Clip>, seeds: &[u64], device: &Device) -> ClipBatch {
        let device = device.clone().without_autodiff();
        let first = &clips[0];
        let (num_local, num_frames) =
            (first.local.len(), first.local.len() + first.reference.len());
        let [height, width] = [first.local[0].height, first.local[0].width];
        let (mut colors, mut holes) = (Vec::new(), Vec::new());
        for (clip, &seed) in clips.iter().zip(seeds) {
            let mask = RandomMask::new(&RandomMaskConfig::new(), height, width, seed);
            for frame in clip.local.iter().chain(&clip.reference) {
                colors.extend(planes(frame));
                let hole = mask.hole_mask(frame.index);
                holes.extend(hole.values().iter().map(|&hole| f32::from(hole)));
            }
        }
        let tensor = |values: Vec<f32>, channels: usize| {
            let shape = [clips.len(), num_frames, channels, height, width];
            Tensor::from_data(TensorData::new(values, shape), &device)
        };
        ClipBatch {
            frames: tensor(colors, 3),
            masks: tensor(holes, 1),
            flows: self.flows(&clips, &device),
            num_local,
        }
    }
}

/// `[height, width, 3]` from 0 to 255 -> `[3, height, width]` from -1 to 1.
fn planes(frame: &VideoFrame) -> impl Iterator<Item = f32> + '_ {
    let channel = |at: usize| frame.pixels.iter().skip(at).step_by(3);
    let colors = (0..3).flat_map(channel);
    colors.map(|&color| f32::from(color) / 127.5 - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN_FLOW: Collate = Collate { known: None };

    fn clip() -> Clip {
        let frame = |index: usize| VideoFrame {
            index,
            height: 16,
            width: 24,
            pixels: [0, 51, 255].repeat(16 * 24),
        };
        Clip {
            video: "a".into(),
            local: vec![frame(3), frame(4)],
            reference: vec![frame(0)],
        }
    }

    #[test]
    fn colors_are_planes_from_minus_one_to_one() {
        let batch = UNKNOWN_FLOW.batch(vec![clip()], &[1], &Device::flex().autodiff());
        assert_eq!(batch.frames.dims(), [1, 3, 3, 16, 24]);
        assert_eq!((batch.num_local, batch.num_items()), (2, 1));
        for (channel, color) in [-1.0, -0.6, 1.0].into_iter().enumerate() {
            let plane = batch.frames.clone().narrow(2, channel, 1);
            let off = plane.sub_scalar(color).abs().max().into_scalar::<f32>();
            assert!(off < 1e-6, "{off}");
        }
    }

    #[test]
    fn a_hole_follows_from_the_seed_and_is_of_one_size_in_all_frames() {
        let holes = |seed: u64| {
            let batch = UNKNOWN_FLOW.batch(vec![clip()], &[seed], &Device::flex());
            batch.masks.into_data()
        };
        assert_eq!(holes(1), holes(1));
        assert_ne!(holes(1), holes(2));
        let values: Vec<f32> = holes(1).iter().collect();
        let sizes: Vec<f32> = values
            .chunks(16 * 24)
            .map(|hole| hole.iter().sum())
            .collect();
        assert!(sizes[0] > 0.0 && sizes.iter().all(|size| *size == sizes[0]));
    }
}
