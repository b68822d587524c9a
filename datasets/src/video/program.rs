//! The programs `ffmpeg` and `ffprobe`, started and ended.

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

    /// The program `ffmpeg`, a name or a path, and `ffprobe` beside it.
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
    fn a_path_is_never_an_option() {
        assert_eq!(file_argument(Path::new("-y")), "file:-y");
    }
}
