//! Threads that load.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, OnceLock,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
};

use super::run::Run;
use crate::lock;

/// Threads that serve one run after the other; they start with the first, and end with
/// the last loader or iterator that uses them.
pub(super) struct Workers<I, O> {
    count: usize,
    threads: OnceLock<Threads<I, O>>,
}

struct Threads<I, O> {
    /// `None` once they are to end.
    runs: Option<Sender<Arc<Run<I, O>>>>,
    handles: Vec<JoinHandle<()>>,
}

impl<I: Send + 'static, O: Send + 'static> Workers<I, O> {
    pub(super) fn new(count: usize) -> Self {
        Self {
            count,
            threads: OnceLock::new(),
        }
    }

    /// Lets all threads serve `run` as soon as they are free.
    ///
    /// Threads that cannot be started are done without, as are all those that are busy
    /// with another run: a consumer that no worker serves helps itself.
    pub(super) fn serve(&self, run: &Arc<Run<I, O>>) {
        let threads = self.threads.get_or_init(|| Threads::start(self.count));
        for _ in &threads.handles {
            if let Some(runs) = &threads.runs {
                // Fails if no thread is left; see above.
                let _ = runs.send(run.clone());
            }
        }
    }
}

impl<I: Send + 'static, O: Send + 'static> Threads<I, O> {
    fn start(count: usize) -> Self {
        let (sender, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let start = |number: usize| {
            let runs = receiver.clone();
            let thread = thread::Builder::new().name(format!("loader-{number}"));
            thread.spawn(move || work(&runs)).ok()
        };
        Self {
            handles: (0..count).map_while(start).collect(),
            runs: Some(sender),
        }
    }
}

fn work<I, O>(runs: &Mutex<Receiver<Arc<Run<I, O>>>>) {
    loop {
        let run = lock(runs).recv();
        let Ok(run) = run else { return };
        // The last one to leave a run drops what is left of it, and a user's type may panic
        // when it is dropped: no reason to end a thread that others rely on.
        let _ = catch_unwind(AssertUnwindSafe(move || run.serve()));
    }
}

impl<I, O> Drop for Threads<I, O> {
    fn drop(&mut self) {
        self.runs = None;
        for handle in self.handles.drain(..) {
            // A worker may itself be the last that uses the threads; it ends by itself.
            if handle.thread().id() != thread::current().id() {
                let _ = handle.join();
            }
        }
    }
}
