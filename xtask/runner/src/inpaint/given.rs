//! A video and its masks before anything is computed.

use anyhow::{Context, Result, bail};
use burn_memopt::budget::Choice;
use burn_memopt_datasets::masks::MaskSource;
use burn_memopt_datasets::video::VideoSource;
use burn_memopt_models::propainter::inpaint::{InpaintConfig, Setting, WORKING_MEMORY, Workload};

use super::geometry::Geometry;
use super::job::Job;
use super::output::Output;
use super::settings::{self, InpaintSettings};
use super::{Run, footage};

/// A video as it is given, checked.
pub(super) struct Given {
    pub(super) video: VideoSource,
    pub(super) masks: Option<MaskSource>,
    pub(super) settings: InpaintSettings,
    /// What a budget has chosen of the settings.
    pub(super) choice: Option<Choice<Workload, Setting>>,
}

impl Run<'_> {
    /// Checks a video and its masks, and settles how it is completed.
    ///
    /// # Errors
    /// If one cannot be read, or they do not fit; or if no settings keep the budget.
    pub(super) fn given(&self, job: &Job, video: VideoSource) -> Result<Given> {
        let args = self.args;
        if let VideoSource::Folder(folder) = &video {
            folder.verify()?;
        }
        let num_frames = video.count_frames()?;
        if num_frames == 0 {
            bail!("{} holds no frame", job.video.display());
        }
        let size = [video.height(), video.width()];
        let geometry = Geometry::new(args, size)?;
        let mask = job.find_masks()?;
        let masks = match &mask {
            None => None,
            Some(path) => {
                let masks = MaskSource::open(path)?;
                masks.check(num_frames, size[0], size[1])?;
                footage::check_not_empty(&masks, num_frames as usize)
                    .with_context(|| path.display().to_string())?;
                Some(masks)
            }
        };
        let default = InpaintConfig::default();
        let settings = InpaintSettings {
            video: job.video.clone(),
            mask,
            mode: args.mode,
            num_frames: num_frames as usize,
            geometry,
            mask_dilation: args.mask_dilation.unwrap_or(4) as usize,
            weights: args.weights.clone(),
            precision: self.precision,
            working_memory: WORKING_MEMORY[0],
            config: settings::config(args, &default),
        };
        let (settings, choice) = self.within_budget(job, settings)?;
        Ok(Given {
            video,
            masks,
            settings,
            choice,
        })
    }

    /// The settings with what flags do not say chosen by the budget; a run that goes on keeps what
    /// was chosen when it began.
    fn within_budget(
        &self,
        job: &Job,
        settings: InpaintSettings,
    ) -> Result<(InpaintSettings, Option<Choice<Workload, Setting>>)> {
        let args = self.args;
        let kept = match args.resume {
            true => InpaintSettings::kept(&Output::part_of(job))?,
            false => None,
        };
        let Some(budget) = self.budget else {
            return Ok((settings, None));
        };
        let ladder = settings.geometry.ladder(args);
        if let Some(kept) = kept {
            let known = ladder.contains(&kept.geometry);
            let settings = InpaintSettings {
                geometry: if known {
                    kept.geometry
                } else {
                    settings.geometry
                },
                working_memory: kept.working_memory,
                config: settings::config(args, &kept.config),
                ..settings
            };
            return Ok((settings, None));
        }
        let precision = Some(self.precision);
        let choice = budget.choose(args, &ladder, settings.num_frames, precision)?;
        let worked = choice.settings.size;
        let chosen = ladder.into_iter().find(|size| size.worked == worked);
        let settings = InpaintSettings {
            geometry: chosen.unwrap_or(settings.geometry),
            working_memory: choice.settings.working,
            config: choice.settings.config.clone(),
            ..settings
        };
        Ok((settings, Some(choice)))
    }
}
