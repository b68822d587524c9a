//! Clips out of many videos, for training.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use burn::{
    config::Config,
    data::dataset::{Dataset, DatasetError},
};
use rand::{SeedableRng, rngs::StdRng, seq::index};

use super::{Resampling, VideoFrame, error::FrameError, frame_bytes};
use crate::{
    check_index,
    folder::natural_cmp,
    image_file::{self, ImageFileError},
    lazy::LazyDataset,
    shuffle::mix,
};

/// What a clip consists of.
#[derive(Config, Debug)]
pub struct ClipConfig {
    /// Height in pixels that frames are scaled to.
    pub height: usize,
    /// Width in pixels that frames are scaled to.
    pub width: usize,
    /// Consecutive frames. The default is `10`.
    #[config(default = 10)]
    pub num_local: usize,
    /// Other frames of the same video, drawn at random. The default is `6`.
    #[config(default = 6)]
    pub num_reference: usize,
    /// Frames from the begin of a clip to that of the next. The default is `1`: every
    /// frame begins a clip, but the last ones.
    #[config(default = 1)]
    pub stride: usize,
    /// Seed of the reference frames. The default is `0`.
    #[config(default = 0)]
    pub seed: u64,
}

/// Frames of one video, all of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clip {
    /// The name of the video's folder.
    pub video: String,
    /// Consecutive frames.
    pub local: Vec<VideoFrame>,
    /// Other frames of the video, in order.
    pub reference: Vec<VideoFrame>,
}

#[derive(Debug, Clone)]
struct Video {
    name: String,
    frames: Vec<PathBuf>,
    /// The number of its first clip among all.
    first_clip: usize,
}

/// Clips out of a folder of frame folders, decoded when asked for.
///
/// The folder is `<root>/<video>/*.jpg`, or `<root>/JPEGImages/<video>/*.jpg` as in a part of
/// YouTube-VOS; in DAVIS, which has several sizes, the root is `JPEGImages/480p`. Videos and
/// frames are in natural order, and item `i` is always the same clip. Only file names are in
/// memory.
///
/// # Example
/// ```
/// use burn::data::dataset::Dataset;
/// use burn_memopt_datasets::{
///     synthetic::clip::{MovingClipConfig, write_clips},
///     video::{ClipConfig, ClipFolder, FrameFormat},
/// };
///
/// let root = tempfile::tempdir()?;
/// let videos = MovingClipConfig::new().with_num_frames(6);
/// write_clips(root.path(), &videos, 2, FrameFormat::Png)?;
///
/// let config = ClipConfig::new(32, 32).with_num_local(3).with_num_reference(2);
/// let clips = ClipFolder::open(root.path(), config)?;
/// assert_eq!(clips.len(), 8);
/// assert_eq!(clips.clips_of(1), 4..8);
/// assert_eq!(clips.clip(7)?.local[0].index, 3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ClipFolder {
    config: ClipConfig,
    videos: Vec<Video>,
    num_clips: usize,
}

impl ClipFolder {
    /// Lists all videos; decodes nothing.
    ///
    /// # Errors
    /// If a folder cannot be listed or holds no image, if there is no video, or if one has fewer
    /// frames than a clip.
    ///
    /// # Panics
    /// If a side, `num_local` or `stride` is zero.
    pub fn open(root: impl AsRef<Path>, config: ClipConfig) -> Result<Self, FrameError> {
        let least_one = [
            ("height", config.height),
            ("width", config.width),
            ("num_local", config.num_local),
            ("stride", config.stride),
        ];
        for (name, value) in least_one {
            assert!(value > 0, "{name} must be at least 1, got 0");
        }
        let needed = config.num_local.saturating_add(config.num_reference);
        let (mut videos, mut first_clip) = (Vec::new(), 0);
        for path in list_videos(root.as_ref())? {
            let frames = image_file::list(&path)?;
            let num_frames = frames.len();
            if num_frames < needed {
                return Err(FrameError::TooShort {
                    path,
                    num_frames,
                    needed,
                });
            }
            videos.push(Video {
                name: name(&path),
                frames,
                first_clip,
            });
            first_clip += num_clips(num_frames, config.num_local, config.stride);
        }
        Ok(Self {
            config,
            videos,
            num_clips: first_clip,
        })
    }

    /// Reads the headers of all frames and checks that none is cut off, so that a long run does not
    /// fail in the middle.
    ///
    /// # Errors
    /// If a header cannot be read, or a file is cut off.
    pub fn verify(&self) -> Result<(), FrameError> {
        let mut frames = self.videos.iter().flat_map(|video| &video.frames);
        frames.try_for_each(|frame| Ok(image_file::check(frame).map(drop)?))
    }

    /// The folders of the videos.
    pub fn folders(&self) -> impl Iterator<Item = &Path> {
        self.videos
            .iter()
            .filter_map(|video| video.frames.first()?.parent())
    }

    /// Number of videos.
    pub fn num_videos(&self) -> usize {
        self.videos.len()
    }

    /// The clips of video `index`.
    ///
    /// # Panics
    /// If there is no such video.
    pub fn clips_of(&self, index: usize) -> Range<usize> {
        check_index("video", index, self.videos.len());
        let next = self.videos.get(index + 1);
        let end = next.map_or(self.num_clips, |video| video.first_clip);
        self.videos[index].first_clip..end
    }

    /// Which video clip `index` is of, and which frames it has.
    ///
    /// # Panics
    /// If there is no clip `index`.
    pub fn clip_frames(&self, index: usize) -> (&str, ClipFrames) {
        let (video, frames) = self.pick(index);
        (&video.name, frames)
    }

    fn pick(&self, index: usize) -> (&Video, ClipFrames) {
        let config = &self.config;
        check_index("clip", index, self.num_clips);
        let after = self.videos.partition_point(|v| v.first_clip <= index);
        let video = &self.videos[after - 1];
        let frames = ClipFrames::pick(
            video.frames.len(),
            (index - video.first_clip) * config.stride,
            config.num_local,
            config.num_reference,
            mix(config.seed, index as u64),
        );
        (video, frames)
    }

    /// Decodes clip `index` and scales it, bilinear.
    ///
    /// # Errors
    /// If a frame cannot be read.
    ///
    /// # Panics
    /// If there is no clip `index`.
    pub fn clip(&self, index: usize) -> Result<Clip, FrameError> {
        let (video, ClipFrames { local, reference }) = self.pick(index);
        let load = |frame: usize| self.load(frame, &video.frames[frame]);
        Ok(Clip {
            video: video.name.clone(),
            local: local.map(load).collect::<Result<_, _>>()?,
            reference: reference.into_iter().map(load).collect::<Result<_, _>>()?,
        })
    }

    fn load(&self, index: usize, path: &Path) -> Result<VideoFrame, FrameError> {
        let (image, _) = image_file::decode(path)?;
        let frame = VideoFrame::from_image(index, image);
        let (height, width) = (self.config.height, self.config.width);
        match (frame.height, frame.width) == (height, width) {
            true => Ok(frame),
            false => Ok(frame.resized(height, width, Resampling::Bilinear)),
        }
    }
}

impl Dataset<Clip> for ClipFolder {
    fn get(&self, index: usize) -> Result<Clip, DatasetError> {
        self.clip(index).map_err(DatasetError::new)
    }

    fn len(&self) -> usize {
        self.num_clips
    }
}

impl LazyDataset<Clip> for ClipFolder {
    fn item_bytes(&self, index: usize) -> u64 {
        check_index("clip", index, self.num_clips);
        let num_frames = self.config.num_local + self.config.num_reference;
        frame_bytes(self.config.height, self.config.width).saturating_mul(num_frames as u64)
    }
}

/// The folders of videos in `root` or its `JPEGImages`, at least one, in natural order.
fn list_videos(root: &Path) -> Result<Vec<PathBuf>, FrameError> {
    let inside = root.join("JPEGImages");
    let root = if inside.is_dir() { &inside } else { root };
    let failed = |source| ImageFileError::Folder {
        path: root.into(),
        source,
    };
    let mut videos = Vec::new();
    for entry in fs::read_dir(root).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() && !name(&path).starts_with('.') {
            videos.push(path);
        }
    }
    if videos.is_empty() {
        return Err(FrameError::NoVideos { path: root.into() });
    }
    videos.sort_by(|left, right| natural_cmp(&name(left), &name(right)));
    Ok(videos)
}

fn name(folder: &Path) -> String {
    let name = folder.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// The frames of a clip: neighbours, and others of the same video for reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClipFrames {
    /// Consecutive frames.
    pub local: Range<usize>,
    /// Frames outside of these, rising, drawn at random and each at most once.
    pub reference: Vec<usize>,
}

impl ClipFrames {
    /// The clip of `num_local` frames that begins at `start`, and `num_reference` of the
    /// other frames. The same seed gives the same.
    ///
    /// # Panics
    /// If the video of `num_frames` has not enough frames.
    pub fn pick(
        num_frames: usize,
        start: usize,
        num_local: usize,
        num_reference: usize,
        seed: u64,
    ) -> Self {
        let local = start..start.saturating_add(num_local);
        let end = local.end;
        assert!(
            end <= num_frames,
            "clip must end within {num_frames} frames, got {local:?}"
        );
        let num_others = num_frames - num_local;
        assert!(
            num_reference <= num_others,
            "reference frames must be at most {num_others}, got {num_reference}"
        );
        let mut rng = StdRng::seed_from_u64(seed);
        let others = index::sample(&mut rng, num_others, num_reference).into_iter();
        let mut reference: Vec<_> = others
            .map(|other| {
                if other < start {
                    other
                } else {
                    other + num_local
                }
            })
            .collect();
        reference.sort_unstable();
        Self { local, reference }
    }
}

/// How many clips of `num_local` frames begin in a video, one every `stride` frames.
fn num_clips(num_frames: usize, num_local: usize, stride: usize) -> usize {
    match num_frames.checked_sub(num_local) {
        Some(last) => last / stride + 1,
        None => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_clip_has_no_frame_twice_and_all_within_the_video(
            start in 0usize..20, num_local in 1usize..12, num_reference in 0usize..12,
            more in 0usize..40, seed in any::<u64>(),
        ) {
            let num_frames = start + num_local + num_reference + more;
            let clip = ClipFrames::pick(num_frames, start, num_local, num_reference, seed);
            prop_assert_eq!(clip.local.clone(), start..start + num_local);
            prop_assert_eq!(clip.reference.len(), num_reference);
            prop_assert!(clip.reference.is_sorted_by(|a, b| a < b));
            for frame in &clip.reference {
                prop_assert!(*frame < num_frames && !clip.local.contains(frame));
            }
            let again = ClipFrames::pick(num_frames, start, num_local, num_reference, seed);
            prop_assert_eq!(clip, again);
        }

        #[test]
        fn the_last_clip_fits_and_one_more_would_not(
            num_frames in 0usize..50, num_local in 1usize..12, stride in 1usize..9,
        ) {
            let num_clips = num_clips(num_frames, num_local, stride);
            let end = |clip: usize| clip * stride + num_local;
            prop_assert!(num_clips == 0 || end(num_clips - 1) <= num_frames);
            prop_assert!(end(num_clips) > num_frames);
        }
    }

    #[test]
    fn another_seed_draws_other_reference_frames() {
        let pick = |seed| ClipFrames::pick(100, 40, 10, 6, seed).reference;
        assert_ne!(pick(1), pick(2));
    }
}
