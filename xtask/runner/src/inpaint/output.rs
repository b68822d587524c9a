//! Where a completed video goes, and where it is until it is complete.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn_memopt::files;
use burn_memopt_datasets::video::{
    FrameFolder, FrameFolderWriter, FrameFormat, FrameRate, VideoError, VideoWriter,
};

use super::job::Job;
use crate::cli::InpaintArgs;

/// Frames a second where neither a flag nor the video says it.
const FRAME_RATE: u32 = 24;
/// The video in an output that is a folder.
const VIDEO_IN_FOLDER: &str = "inpainted.mp4";

/// The output of one video.
///
/// Until it is complete, everything is in a folder next to it, so that its name is never that of
/// something unfinished.
#[derive(Debug)]
pub struct Output {
    path: PathBuf,
    part: PathBuf,
    saves_frames: bool,
    saves_masked: bool,
    rate: FrameRate,
}

impl Output {
    /// Opens the output of a video whose rate is `rate`; `None` if it is complete already.
    ///
    /// # Errors
    /// If the output is there and the run is not resumed, if an unfinished one is there, or if an MP4
    /// is asked for and `ffmpeg` cannot be started.
    pub fn open(job: &Job, args: &InpaintArgs, rate: Option<FrameRate>) -> Result<Option<Self>> {
        let given = args.save_fps.as_deref().map(str::parse).transpose();
        let given = given.map_err(anyhow::Error::msg)?;
        let output = Self {
            path: job.output.clone(),
            part: Self::part_of(job),
            saves_frames: args.save_frames && is_video(&job.output),
            saves_masked: args.save_masked_input,
            rate: given.or(rate).unwrap_or(FrameRate::new(FRAME_RATE, 1)),
        };
        output
            .clean_up()
            .with_context(|| format!("cannot clean up next to {}", output.path.display()))?;
        let part = output.part.display();
        let mut places = output.places().into_iter();
        match (output.part.exists(), places.find(|place| is_taken(place))) {
            (true, _) if args.resume => {}
            (true, _) => {
                bail!("{part} holds an unfinished run: resume it with --resume, or remove it")
            }
            (false, Some(_)) if args.resume => return Ok(None),
            (false, Some(taken)) => bail!(
                "{} is there already: remove it, or give another --output",
                taken.display()
            ),
            (false, None) => {}
        }
        fs::create_dir_all(output.work()).with_context(|| {
            format!("cannot create {part}; check that its folder exists and may be written")
        })?;
        if is_video(&output.path)
            && let Err(error) = output.try_ffmpeg()
        {
            // Nothing is in there yet, or an earlier run's frames, which are kept.
            let _ = fs::remove_dir(output.work()).and_then(|()| fs::remove_dir(&output.part));
            return Err(error).context(
                "an MP4 needs ffmpeg: install it, or give a folder as --output for PNG frames",
            );
        }
        Ok(Some(output))
    }

    /// Folder of everything that a video is made of until it is complete.
    pub fn part_of(job: &Job) -> PathBuf {
        with_ending(&job.output, ".part")
    }

    /// Folder of everything while it is being removed.
    fn removed(&self) -> PathBuf {
        with_ending(&self.path, ".part.removed")
    }

    /// Removes the temporary files of a killed run.
    fn clean_up(&self) -> Result<()> {
        if self.removed().exists() {
            fs::remove_dir_all(self.removed())?;
        }
        for place in self.places() {
            files::remove_leftovers(place)?;
        }
        for folder in [self.part.clone(), self.work(), self.frames(), self.masked()] {
            files::remove_leftovers_in(folder)?;
        }
        Ok(())
    }

    /// Everything that is made of the frames.
    fn places(&self) -> Vec<PathBuf> {
        let masked = self
            .saves_masked
            .then(|| with_suffix(&self.path, "-masked"));
        let frames = self.saves_frames.then(|| self.frames_next_to_video());
        let others = masked.into_iter().chain(frames);
        std::iter::once(self.path.clone()).chain(others).collect()
    }

    /// Where frames go next to a video.
    fn frames_next_to_video(&self) -> PathBuf {
        with_ending(&self.path.with_extension(""), "-frames")
    }

    /// Starts `ffmpeg` and ends it at once.
    fn try_ffmpeg(&self) -> Result<(), VideoError> {
        VideoWriter::create(self.part.join("trial.mp4"), 16, 16, self.rate).map(drop)
    }

    /// Folder of everything until the output is complete.
    pub fn part(&self) -> &Path {
        &self.part
    }

    /// Folder of what stages have finished.
    pub fn work(&self) -> PathBuf {
        self.part.join("work")
    }

    fn frames(&self) -> PathBuf {
        self.part.join("frames")
    }

    fn masked(&self) -> PathBuf {
        self.part.join("masked")
    }

    /// Takes finished frames.
    ///
    /// # Errors
    /// If their folder cannot be created.
    pub fn frame_writer(&self) -> Result<FrameFolderWriter> {
        Ok(FrameFolderWriter::create(self.frames(), FrameFormat::Png)?)
    }

    /// Takes frames with painted holes, if they are wanted.
    ///
    /// # Errors
    /// If their folder cannot be created.
    pub fn masked_writer(&self) -> Result<Option<FrameFolderWriter>> {
        let folder = self.saves_masked.then(|| self.masked());
        let writer = folder.map(|folder| FrameFolderWriter::create(folder, FrameFormat::Png));
        Ok(writer.transpose()?)
    }

    /// Makes the output of all frames, and removes the folder next to it. Returns what of the output
    /// could not be made without `ffmpeg`, if anything.
    ///
    /// # Errors
    /// If something cannot be read, encoded or moved; the frames stay where they are.
    pub fn finish(&self) -> Result<Option<String>> {
        let mut note = None;
        if self.saves_masked {
            self.place(
                &self.masked(),
                &with_suffix(&self.path, "-masked"),
                &mut note,
            )?;
        }
        self.place(&self.frames(), &self.path, &mut note)?;
        if self.saves_frames && self.frames().exists() {
            move_folder(&self.frames(), &self.frames_next_to_video())?;
        }
        // A killed run must not leave a part of it, which would be resumed.
        fs::rename(&self.part, self.removed())
            .and_then(|()| fs::remove_dir_all(self.removed()))
            .with_context(|| format!("cannot remove {}", self.part.display()))?;
        Ok(note)
    }

    /// Puts a folder of frames where an output is to be: as a video, or with one in it.
    fn place(&self, frames: &Path, path: &Path, note: &mut Option<String>) -> Result<()> {
        // Moved before this run was interrupted; then the folder is not there, or empty.
        if fs::remove_dir(frames).is_ok() || !frames.exists() {
            return Ok(());
        }
        if is_video(path) {
            return self.encode(frames, path);
        }
        match self.encode(frames, &frames.join(VIDEO_IN_FOLDER)) {
            Ok(()) => {}
            Err(error) if matches!(error.downcast_ref(), Some(VideoError::Start { .. })) => {
                *note = Some(format!(
                    "{VIDEO_IN_FOLDER} is left out, since ffmpeg is not installed; the frames are whole"
                ));
            }
            Err(error) => return Err(error),
        }
        move_folder(frames, path)
    }

    fn encode(&self, frames: &Path, path: &Path) -> Result<()> {
        let folder = FrameFolder::open(frames)?;
        let num_frames = burn::data::dataset::Dataset::len(&folder);
        let mut writer = VideoWriter::create(path, folder.height(), folder.width(), self.rate)?;
        for index in 0..num_frames {
            writer.write(&folder.frame(index)?)?;
        }
        Ok(writer.finish()?)
    }
}

/// Whether a path is to be an MP4.
pub fn is_video(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("mp4"))
}

/// Whether something is at a path, other than an empty folder.
fn is_taken(path: &Path) -> bool {
    let is_empty = fs::read_dir(path).is_ok_and(|mut files| files.next().is_none());
    path.exists() && !is_empty
}

/// Moves a folder to a name that is free or that of an empty folder.
fn move_folder(from: &Path, to: &Path) -> Result<()> {
    // Fails where something is in it, and then so does the next step.
    let _ = fs::remove_dir(to);
    files::move_into_place(from, to)
        .with_context(|| format!("cannot move {} to {}", from.display(), to.display()))
}

/// The path with something behind its name.
fn with_ending(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(suffix);
    path.with_file_name(name)
}

/// The path with something behind its name, before an extension that says it is an MP4.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    if is_video(path) {
        with_ending(&path.with_extension(""), &format!("{suffix}.mp4"))
    } else {
        with_ending(path, suffix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_next_to_an_output_is_named_after_it() {
        let names = |path: &str| {
            let path = Path::new(path);
            [with_ending(path, ".part"), with_suffix(path, "-masked")]
                .map(|path| path.display().to_string())
        };
        assert_eq!(names("a/b.mp4"), ["a/b.mp4.part", "a/b-masked.mp4"]);
        assert_eq!(names("a/b.c"), ["a/b.c.part", "a/b.c-masked"]);
    }
}
