//! The programs `ffmpeg` and `ffprobe`: started, ended, and asked about a file.

use std::{
    env,
    ffi::OsString,
    fmt::{self, Debug},
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    str::FromStr,
    thread::{self, JoinHandle},
};

use serde::Deserialize;

use super::error::VideoError;

/// Bytes of a program's messages that are kept, the last ones.
const MESSAGES_LEN: usize = 2048;

/// Which `ffmpeg` and `ffprobe` are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ffmpeg {
    ffmpeg: PathBuf,
    ffprobe: PathBuf,
}

impl Ffmpeg {
    /// The one that the variable `BURN_MEMOPT_FFMPEG` names, or else `ffmpeg` as the
    /// system finds it.
    pub fn from_env() -> Self {
        Self::named(env::var_os("BURN_MEMOPT_FFMPEG"))
    }

    fn named(name: Option<OsString>) -> Self {
        let name = name.filter(|name| !name.is_empty());
        Self::new(name.unwrap_or_else(|| "ffmpeg".into()))
    }

    /// The program `ffmpeg`, a name or a path, and `ffprobe` next to it.
    pub fn new(ffmpeg: impl Into<PathBuf>) -> Self {
        let ffmpeg = ffmpeg.into();
        let ffprobe = ffmpeg.with_file_name("ffprobe");
        Self { ffmpeg, ffprobe }
    }

    pub(super) fn ffmpeg(&self) -> Command {
        let mut command = Command::new(&self.ffmpeg);
        command.args(["-nostdin", "-hide_banner", "-loglevel", "error"]);
        command
    }

    pub(super) fn ffprobe(&self) -> Command {
        let mut command = Command::new(&self.ffprobe);
        command.args(["-hide_banner", "-loglevel", "error"]);
        command
    }
}

/// A path as an argument that is a file and nothing else: neither an option, whatever it
/// begins with, nor one of the addresses, lists and patterns that `ffmpeg` would follow.
pub(super) fn file_argument(path: &Path) -> OsString {
    let mut argument = OsString::from("file:");
    argument.push(path);
    argument
}

/// How a program ended that did not do what it was asked for.
#[derive(thiserror::Error, Debug, Clone, PartialEq, Eq)]
#[error("{program} ended with {status}: {messages}", program = .program.display())]
pub struct ProgramFailure {
    /// The program.
    pub program: PathBuf,
    /// How it ended.
    pub status: ExitStatus,
    /// The last 2 KiB of its messages.
    pub messages: String,
}

/// A program under way. It is ended when this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    program: PathBuf,
    child: Child,
    messages: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts a program, its messages kept and `command`'s other pipes as they are.
    pub(super) fn start(command: &mut Command) -> Result<Self, VideoError> {
        let program = PathBuf::from(command.get_program());
        match command.stderr(Stdio::piped()).spawn() {
            Ok(mut child) => Ok(Self {
                // Read all along: a program whose messages nobody reads stops.
                messages: child
                    .stderr
                    .take()
                    .map(|stderr| thread::spawn(|| last_messages(stderr))),
                program,
                child,
            }),
            Err(source) => Err(VideoError::Start { program, source }),
        }
    }

    /// What the program is fed through, once.
    pub(super) fn take_stdin(&mut self) -> ChildStdin {
        let stdin = self.child.stdin.take();
        stdin.expect("invariant: started with a pipe to it, taken once")
    }

    /// What the program gives, once.
    pub(super) fn take_stdout(&mut self) -> ChildStdout {
        let stdout = self.child.stdout.take();
        stdout.expect("invariant: started with a pipe from it, taken once")
    }

    /// Waits until the program has ended by itself.
    pub(super) fn end(&mut self) -> io::Result<ProgramFailure> {
        let status = self.child.wait()?;
        let messages = self.messages.take().map(JoinHandle::join);
        Ok(ProgramFailure {
            program: self.program.clone(),
            status,
            messages: messages.and_then(Result::ok).unwrap_or_default(),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Either fails only where the program has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn last_messages(mut stderr: ChildStderr) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0; 1024]);
    while let Ok(len @ 1..) = stderr.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..len]);
        kept.drain(..kept.len().saturating_sub(MESSAGES_LEN));
    }
    String::from_utf8_lossy(&kept).trim().to_owned()
}

/// Bytes of an answer that are read: a file's notes about itself have no bound.
const ANSWER_LEN: u64 = 1 << 20;

/// Frames a second, as a ratio: 30000/1001 is no decimal number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRate {
    numerator: u32,
    denominator: u32,
}

impl FrameRate {
    /// `numerator / denominator` frames a second.
    ///
    /// # Panics
    /// If one of them is zero.
    pub fn new(numerator: u32, denominator: u32) -> Self {
        assert!(
            numerator > 0 && denominator > 0,
            "frame rate must be above zero, got {numerator}/{denominator}"
        );
        Self {
            numerator,
            denominator,
        }
    }

    /// Frames a second, rounded.
    pub fn per_second(self) -> f64 {
        f64::from(self.numerator) / f64::from(self.denominator)
    }
}

impl fmt::Display for FrameRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.numerator, self.denominator)
    }
}

impl FromStr for FrameRate {
    type Err = String;

    /// Reads `25` or `30000/1001`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (numerator, denominator) = text.split_once('/').unwrap_or((text, "1"));
        match (numerator.parse(), denominator.parse()) {
            (Ok(numerator @ 1..), Ok(denominator @ 1..)) => Ok(Self {
                numerator,
                denominator,
            }),
            _ => Err(format!(
                "frame rate must be a number above zero as 25 or 30000/1001, got {text}"
            )),
        }
    }
}

/// What a video file says about itself, before anything is decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoInfo {
    /// Height of a frame in pixels, as it is shown: a turned video counts turned.
    pub height: usize,
    /// Width of a frame in pixels, as it is shown.
    pub width: usize,
    /// Frames a second, on average, where the file says.
    pub frame_rate: Option<FrameRate>,
    /// Frames that the file declares, where it does. A file that was cut without being
    /// encoded again declares more than it shows;
    /// [`VideoFile::count_frames`](super::VideoFile::count_frames) counts.
    pub declared_frames: Option<u64>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    streams: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    width: usize,
    height: usize,
    avg_frame_rate: Option<String>,
    r_frame_rate: Option<String>,
    nb_frames: Option<String>,
    nb_read_frames: Option<String>,
    #[serde(default)]
    side_data_list: Vec<SideData>,
    #[serde(default)]
    tags: Tags,
}

#[derive(Deserialize)]
struct SideData {
    rotation: Option<f64>,
}

#[derive(Deserialize, Default)]
struct Tags {
    rotate: Option<String>,
}

impl Stream {
    /// Whether the frames are shown turned by a quarter, which `ffmpeg` does when it decodes.
    fn is_turned(&self) -> bool {
        // Programs before version 5 say it by a tag, later ones by side data.
        let tag = self.tags.rotate.as_deref().and_then(|tag| tag.parse().ok());
        let side_data = self.side_data_list.iter().find_map(|data| data.rotation);
        let degrees: f64 = side_data.or(tag).unwrap_or(0.0);
        (degrees.rem_euclid(180.0) - 90.0).abs() < 1.0
    }

    fn info(&self) -> VideoInfo {
        let (height, width) = match self.is_turned() {
            true => (self.width, self.height),
            false => (self.height, self.width),
        };
        let rates = [&self.avg_frame_rate, &self.r_frame_rate];
        let mut rates = rates.into_iter().flatten();
        VideoInfo {
            height,
            width,
            frame_rate: rates.find_map(|rate| rate.parse().ok()),
            declared_frames: self.nb_frames.as_deref().and_then(|n| n.parse().ok()),
        }
    }
}

/// Asks for size, rate and declared frames.
pub(super) fn info(path: &Path, ffmpeg: &Ffmpeg) -> Result<VideoInfo, VideoError> {
    Ok(ask(path, &mut ffmpeg.ffprobe())?.info())
}

/// Decodes the whole file and counts.
pub(super) fn count_frames(path: &Path, ffmpeg: &Ffmpeg) -> Result<u64, VideoError> {
    let mut ffprobe = ffmpeg.ffprobe();
    let stream = ask(path, ffprobe.args(["-count_frames", "-threads", "0"]))?;
    let counted = stream.nb_read_frames.as_deref().map(str::parse);
    Ok(counted.and_then(Result::ok).unwrap_or_default())
}

fn ask(path: &Path, ffprobe: &mut Command) -> Result<Stream, VideoError> {
    // `V` is video without cover pictures.
    ffprobe.args(["-select_streams", "V:0", "-show_streams", "-of", "json"]);
    ffprobe.args(["-protocol_whitelist", "file", "-i"]);
    ffprobe.arg(file_argument(path));
    ffprobe.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = Running::start(ffprobe)?;
    let mut json = Vec::new();
    let read = running
        .take_stdout()
        .take(ANSWER_LEN)
        .read_to_end(&mut json);
    let lost = |source| VideoError::Pipe {
        path: path.into(),
        frame: 0,
        source,
    };
    read.map_err(lost)?;
    let end = running.end().map_err(lost)?;
    if !end.status.success() {
        return Err(VideoError::Probe {
            path: path.into(),
            source: end,
        });
    }
    let answer: Answer = serde_json::from_slice(&json).map_err(|source| VideoError::Answer {
        path: path.into(),
        source,
    })?;
    let stream = answer.streams.into_iter().next();
    stream.ok_or_else(|| VideoError::NoVideo { path: path.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn the_variable_names_the_program_and_its_neighbour() {
        let named = Ffmpeg::named(Some("/opt/tools/ffmpeg".into()));
        assert_eq!(named.ffprobe, Path::new("/opt/tools/ffprobe"));
        for unset in [None, Some(OsString::new())] {
            assert_eq!(Ffmpeg::named(unset), Ffmpeg::new("ffmpeg"));
        }
        assert_eq!(Ffmpeg::new("ffmpeg").ffprobe, Path::new("ffprobe"));
    }

    #[test]
    fn a_path_is_never_an_option() {
        assert_eq!(file_argument(Path::new("-y")), "file:-y");
    }

    #[rstest]
    #[case::upright("{}", (2, 3))]
    #[case::side_data(r#"{"side_data_list":[{},{"rotation":-90}]}"#, (3, 2))]
    #[case::tag(r#"{"tags":{"rotate":"270"}}"#, (3, 2))]
    #[case::upside_down(r#"{"side_data_list":[{"rotation":180}]}"#, (2, 3))]
    fn a_quarter_turn_swaps_the_sides(#[case] json: &str, #[case] size: (usize, usize)) {
        let mut json: serde_json::Value = serde_json::from_str(json).unwrap();
        json["width"] = 3.into();
        json["height"] = 2.into();
        let info = serde_json::from_value::<Stream>(json).unwrap().info();
        assert_eq!((info.height, info.width), size);
    }

    #[rstest]
    #[case("25", Some("25/1"))]
    #[case("30000/1001", Some("30000/1001"))]
    #[case("0/0", None)]
    #[case("-25", None)]
    fn rates_are_ratios_above_zero(#[case] text: &str, #[case] rate: Option<&str>) {
        let read = text.parse::<FrameRate>().ok();
        assert_eq!(read.map(|rate| rate.to_string()).as_deref(), rate);
    }
}
