//! The frames of a video file, from `ffmpeg`.

use std::{
    io::{self, Read},
    path::{Path, PathBuf},
    process::{ChildStdout, Stdio},
};

use super::{
    VideoFrame,
    damage::tells_of_damage,
    error::VideoError,
    info::{Description, VideoInfo},
    program::{Ffmpeg, ProgramFailure, Running, file_argument},
};

/// The frames of a video file, from one on to the last.
///
/// One frame is in memory, the one that comes next; `ffmpeg` waits while nobody takes it.
/// The program is ended when this is dropped. After an error nothing comes.
#[derive(Debug)]
pub struct VideoFrames {
    path: PathBuf,
    /// Names of the container.
    format: String,
    skips_damaged: bool,
    height: usize,
    width: usize,
    /// What comes before the pixels of every frame.
    header: Vec<u8>,
    running: Running,
    output: ChildStdout,
    next: usize,
    has_ended: bool,
}

impl VideoFrames {
    pub(super) fn start(
        path: &Path,
        about: &Description,
        ffmpeg: &Ffmpeg,
        skips_damaged: bool,
        first: usize,
    ) -> Result<Self, VideoError> {
        let mut command = ffmpeg.ffmpeg();
        command.args(match skips_damaged {
            // Several threads patch damage differently in every run.
            true => ["-threads", "1"].as_slice(),
            // Otherwise damage would be patched over and the exit status be zero.
            false => &["-xerror"],
        });
        command.args(["-protocol_whitelist", "file", "-i"]);
        command.arg(file_argument(path));
        // Frames are counted as they are decoded, since seeking by time is exact only for some
        // formats. Numbers for times keep each frame once, where an uneven
        // rate would have some dropped or repeated; so does every version's `-r`.
        let filters = format!("select='gte(n,{first})',settb=1/25,setpts=N");
        command.args(["-map", "0:V:0", "-vf", &filters, "-r", "25"]);
        command.args(["-c:v", "ppm", "-pix_fmt", "rgb24", "-f", "image2pipe"]);
        command.arg("pipe:1");
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut running = Running::start(&mut command)?;
        let VideoInfo { height, width, .. } = about.info;
        Ok(Self {
            path: path.into(),
            format: about.format.clone(),
            skips_damaged,
            height,
            width,
            header: format!("P6\n{width} {height}\n255\n").into_bytes(),
            output: running.take_stdout(),
            running,
            next: first,
            has_ended: false,
        })
    }

    fn read(&mut self) -> Result<Option<VideoFrame>, VideoError> {
        let mut header = vec![0; self.header.len()];
        let len = self.fill(&mut header)?;
        if len == 0 {
            return self.end();
        }
        if len < header.len() {
            return self.break_off();
        }
        if header != self.header {
            return Err(VideoError::SizeDiffers {
                path: self.path.clone(),
                frame: self.next,
                height: self.height,
                width: self.width,
            });
        }
        // That much was decoded, or the header would not have come.
        let mut pixels = vec![0; self.height * self.width * 3];
        if self.fill(&mut pixels)? < pixels.len() {
            return self.break_off();
        }
        let index = self.next;
        self.next += 1;
        Ok(Some(VideoFrame {
            index,
            height: self.height,
            width: self.width,
            pixels,
        }))
    }

    /// Reads until `buffer` is full or nothing comes any more.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, VideoError> {
        let mut len = 0;
        while len < buffer.len() {
            match self.output.read(&mut buffer[len..]) {
                Ok(0) => break,
                Ok(read) => len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(error)),
            }
        }
        Ok(len)
    }

    fn end(&mut self) -> Result<Option<VideoFrame>, VideoError> {
        let end = self.wait()?;
        if self.skips_damaged {
            // A process that was killed has no status of its own.
            return match end.status.code() {
                Some(_) => Ok(None),
                None => Err(self.broken(end)),
            };
        }
        // A file that is cut off, or of which a part is lost, ends with status zero and a message alone.
        let is_whole = !tells_of_damage(&end.messages, &self.format);
        match end.status.success() && is_whole {
            true => Ok(None),
            false => Err(self.broken(end)),
        }
    }

    /// Ends in the middle of a frame.
    fn break_off(&mut self) -> Result<Option<VideoFrame>, VideoError> {
        let end = self.wait()?;
        Err(self.broken(end))
    }

    fn wait(&mut self) -> Result<ProgramFailure, VideoError> {
        self.running.end().map_err(|error| self.lost(error))
    }

    fn broken(&self, source: ProgramFailure) -> VideoError {
        VideoError::Decode {
            path: self.path.clone(),
            frame: self.next,
            source,
        }
    }

    fn lost(&self, source: io::Error) -> VideoError {
        VideoError::Pipe {
            path: self.path.clone(),
            frame: self.next,
            source,
        }
    }
}

impl Iterator for VideoFrames {
    type Item = Result<VideoFrame, VideoError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let frame = self.read().transpose();
        self.has_ended = !matches!(frame, Some(Ok(_)));
        frame
    }
}

impl std::iter::FusedIterator for VideoFrames {}
