//! Clips of videos, in two parts.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use burn::data::dataset::Dataset;
use burn::tensor::Device;
use burn_memopt_datasets::lazy::{LazyDatasetExt, Slice};
use burn_memopt_datasets::loader::{Loader, LoaderConfig, SeededBatcher};
use burn_memopt_datasets::shuffle::mix;
use burn_memopt_datasets::synthetic::clip::{MovingClipConfig, generate_clips, write_clips};
use burn_memopt_datasets::video::{Clip, ClipConfig, ClipFolder, FrameFormat};

use super::NUM_JUDGED;
use super::batch::{ClipBatch, Collate};
use crate::run_dir::write_folder;
use crate::settings::{ClipSettings, RunSettings};
use crate::train::holdout::num_training;

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
    /// Opens a folder of videos for clips with `num_reference` frames from elsewhere.
    ///
    /// # Errors
    /// If it cannot be read, a video is too short, or there are too few.
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
        let num_videos = clips.num_videos();
        let kept = num_training(num_videos, run.holdout, &root.display().to_string())?;
        let is_held_out = kept < num_videos;
        let cut = match is_held_out {
            true => clips.clips_of(kept).start,
            false => clips.len(),
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
    ///
    /// # Errors
    /// If they cannot be written or read.
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
        if !folder.join("JPEGImages").is_dir() {
            write_folder(folder, |folder| {
                write_clips(folder, &config, num_videos, FrameFormat::Png)?;
                Ok(())
            })?;
        }
        let known = Some(Arc::new(generate_clips(&config, num_videos)));
        Ok(Self {
            collate: Collate { known },
            ..Self::open(folder, settings, num_reference, run)?
        })
    }

    /// Batches of the training part, each clip with another random hole in every epoch.
    ///
    /// # Errors
    /// If there is no batch.
    pub fn loader(&self, batch_size: usize, device: &Device) -> Result<Loader<Clip, ClipBatch>> {
        let config = LoaderConfig::new(batch_size).with_shuffle(self.seed);
        Ok(Loader::seeded(
            self.training.clone(),
            self.collate.clone(),
            config,
            device,
        )?)
    }

    /// Clips that were held out, each with the name of its video and always with the same hole: none
    /// where nothing was.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn judged(
        &self,
        device: &Device,
    ) -> impl Iterator<Item = Result<(String, ClipBatch)>> + use<'_> {
        let device = device.clone();
        let clips = self.held_out.iter().flat_map(|held_out| {
            let step = held_out.len().div_ceil(NUM_JUDGED);
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
