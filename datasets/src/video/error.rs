//! What can be wrong with frames in folders, and with video files.

use std::{io, path::PathBuf};

use image::ImageError;

use super::{damage::Damage, program::ProgramFailure};
use crate::image_file::ImageFileError;

/// Why frames in a folder could not be read or written.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum FrameError {
    /// A folder cannot be listed, or a file cannot be read.
    #[error(transparent)]
    File(#[from] ImageFileError),
    /// Frames of one video have different sizes.
    #[error("{path} is {height}×{width} pixels (height × width), but {first}, the first frame, is {first_height}×{first_width}: scale one to the other", path = .path.display(), first = .first.display())]
    SizeDiffers {
        /// The file that differs.
        path: PathBuf,
        /// Its height.
        height: usize,
        /// Its width.
        width: usize,
        /// The first frame.
        first: PathBuf,
        /// Height of the first frame.
        first_height: usize,
        /// Width of the first frame.
        first_width: usize,
    },
    /// A folder of videos holds none.
    #[error("{path} holds no folder of frames: give a folder with one folder of PNG or JPEG files for each video", path = .path.display())]
    NoVideos {
        /// The folder.
        path: PathBuf,
    },
    /// A video is shorter than the clips that are to be cut from it.
    #[error("{path} holds {num_frames} frames, but a clip needs {needed}: ask for shorter clips, or remove the folder", path = .path.display())]
    TooShort {
        /// The folder of the video.
        path: PathBuf,
        /// Frames that it holds.
        num_frames: usize,
        /// Frames of a clip.
        needed: usize,
    },
    /// A folder cannot be created.
    #[error("cannot create the folder {path}: check that it may be written", path = .path.display())]
    CreateFolder {
        /// The folder.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write the image {path}: check that the disk has room and the folder may be written", path = .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: ImageError,
    },
}

/// Why a video file could not be read or written.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum VideoError {
    /// The file is missing, may not be read, or is no file.
    #[error("cannot open the video {path}: check that it is a file that may be read", path = .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        source: io::Error,
    },
    /// `ffmpeg` or `ffprobe` cannot be started.
    #[error("cannot start {program}, which video files need: install ffmpeg (Debian, Ubuntu: apt install ffmpeg; macOS: brew install ffmpeg; Windows: winget install ffmpeg), or name it in the variable BURN_MEMOPT_FFMPEG, or work with a folder of PNG or JPEG frames", program = .program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why the system refused.
        #[source]
        source: io::Error,
    },
    /// `ffprobe` does not take the file for a video.
    #[error("{path} is no video that ffmpeg knows, or is damaged", path = .path.display())]
    Probe {
        /// The file.
        path: PathBuf,
        /// What the program said.
        #[source]
        source: ProgramFailure,
    },
    /// An MP4 or QuickTime file without the table of its frames.
    #[error("{path} is cut off: the table of its frames, which comes last in the file, is missing, so that no program can read it: copy or record it again", path = .path.display())]
    NoTable {
        /// The file.
        path: PathBuf,
    },
    /// `ffprobe` returns something unknown.
    #[error("ffprobe does not describe {path} in a known way: install a newer ffmpeg", path = .path.display())]
    Answer {
        /// The file.
        path: PathBuf,
        /// What is missing.
        #[source]
        source: serde_json::Error,
    },
    /// The file holds no pictures.
    #[error("{path} holds no video, only sound or other data", path = .path.display())]
    NoVideo {
        /// The file.
        path: PathBuf,
    },
    /// A frame cannot be decoded, or the file ends too early.
    #[error("{path} cannot be decoded from frame {frame} on: replace the file with a whole one, or cut it before that frame", path = .path.display())]
    Decode {
        /// The file.
        path: PathBuf,
        /// The first frame that did not come, from 0. Damage shows up to a second later than it is.
        frame: usize,
        /// What the program said.
        #[source]
        source: ProgramFailure,
    },
    /// The file is cut off, or frames are damaged or missing.
    #[error("{path} {damage}: replace the file with a whole one", path = .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is damaged.
        damage: Box<Damage>,
    },
    /// The frames have another size than the file says.
    #[error("frame {frame} of {path} has another size than {height}×{width} pixels (height × width), which the file claims: encode it again with one size", path = .path.display())]
    SizeDiffers {
        /// The file.
        path: PathBuf,
        /// The frame, from 0.
        frame: usize,
        /// Height that the file claims.
        height: usize,
        /// Width that the file claims.
        width: usize,
    },
    /// Frames cannot be handed over to or from `ffmpeg`.
    #[error("frame {frame} of {path} was lost on its way from or to ffmpeg", path = .path.display())]
    Pipe {
        /// The file.
        path: PathBuf,
        /// The frame, from 0.
        frame: usize,
        /// Why the system refused.
        #[source]
        source: io::Error,
    },
    /// `ffmpeg` cannot encode.
    #[error("ffmpeg stopped encoding {path} at frame {frame}: check that the disk has room and that this ffmpeg has libx264 (for WebM, libvpx-vp9)", path = .path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// The frame that was written last, from 0.
        frame: usize,
        /// What the program said.
        #[source]
        source: ProgramFailure,
    },
    /// A video without frames was to be written.
    #[error("{path} was to be written without a frame: write one at the least", path = .path.display())]
    NoFrames {
        /// The file.
        path: PathBuf,
    },
    /// A file cannot be created or moved to its name.
    #[error("cannot create the video {path}: check that its folder exists and may be written", path = .path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        source: io::Error,
    },
    /// Frames of a video cannot be read from, or written to, a folder.
    #[error(transparent)]
    Frames(#[from] FrameError),
}
