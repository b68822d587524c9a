//! The programs `ffmpeg` and `ffprobe`: which ones, and how they are started and ended.

use std::{
    env,
    ffi::OsString,
    fmt::Debug,
    io::{self, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
};

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

    /// The options of this version that write every frame with its own time, also into an MP4, and the
    /// last one with a length in seconds.
    pub(super) fn passing_times(&self, last: f64) -> Result<Vec<String>, VideoError> {
        let mut command = Command::new(&self.ffmpeg);
        let command = command.arg("-version").stdin(Stdio::null());
        match command.output() {
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stdout);
                if version(&text).is_some_and(|version| version < (5, 1)) {
                    return Ok(vec!["-vsync".into(), "passthrough".into()]);
                }
                let last = format!("floor({last:.9}/TB+0.5)");
                let duration = format!("if(eq(NEXT_PTS,NOPTS),{last},NEXT_PTS-PTS)");
                let filter = format!("setts=duration={}", duration.replace(',', "\\,"));
                Ok(["-fps_mode", "passthrough", "-bsf:v", &filter]
                    .map(String::from)
                    .into())
            }
            Err(source) => Err(VideoError::Start {
                program: self.ffmpeg.clone(),
                source,
            }),
        }
    }

    pub(super) fn ffprobe(&self) -> Command {
        let mut command = Command::new(&self.ffprobe);
        command.args(["-hide_banner", "-loglevel", "error"]);
        command
    }
}

/// The numbers of a release, as in `ffmpeg version 5.1.9-0+deb12u1` or `n4.4`; `None` for a version
/// between releases.
fn version(text: &str) -> Option<(u32, u32)> {
    let version = text
        .strip_prefix("ffmpeg version ")?
        .trim_start_matches('n');
    let mut numbers = version.split(|sign: char| !sign.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
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

/// A program that runs. It is ended when this is dropped.
#[derive(Debug)]
pub(super) struct Running {
    program: PathBuf,
    child: Child,
    messages: Option<JoinHandle<String>>,
}

impl Running {
    /// Starts a program and collects its messages; `command`'s other pipes stay as they are.
    pub(super) fn start(command: &mut Command) -> Result<Self, VideoError> {
        let (mut running, stderr) = Self::start_with_log(command)?;
        // Read all the time: a program whose messages nobody reads stops.
        running.messages = Some(thread::spawn(|| last_messages(stderr)));
        Ok(running)
    }

    /// Starts a program whose messages the caller reads.
    pub(super) fn start_with_log(command: &mut Command) -> Result<(Self, ChildStderr), VideoError> {
        let program = PathBuf::from(command.get_program());
        match command.stderr(Stdio::piped()).spawn() {
            Ok(mut child) => {
                let stderr = child.stderr.take();
                let stderr = stderr.expect("invariant: started with a pipe from it");
                let running = Self {
                    program,
                    child,
                    messages: None,
                };
                Ok((running, stderr))
            }
            Err(source) => Err(VideoError::Start { program, source }),
        }
    }

    /// The pipe to the program's input, once.
    pub(super) fn take_stdin(&mut self) -> ChildStdin {
        let stdin = self.child.stdin.take();
        stdin.expect("invariant: started with a pipe to it, taken once")
    }

    /// The pipe from the program's output, once.
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
    let text = String::from_utf8_lossy(&kept);
    let lines: Vec<_> = text.trim().lines().map(without_address).collect();
    lines.join("\n")
}

/// A message of `ffmpeg` without the address in `[h264 @ 0x5581]`, which differs in every run.
pub(super) fn without_address(line: &str) -> String {
    match line.split_once(" @ 0x") {
        Some((before, after)) => {
            let rest = after.trim_start_matches(|digit: char| digit.is_ascii_hexdigit());
            format!("{before}{rest}")
        }
        None => line.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn releases_are_told_apart() {
        let version = |text: &str| version(&format!("ffmpeg version {text} Copyright"));
        assert_eq!(version("5.1.9-0+deb12u1"), Some((5, 1)));
        assert_eq!(version("n4.4"), Some((4, 4)));
        assert_eq!(version("N-113007-g8d24a28d06"), None);
    }

    #[test]
    fn messages_are_the_same_in_every_run() {
        let line = "[matroska,webm @ 0x56140d3378c0] File ended prematurely";
        let shown = without_address(line);
        assert_eq!(shown, "[matroska,webm] File ended prematurely");
        assert_eq!(
            without_address("moov atom not found"),
            "moov atom not found"
        );
    }

    #[test]
    fn a_path_is_never_an_option() {
        assert_eq!(file_argument(Path::new("-y")), "file:-y");
    }
}
