//! Where a completed video goes, and where it is until it is complete.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn_memopt::files;
use burn_memopt_datasets::video::{
    Container, Ffmpeg, FrameFolder, FrameFolderWriter, FrameFormat, FrameRate, VideoError,
    VideoSource, VideoWriter, VideoWriterConfig,
};

use super::geometry::Geometry;
use super::job::Job;
use super::result::ResultConfig;
use crate::cli::InpaintArgs;

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
    config: VideoWriterConfig,
    /// What of the video the output does not keep, or keeps in another way.
    pub notes: Vec<String>,
}

impl Output {
    /// Opens the output of a video; `None` if it is complete already.
    ///
    /// # Errors
    /// If the output is there and the run is not resumed, if an unfinished one is there, or if a video
    /// file is asked for and `ffmpeg` cannot be started.
    pub fn open(
        job: &Job,
        args: &InpaintArgs,
        video: &VideoSource,
        geometry: &Geometry,
    ) -> Result<Option<Self>> {
        let container = Container::from_path(&job.output);
        let in_file = container.unwrap_or(Container::Mp4);
        let ResultConfig { writer, mut notes } = ResultConfig::new(args, video, geometry, in_file)?;
        if container.is_none() && !notes.is_empty() {
            let note =
                format!("the PNG frames hold pictures alone; the rest is for {VIDEO_IN_FOLDER}");
            notes.insert(0, note);
        }
        let output = Self {
            path: job.output.clone(),
            part: Self::part_of(job),
            saves_frames: args.save_frames && container.is_some(),
            saves_masked: args.save_masked_input,
            config: writer,
            notes,
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
                "a video file needs ffmpeg: install it, or give a folder as --output for PNG frames",
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
        let trial = self.part.join("trial.mp4");
        VideoWriter::create(trial, 16, 16, FrameRate::new(1, 1)).map(drop)
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

    /// Makes the output of all frames, and removes the folder next to it. Returns notes about what of
    /// the output could not be made.
    ///
    /// # Errors
    /// If something cannot be read, encoded or moved; the frames stay where they are.
    pub fn finish(&self) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        if self.saves_masked {
            let masked = with_suffix(&self.path, "-masked");
            self.place(&self.masked(), &masked, &mut notes)?;
        }
        self.place(&self.frames(), &self.path, &mut notes)?;
        if self.saves_frames && self.frames().exists() {
            move_folder(&self.frames(), &self.frames_next_to_video())?;
        }
        // A killed run must not leave a part of it, which would be resumed.
        fs::rename(&self.part, self.removed())
            .and_then(|()| fs::remove_dir_all(self.removed()))
            .with_context(|| format!("cannot remove {}", self.part.display()))?;
        notes.dedup();
        Ok(notes)
    }

    /// Puts a folder of frames where an output is to be: as a video, or with one in it.
    fn place(&self, frames: &Path, path: &Path, notes: &mut Vec<String>) -> Result<()> {
        // Moved before this run was interrupted; then the folder is not there, or empty.
        if fs::remove_dir(frames).is_ok() || !frames.exists() {
            return Ok(());
        }
        if is_video(path) {
            return self.encode(frames, path, notes);
        }
        match self.encode(frames, &frames.join(VIDEO_IN_FOLDER), notes) {
            Ok(()) => {}
            Err(error) if matches!(error.downcast_ref(), Some(VideoError::Start { .. })) => {
                notes.push(format!(
                    "{VIDEO_IN_FOLDER} is left out, since ffmpeg is not installed; the frames are whole"
                ));
            }
            Err(error) => return Err(error),
        }
        move_folder(frames, path)
    }

    /// Encodes the frames of a folder; without sound and subtitles where `ffmpeg` fails with them, so
    /// that the work on the frames is not lost.
    fn encode(&self, frames: &Path, path: &Path, notes: &mut Vec<String>) -> Result<()> {
        let folder = FrameFolder::open(frames)?;
        let silent = self.config.clone().with_tracks(None);
        match encode(&folder, path, &self.config) {
            Err(VideoError::Encode { source, .. }) if self.config != silent => {
                notes.push(format!(
                    "sound and subtitles: left out, since ffmpeg cannot write them into {} ({})",
                    path.display(),
                    source.messages
                ));
                Ok(encode(&folder, path, &silent)?)
            }
            result => Ok(result?),
        }
    }
}

fn encode(folder: &FrameFolder, path: &Path, config: &VideoWriterConfig) -> Result<(), VideoError> {
    let (height, width, ffmpeg) = (folder.height(), folder.width(), Ffmpeg::from_env());
    let mut writer = VideoWriter::create_configured(path, height, width, config, &ffmpeg)?;
    for index in 0..burn::data::dataset::Dataset::len(folder) {
        writer.write(&folder.frame(index)?)?;
    }
    writer.finish()
}

/// Whether a path is to be a video file.
pub fn is_video(path: &Path) -> bool {
    Container::from_path(path).is_some()
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

/// The path with something behind its name, before the extension of a video file.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    match path.extension().filter(|_| is_video(path)) {
        Some(extension) => {
            let suffix = format!("{suffix}.{}", extension.display());
            with_ending(&path.with_extension(""), &suffix)
        }
        None => with_ending(path, suffix),
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
        assert_eq!(names("a/b.MKV"), ["a/b.MKV.part", "a/b-masked.MKV"]);
        assert_eq!(names("a/b.c"), ["a/b.c.part", "a/b.c-masked"]);
    }
}
