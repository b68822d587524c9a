//! Batches that run in a process of their own.

mod frame;

use std::error::Error;
use std::io::{self, BufReader};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use burn::tensor::{Device, TensorData};

use super::Failure;
use crate::chunked::BoxError;
use frame::Frame;

/// Exit codes by which a shell says that what it ran was aborted or killed.
const KILLED: [i32; 2] = [128 + 6, 128 + 9];

/// Runs batches in a child process, so that this one survives what a process cannot: a device
/// that is lost, an abort, or the system ending a process that took too much.
///
/// [`run`](Self::run) is what a batch runner calls. If the child dies, that counts as lack of
/// memory: the items run again in a smaller batch, in a new child. A child that returns an
/// error, or ends by itself, is not tried again.
///
/// # The child
/// It is any command that calls [`serve`]; usually the same program with an argument or a variable
/// by which it knows. It may print: on stdout between results, and on stderr, which is this
/// process's.
///
/// # Exactness
/// Items and results are sent as f32.
///
/// # Example
/// ```no_run
/// use std::process::Command;
///
/// use burn::tensor::{Device, Tensor, TensorData};
/// use burn_memopt::batch::{AdaptiveBatches, BatchRunner, BatchSizeConfig, Child, serve};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let device = Device::flex();
/// if std::env::args().any(|arg| arg == "--child") {
///     return Ok(serve(&device, |items| {
///         let double = |item: &TensorData| {
///             (Tensor::<1>::from_data(item.clone(), &device) * 2.0).try_into_data()
///         };
///         Ok(items.iter().map(double).collect::<Result<_, _>>()?)
///     })?);
/// }
/// let program = std::env::current_exe()?;
/// let mut child = Child::new(move || {
///     let mut command = Command::new(&program);
///     command.arg("--child");
///     command
/// });
/// let items = (0..100).map(|item| TensorData::new(vec![item as f32; 1000], [1000]));
/// let runner = BatchRunner::new(BatchSizeConfig::default());
/// for result in AdaptiveBatches::new(runner, items, |items| child.run(items)) {
///     println!("{}", result?);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Child {
    command: Box<dyn FnMut() -> Command>,
    running: Option<Running>,
    num_started: usize,
}

/// Why a child has no results.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum ChildError {
    /// It could not be started.
    #[error("cannot start a child process")]
    Start(#[source] io::Error),
    /// It returned an error.
    #[error("the child process answered: {0}")]
    Refused(String),
    /// It is gone, and did not go by itself.
    #[error("the child process died: {how}")]
    Died {
        /// What is known of it.
        how: String,
    },
    /// It ended by itself.
    #[error("the child process ended with {status} instead of an answer; see what it printed")]
    Ended {
        /// How it ended.
        status: ExitStatus,
    },
    /// It said something else than was expected.
    #[error("the child process does not answer as `serve` does; start a program that calls it")]
    Protocol,
}

impl Child {
    /// Runs batches in what `command` starts; nothing is started yet. Its input and output are
    /// set here.
    pub fn new(command: impl FnMut() -> Command + 'static) -> Self {
        Self {
            command: Box::new(command),
            running: None,
            num_started: 0,
        }
    }

    /// Runs a batch in the child, which is started if there is none.
    ///
    /// # Errors
    /// If it cannot be started, returns an error, or is gone without an answer.
    pub fn run(&mut self, items: &[TensorData]) -> Result<Vec<TensorData>, ChildError> {
        let mut running = match self.running.take() {
            Some(running) => running,
            None => self.start()?,
        };
        match running.ask(items) {
            Ok(Some(Frame::Tensors(results))) => {
                self.running = Some(running);
                Ok(results)
            }
            Ok(Some(Frame::Refused(why))) => match Failure::of_text(&why) {
                // Nothing can be done in that process any more.
                Failure::DevicePoisoned => Err(ChildError::Died { how: why }),
                _ => {
                    self.running = Some(running);
                    Err(ChildError::Refused(why))
                }
            },
            Ok(Some(Frame::Ready)) => Err(ChildError::Protocol),
            Ok(None) | Err(_) => Err(running.ended()),
        }
    }

    /// How often a child was started.
    pub fn num_started(&self) -> usize {
        self.num_started
    }

    fn start(&mut self) -> Result<Running, ChildError> {
        let mut command = (self.command)();
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().map_err(ChildError::Start)?;
        self.num_started += 1;
        let mut output = process.stdout.take().map(BufReader::new);
        let ready = output.as_mut().map(frame::read);
        let mut running = Running {
            input: process.stdin.take(),
            output,
            process,
        };
        match ready {
            Some(Ok(Some(Frame::Ready))) => Ok(running),
            Some(Ok(Some(_))) => Err(ChildError::Protocol),
            _ => Err(running.ended()),
        }
    }
}

/// A child that was started; it is ended when this is dropped.
struct Running {
    process: std::process::Child,
    input: Option<ChildStdin>,
    output: Option<BufReader<ChildStdout>>,
}

impl Running {
    fn ask(&mut self, items: &[TensorData]) -> io::Result<Option<Frame>> {
        let (Some(input), Some(output)) = (&mut self.input, &mut self.output) else {
            return Ok(None);
        };
        frame::write_tensors(input, items)?;
        frame::read(output)
    }

    /// Why there is no answer.
    fn ended(&mut self) -> ChildError {
        // A child that still reads sees the end of its input, and ends.
        self.input = None;
        match self.process.wait() {
            Ok(status) if is_violent(status) => ChildError::Died {
                how: status.to_string(),
            },
            Ok(status) => ChildError::Ended { status },
            Err(error) => ChildError::Died {
                how: error.to_string(),
            },
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail if it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Whether a process was ended by a signal, or an exception of Windows.
fn is_violent(status: ExitStatus) -> bool {
    status
        .code()
        .is_none_or(|code| !(0..=255).contains(&code) || KILLED.contains(&code))
}

/// The child's side of a [`Child`]: runs every batch that comes on stdin and writes
/// its results to stdout, until stdin ends.
///
/// An error or a panic of `run` is sent instead of the results; then `device` gives back what it does
/// not use.
///
/// # Errors
/// If stdin cannot be read or stdout not be written.
pub fn serve(
    device: &Device,
    mut run: impl FnMut(&[TensorData]) -> Result<Vec<TensorData>, BoxError>,
) -> io::Result<()> {
    let mut input = io::stdin().lock();
    frame::write_ready(&mut io::stdout().lock())?;
    while let Some(Frame::Tensors(items)) = frame::read(&mut input)? {
        let why = match catch_unwind(AssertUnwindSafe(|| run(&items))) {
            Ok(Ok(results)) => {
                frame::write_tensors(&mut io::stdout().lock(), &results)?;
                continue;
            }
            Ok(Err(error)) => with_causes(&*error),
            Err(panic) => format!("it panicked: {}", Failure::panic_text(&*panic)),
        };
        device.memory_cleanup();
        frame::write_refused(&mut io::stdout().lock(), &why)?;
    }
    Ok(())
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
