//! Processes that tests start: each has an end, and finds Ctrl-C as a terminal leaves it.

use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Time after which a process is killed. The longest take two minutes on a busy machine.
const LIMIT: Duration = Duration::from_secs(600);

/// Kills a process that is still running after [`LIMIT`], unless it is dropped before.
pub struct Watchdog {
    _stop: Sender<()>,
}

/// Starts a process that is killed after ten minutes.
///
/// A shell that runs in the background ignores SIGINT, and so do the processes it starts, tests
/// included; the process of the test gets the default back, else no interruption would reach it.
pub fn spawn(command: &mut Command) -> (Child, Watchdog) {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt;

        // SAFETY: `signal` may be called between fork and exec, and the closure does nothing else.
        unsafe {
            command.pre_exec(|| {
                libc::signal(libc::SIGINT, libc::SIG_DFL);
                Ok(())
            });
        }
    }
    let child = command.spawn().expect("the process starts");
    let (stop, stopped) = channel::<()>();
    let id = child.id().to_string();
    std::thread::spawn(move || {
        if stopped.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
            eprintln!("process {id} has not ended in {LIMIT:?} and is killed");
            let kill: &[&str] = if cfg!(windows) {
                &["taskkill", "/F", "/PID"]
            } else {
                &["kill", "-KILL"]
            };
            let _ = Command::new(kill[0]).args(&kill[1..]).arg(&id).status();
        }
    });
    (child, Watchdog { _stop: stop })
}

/// Runs a process to its end, at most ten minutes, and returns what it wrote.
pub fn output(command: &mut Command) -> Output {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let (child, _watchdog) = spawn(command);
    child.wait_with_output().expect("the process ends")
}
