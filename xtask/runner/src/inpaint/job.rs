//! Which videos are completed, with which masks, and where to.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::cli::InpaintArgs;
use crate::settings::UsageError;

/// Extensions of videos that are not written: these formats do not hold the time of every frame, or
/// not every sound.
const OTHER_VIDEOS: [&str; 9] = [
    "3gp", "avi", "flv", "gif", "m2ts", "mpeg", "mpg", "ts", "wmv",
];

/// One video to complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// What it is called in messages.
    pub name: String,
    /// The video.
    pub video: PathBuf,
    /// Its masks, or the folder of the masks of all videos.
    pub masks: Masks,
    /// Where it goes.
    pub output: PathBuf,
}

/// Where the masks of a video are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Masks {
    /// There are none: frames are extended.
    None,
    /// There.
    At(PathBuf),
    /// In this folder, under the name of the video.
    In(PathBuf),
}

impl Job {
    /// The videos that flags name.
    ///
    /// # Errors
    /// [`UsageError`] if the output cannot be one; another error if a folder of videos cannot be
    /// listed or holds none, or two of its videos have one name.
    pub fn list(args: &InpaintArgs) -> Result<Vec<Self>> {
        if let Some(video) = &args.video {
            let extension = args
                .output
                .extension()
                .unwrap_or_default()
                .to_string_lossy();
            if OTHER_VIDEOS.contains(&extension.to_lowercase().as_str()) {
                return Err(UsageError(format!(
                    "--output must end in .mp4, .mov, .mkv or .webm, or be a folder, got {}",
                    args.output.display()
                ))
                .into());
            }
            return Ok(vec![Self {
                name: name(video),
                video: video.clone(),
                masks: args.mask.clone().map_or(Masks::None, Masks::At),
                output: args.output.clone(),
            }]);
        }
        let folder = args.video_dir.as_deref().unwrap_or(Path::new("."));
        let mut jobs: Vec<Self> = Vec::new();
        for video in entries(folder)? {
            let name = name(&video);
            if let Some(other) = jobs.iter().find(|job| job.name == name) {
                let (one, other) = (other.video.display(), video.display());
                bail!("{one} and {other} would be written under one name: rename one");
            }
            jobs.push(Self {
                output: args.output.join(format!("{name}.mp4")),
                masks: args.mask_dir.clone().map_or(Masks::None, Masks::In),
                name,
                video,
            });
        }
        ensure!(!jobs.is_empty(), "{} holds no video", folder.display());
        Ok(jobs)
    }

    /// The masks of this video.
    ///
    /// # Errors
    /// If there are none of its name, or several.
    pub fn find_masks(&self) -> Result<Option<PathBuf>> {
        let folder = match &self.masks {
            Masks::None => return Ok(None),
            Masks::At(path) => return Ok(Some(path.clone())),
            Masks::In(folder) => folder,
        };
        let found = entries(folder)?;
        let mut found = found.into_iter().filter(|path| name(path) == self.name);
        match (found.next(), found.next()) {
            (Some(only), None) => Ok(Some(only)),
            (None, _) => bail!(
                "{} holds no masks for {}: add a file or folder of that name",
                folder.display(),
                self.name
            ),
            (Some(one), Some(other)) => bail!(
                "{} and {} are both masks for {}: remove one",
                one.display(),
                other.display(),
                self.name
            ),
        }
    }
}

/// What is in a folder and not hidden, by name.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("cannot list the folder {}", folder.display());
    let mut entries = Vec::new();
    for entry in fs::read_dir(folder).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            entries.push(entry.path());
        }
    }
    entries.sort();
    Ok(entries)
}

/// A file's name without extension, or a folder's.
fn name(path: &Path) -> String {
    let name = if path.is_dir() {
        path.file_name()
    } else {
        path.file_stem()
    };
    name.unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command, Program};

    fn jobs(flags: &str) -> Result<Vec<Job>> {
        let line = format!("xtask inpaint --weights w {flags}");
        match Cli::parse_from(line.split_whitespace()).command {
            Command::Program(Program::Inpaint(args)) => Job::list(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_video_of_a_folder_finds_its_masks_by_name() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for folder in ["videos/b", "masks/b", "masks/c"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        for file in [
            "videos/a.mp4",
            "videos/.hidden",
            "masks/a.png",
            "masks/c.png",
            "videos/c.mov",
        ] {
            fs::write(path(file), "").unwrap();
        }
        let shown = |name: &str| path(name).display().to_string();
        let flags = format!(
            "--video-dir {} --mask-dir {} --output out",
            shown("videos"),
            shown("masks")
        );
        let jobs = jobs(&flags).unwrap();
        let names: Vec<_> = jobs.iter().map(|job| job.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(jobs[0].find_masks().unwrap(), Some(path("masks/a.png")));
        assert_eq!(jobs[1].find_masks().unwrap(), Some(path("masks/b")));
        let error = jobs[2].find_masks().unwrap_err().to_string();
        assert!(error.contains("both masks for c"), "{error}");
        assert_eq!(jobs[1].output, Path::new("out/b.mp4"));
    }

    #[test]
    fn an_output_that_is_not_written_is_refused() {
        let error = jobs("--video a.mp4 --mask b --output c.avi").unwrap_err();
        assert!(
            error.is::<UsageError>() && error.to_string().contains("c.avi"),
            "{error}"
        );
    }
}
