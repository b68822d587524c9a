//! A video file, read through `ffmpeg`.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use burn::data::dataset::DatasetError;

use super::{
    FrameFolder, FrameFolderWriter, FrameFormat, VideoFrame,
    error::VideoError,
    frame_bytes,
    frames::VideoFrames,
    info::{self, Description, VideoInfo},
    program::Ffmpeg,
    scan::{self, VideoScan},
    tracks::{TrackKind, TrackSource},
};
use crate::stream::{Records, StreamingDataset};

/// A video file of any format that the `ffmpeg` program decodes, read from front to back.
///
/// Costs one frame of memory for each reader, whatever the length: `ffmpeg` runs as a
/// process of its own and waits while nobody takes its frames.
///
/// # Exactness
/// Every frame of the file comes once, in the order it is shown, also where the rate is
/// uneven; [`scan`](Self::scan) has the time of each. Reading from frame `n` on decodes those before it and drops them, since seeking by
/// time is exact only for some formats: it gives the same pixels as reading from the start,
/// and takes the time of decoding up to there. Colours are turned to RGB by `ffmpeg`, and frames as
/// the file says that they are shown.
///
/// # Example
/// ```no_run
/// use burn_memopt_datasets::video::{FrameRate, VideoFile, VideoWriter};
///
/// let video = VideoFile::open("clip.mov")?;
/// let (info, rate) = (video.info(), FrameRate::new(24, 1));
/// let mut writer = VideoWriter::create("clip.mp4", info.height, info.width, rate)?;
/// for frame in video.frames(100)? {
///     writer.write(&frame?)?;
/// }
/// writer.finish()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct VideoFile {
    path: PathBuf,
    ffmpeg: Ffmpeg,
    about: Arc<Description>,
    skips_damaged: bool,
    scan: OnceLock<Arc<VideoScan>>,
}

impl VideoFile {
    /// Opens a file with [`Ffmpeg::from_env`]; decodes nothing.
    ///
    /// # Errors
    /// If the file cannot be read or is no video, or if `ffprobe` cannot be started.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, VideoError> {
        Self::open_with(path, Ffmpeg::from_env())
    }

    /// Opens a file with a given program; decodes nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(path: impl AsRef<Path>, ffmpeg: Ffmpeg) -> Result<Self, VideoError> {
        let path = path.as_ref().to_path_buf();
        // Asked first, since the system's answer is clearer than the program's.
        if let Err(source) = File::open(&path) {
            return Err(VideoError::Open { path, source });
        }
        let about = info::describe(&path, &ffmpeg)?;
        Ok(Self {
            path,
            ffmpeg,
            about: about.into(),
            skips_damaged: false,
            scan: OnceLock::new(),
        })
    }

    /// Reads what can be read of a damaged file: all frames that the decoder gives, also those that it
    /// had to patch. Otherwise damage is an error.
    #[must_use]
    pub fn skip_damaged(self) -> Self {
        Self {
            skips_damaged: true,
            scan: OnceLock::new(),
            ..self
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says about itself.
    pub fn info(&self) -> &VideoInfo {
        &self.about.info
    }

    /// Decodes the frames from number `start` on; nothing if the video is shorter.
    ///
    /// # Errors
    /// If `ffmpeg` cannot be started.
    pub fn frames(&self, start: usize) -> Result<VideoFrames, VideoError> {
        let (path, about, ffmpeg) = (&self.path, &self.about, &self.ffmpeg);
        VideoFrames::start(path, about, ffmpeg, self.skips_damaged, start)
    }

    /// Decodes the whole file once and finds when each frame is shown, and what is damaged.
    ///
    /// # Errors
    /// [`VideoError::Damaged`] if something is damaged and not [skipped](Self::skip_damaged); also if
    /// `ffmpeg` cannot be started or decodes nothing.
    pub fn scan(&self) -> Result<&VideoScan, VideoError> {
        if let Some(scan) = self.scan.get() {
            return Ok(scan);
        }
        let scan = scan::scan(&self.path, &self.about, &self.ffmpeg, self.skips_damaged)?;
        if self.skips_damaged || scan.damage.is_none() {
            return Ok(self.scan.get_or_init(|| scan.into()));
        }
        Err(VideoError::Damaged {
            path: self.path.clone(),
            damage: Box::new(scan.damage),
        })
    }

    /// Counts the frames, which decodes them all.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    pub fn count_frames(&self) -> Result<u64, VideoError> {
        Ok(self.scan()?.times.len() as u64)
    }

    /// Counts the frames once, so that [`num_records`](StreamingDataset::num_records) knows
    /// them. Decodes the whole file.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    pub fn counted(self) -> Result<Self, VideoError> {
        self.scan()?;
        Ok(self)
    }

    /// Sound, unless it is not wanted, and subtitles, for a
    /// [`VideoWriterConfig`](super::VideoWriterConfig); `None` if there are none.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    pub fn tracks(&self, with_sound: bool) -> Result<Option<TrackSource>, VideoError> {
        let tracks = self.info().tracks.iter();
        let tracks: Vec<_> = tracks
            .filter(|track| with_sound || track.kind != TrackKind::Sound)
            .cloned()
            .collect();
        if tracks.is_empty() {
            return Ok(None);
        }
        Ok(Some(TrackSource {
            path: self.path.clone(),
            origin: self.scan()?.origin,
            tracks,
        }))
    }

    /// Writes all frames as PNG files into `folder`, for use in another order
    /// than that of the video. Costs disk space, and one frame of memory.
    ///
    /// # Errors
    /// If a frame cannot be decoded or written. Those before it are in the folder.
    pub fn extract(&self, folder: impl AsRef<Path>) -> Result<FrameFolder, VideoError> {
        let writer = FrameFolderWriter::create(&folder, FrameFormat::Png)?;
        for frame in self.frames(0)? {
            writer.write(&frame?)?;
        }
        Ok(FrameFolder::open(folder)?)
    }
}

impl StreamingDataset<VideoFrame> for VideoFile {
    type Record = VideoFrame;

    fn records(&self, start: u64) -> Result<Records<VideoFrame>, DatasetError> {
        // More frames than can be counted are more than any video has.
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        let frames = self.frames(start).map_err(DatasetError::new)?;
        Ok(Box::new(
            frames.map(|frame| frame.map_err(DatasetError::new)),
        ))
    }

    fn load(&self, record: VideoFrame) -> Result<VideoFrame, DatasetError> {
        Ok(record)
    }

    fn item_bytes(&self, _record: &VideoFrame) -> u64 {
        frame_bytes(self.info().height, self.info().width)
    }

    /// Known once the frames were [`counted`](VideoFile::counted): what a file
    /// declares is not always what it shows.
    fn num_records(&self) -> Option<u64> {
        Some(self.scan.get()?.times.len() as u64)
    }
}
