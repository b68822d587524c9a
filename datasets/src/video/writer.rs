//! A video file, written through `ffmpeg`.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{ChildStdin, Stdio},
};

use burn_memopt::files::PartFile;

use super::{
    VideoFrame,
    error::VideoError,
    program::{Ffmpeg, FrameRate, Running, file_argument},
};

/// Writes frames one after the other into an MP4 file (H.264, 4:2:0, BT.709, constant rate
/// factor 18), which every player takes.
///
/// One frame is in memory, besides what `ffmpeg` keeps. The file gets its name when
/// [`finish`](Self::finish) was called: an unfinished video never carries it, and an earlier
/// file stays whole until then.
///
/// # Exactness
/// H.264 loses a little of every picture, and 4:2:0 needs even sides: where height or width
/// is odd, the last row or column is written twice, so the video is one pixel larger. For exact
/// frames use [`FrameFolderWriter`](super::FrameFolderWriter).
///
/// # Example
/// See [`VideoFile`](super::VideoFile).
#[derive(Debug)]
pub struct VideoWriter {
    path: PathBuf,
    file: PartFile,
    height: usize,
    width: usize,
    running: Running,
    input: ChildStdin,
    /// A frame with even sides.
    padded: Vec<u8>,
    num_frames: usize,
}

impl VideoWriter {
    /// Starts a video of frames of one size, with [`Ffmpeg::from_env`].
    ///
    /// # Errors
    /// If no file can be created in the folder of `path`, or `ffmpeg` cannot be started.
    ///
    /// # Panics
    /// If height or width is zero.
    pub fn create(
        path: impl AsRef<Path>,
        height: usize,
        width: usize,
        frame_rate: FrameRate,
    ) -> Result<Self, VideoError> {
        Self::create_with(path, height, width, frame_rate, &Ffmpeg::from_env())
    }

    /// Starts a video of frames of one size, with a given program.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    ///
    /// # Panics
    /// As [`create`](Self::create).
    pub fn create_with(
        path: impl AsRef<Path>,
        height: usize,
        width: usize,
        frame_rate: FrameRate,
        ffmpeg: &Ffmpeg,
    ) -> Result<Self, VideoError> {
        assert!(
            height > 0 && width > 0,
            "video must have pixels, got {height}×{width}"
        );
        let path = path.as_ref().to_path_buf();
        let file = match PartFile::create(&path) {
            Ok(file) => file,
            Err(source) => return Err(VideoError::Create { path, source }),
        };
        let mut command = ffmpeg.ffmpeg();
        let size = format!("{}x{}", even(width), even(height));
        let rate = frame_rate.to_string();
        command.args(["-f", "rawvideo", "-pix_fmt", "rgb24"]);
        command.args(["-video_size", &size, "-framerate", &rate, "-i", "pipe:0"]);
        // Without the matrix in words and in the file, players guess it from the size.
        command.args(["-vf", "scale=out_color_matrix=bt709,format=yuv420p"]);
        command.args(["-colorspace", "bt709", "-color_primaries", "bt709"]);
        command.args(["-color_trc", "bt709", "-c:v", "libx264", "-crf", "18"]);
        command.args(["-movflags", "+faststart", "-f", "mp4", "-y"]);
        command.arg(file_argument(file.path()));
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut running = Running::start(&mut command)?;
        Ok(Self {
            path,
            file,
            height,
            width,
            input: running.take_stdin(),
            running,
            padded: Vec::new(),
            num_frames: 0,
        })
    }

    /// Appends a frame, whatever its number.
    ///
    /// # Errors
    /// If `ffmpeg` has given up.
    ///
    /// # Panics
    /// If the frame has another size than the video.
    pub fn write(&mut self, frame: &VideoFrame) -> Result<(), VideoError> {
        frame.check();
        let (height, width) = (self.height, self.width);
        assert!(
            (frame.height, frame.width) == (height, width),
            "frame must be {height}×{width}, got {}×{}",
            frame.height,
            frame.width
        );
        let written = match (height.is_multiple_of(2), width.is_multiple_of(2)) {
            (true, true) => self.input.write_all(&frame.pixels),
            _ => {
                pad(frame, &mut self.padded);
                self.input.write_all(&self.padded)
            }
        };
        match written {
            Ok(()) => {
                self.num_frames += 1;
                Ok(())
            }
            // The pipe breaks when the program ends, and only its messages say why.
            Err(source) => Err(match self.running.end() {
                Ok(end) if !end.status.success() => VideoError::Encode {
                    path: self.path.clone(),
                    frame: self.num_frames,
                    source: end,
                },
                _ => VideoError::Pipe {
                    path: self.path.clone(),
                    frame: self.num_frames,
                    source,
                },
            }),
        }
    }

    /// Waits until everything is encoded and gives the video its name.
    ///
    /// # Errors
    /// If no frame was written, if `ffmpeg` fails, or if the file cannot be moved into place.
    pub fn finish(self) -> Result<(), VideoError> {
        let Self {
            path,
            file,
            mut running,
            input,
            num_frames,
            ..
        } = self;
        if num_frames == 0 {
            return Err(VideoError::NoFrames { path });
        }
        drop(input);
        let frame = num_frames - 1;
        match running.end() {
            Ok(end) if end.status.success() => {
                let moved = file.finish();
                moved.map_err(|source| VideoError::Create { path, source })
            }
            Ok(source) => Err(VideoError::Encode {
                path,
                frame,
                source,
            }),
            Err(source) => Err(VideoError::Pipe {
                path,
                frame,
                source,
            }),
        }
    }
}

fn even(side: usize) -> usize {
    side.next_multiple_of(2)
}

/// Copies a frame and repeats its last row and column up to even sides.
fn pad(frame: &VideoFrame, padded: &mut Vec<u8>) {
    padded.clear();
    for row in frame.pixels.chunks_exact(frame.width * 3) {
        padded.extend_from_slice(row);
        if !frame.width.is_multiple_of(2) {
            padded.extend_from_slice(&row[row.len() - 3..]);
        }
    }
    if !frame.height.is_multiple_of(2) {
        let last_row = padded.len() - even(frame.width) * 3;
        padded.extend_from_within(last_row..);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_sides_repeat_the_last_row_and_column() {
        let pixel = |value| [value; 3];
        let frame = VideoFrame {
            index: 0,
            height: 1,
            width: 3,
            pixels: [1, 2, 3].map(pixel).concat(),
        };
        let mut padded = vec![9; 5];
        pad(&frame, &mut padded);
        assert_eq!(padded, [1, 2, 3, 3, 1, 2, 3, 3].map(pixel).concat());
    }
}
