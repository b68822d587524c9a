//! A video file, written through `ffmpeg`.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::{ChildStdin, Stdio},
};

use burn_memopt::files::PartFile;

use super::{
    VideoFrame,
    error::VideoError,
    program::{Ffmpeg, Running, file_argument},
    raw_matroska,
    times::FrameRate,
    tracks::Container,
    writer_config::{Timing, VideoWriterConfig},
};

/// Writes frames one after the other into a video file: H.264 in MP4, QuickTime (`.mov`) and Matroska
/// (`.mkv`), VP9 in WebM; 4:2:0, constant rate factor 18.
///
/// One frame is in memory, besides what `ffmpeg` keeps. The file gets its name when
/// [`finish`](Self::finish) was called: an unfinished video never carries it, and an earlier
/// file stays whole until then.
///
/// # Exactness
/// The time of every frame is kept, within the clock of the container: milliseconds in Matroska and
/// WebM, the ticks of [`FrameTimes`](super::FrameTimes) in MP4. The encoder loses a little of every picture, and H.264 in
/// 4:2:0 needs even sides: where height or width is odd, the last row or column is written twice, so
/// the video is one pixel larger. For exact frames use
/// [`FrameFolderWriter`](super::FrameFolderWriter).
///
/// # Example
/// See [`VideoFile`](super::VideoFile).
#[derive(Debug)]
pub struct VideoWriter {
    path: PathBuf,
    file: PartFile,
    height: usize,
    width: usize,
    timing: Timing,
    /// Sides are multiples of it.
    multiple: usize,
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
        let config = VideoWriterConfig::new(frame_rate);
        Self::create_configured(path, height, width, &config, ffmpeg)
    }

    /// Starts a video with everything that a [`VideoWriterConfig`] says. A name with another extension
    /// than those above is that of an MP4.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    ///
    /// # Panics
    /// As [`create`](Self::create).
    pub fn create_configured(
        path: impl AsRef<Path>,
        height: usize,
        width: usize,
        config: &VideoWriterConfig,
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
        let container = Container::from_path(&path).unwrap_or(Container::Mp4);
        let multiple = if container == Container::Webm { 1 } else { 2 };
        let has_milliseconds = matches!(container, Container::Matroska | Container::Webm);
        let timing = match &config.timing {
            Timing::Times(times) if has_milliseconds => Timing::Times(times.in_milliseconds()),
            timing => timing.clone(),
        };
        let ticks = match has_milliseconds {
            true => 1000,
            false => timing.ticks_per_second(),
        };
        let mut command = ffmpeg.ffmpeg();
        // Otherwise the first frame would be moved to 0, and the sound not with it.
        command.args(["-copyts", "-f", "matroska", "-i", "pipe:0"]);
        if let Some(tracks) = &config.tracks {
            command.args(tracks.input());
        }
        command.args(["-map", "0:v:0", "-vf", &config.filters()]);
        command.args(ffmpeg.passing_times(timing.last_nanos() as f64 / 1e9)?);
        command.args(["-enc_time_base", &format!("1/{ticks}")]);
        command.args(encoder(container));
        if container != Container::Webm && config.field_order.is_some() {
            command.args(["-flags", "+ildct+ilme"]);
        }
        command.args(config.color.options().flatten());
        if let Some(tracks) = &config.tracks {
            command.args(tracks.output(container));
        }
        if matches!(container, Container::Mp4 | Container::Mov) {
            command.args(["-movflags", "+faststart"]);
            command.args(["-video_track_timescale", &ticks.to_string()]);
        }
        command.args(["-f", container.format(), "-y"]);
        command.arg(file_argument(file.path()));
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut running = Running::start(&mut command)?;
        Ok(Self {
            path,
            file,
            height,
            width,
            multiple,
            input: running.take_stdin(),
            running,
            padded: Vec::new(),
            num_frames: 0,
            timing,
        })
    }

    /// Appends a frame, whatever its number; it is shown at the next time.
    ///
    /// # Errors
    /// If `ffmpeg` has given up.
    ///
    /// # Panics
    /// If the frame has another size than the video, or the video has fewer
    /// [times](VideoWriterConfig::with_times).
    pub fn write(&mut self, frame: &VideoFrame) -> Result<(), VideoError> {
        frame.check();
        let (height, width) = (self.height, self.width);
        assert!(
            (frame.height, frame.width) == (height, width),
            "frame must be {height}×{width}, got {}×{}",
            frame.height,
            frame.width
        );
        let sides = [height, width];
        let pixels = match sides.iter().all(|side| side.is_multiple_of(self.multiple)) {
            true => &frame.pixels,
            false => {
                pad(frame, &mut self.padded);
                &self.padded
            }
        };
        let (timing, input) = (&self.timing, &mut self.input);
        let is_first = self.num_frames == 0;
        let nanos = timing.start_nanos(self.num_frames);
        let mut write = || {
            if is_first {
                let [rows, columns] = sides.map(|side| side.next_multiple_of(self.multiple));
                raw_matroska::write_header(input, rows, columns, timing.last_nanos())?;
            }
            raw_matroska::write_frame_header(input, nanos, pixels.len())?;
            input.write_all(pixels)
        };
        let written = write();
        self.check_written(written)?;
        self.num_frames += 1;
        Ok(())
    }

    /// Tells why the pipe is broken, if it is.
    fn check_written(&mut self, written: io::Result<()>) -> Result<(), VideoError> {
        let Err(source) = written else {
            return Ok(());
        };
        // The pipe breaks when the program ends, and only its messages say why.
        let (path, frame) = (self.path.clone(), self.num_frames);
        Err(match self.running.end() {
            Ok(end) if !end.status.success() => VideoError::Encode {
                path,
                frame,
                source: end,
            },
            _ => VideoError::Pipe {
                path,
                frame,
                source,
            },
        })
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

/// The options of the encoder for a container.
fn encoder(container: Container) -> &'static [&'static str] {
    match container {
        Container::Webm => &[
            "-c:v",
            "libvpx-vp9",
            "-crf",
            "18",
            "-b:v",
            "0",
            "-row-mt",
            "1",
            "-cpu-used",
            "4",
        ],
        // Without B-frames the times of MP4 are those that were given, in every player.
        _ => &["-c:v", "libx264", "-crf", "18", "-bf", "0"],
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
