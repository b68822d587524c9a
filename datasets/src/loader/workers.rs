use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
};

/// Something that threads can help with until it is over.
pub(super) trait Serve: Send + Sync {
    /// Does what there is to do; returns when there will be nothing more.
    fn serve(&self);
}

/// Threads that serve one run after the other; they start with the first, and end with
/// the last loader or iterator that uses them.
pub(super) struct Workers {
    count: usize,
    threads: OnceLock<Threads>,
}

struct Threads {
    /// `None` once they are to end.
    runs: Option<Sender<Arc<dyn Serve>>>,
    handles: Vec<JoinHandle<()>>,
}

impl Workers {
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
    pub(super) fn serve(&self, run: &Arc<dyn Serve>) {
        let threads = self.threads.get_or_init(|| Threads::start(self.count));
        for _ in &threads.handles {
            if let Some(runs) = &threads.runs {
                // Fails if no thread is left; see above.
                let _ = runs.send(run.clone());
            }
        }
    }
}

impl Threads {
    fn start(count: usize) -> Self {
        let (sender, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let start = |number: usize| {
            let runs = receiver.clone();
            let name = format!("loader-{number}");
            thread::Builder::new()
                .name(name)
                .spawn(move || work(&runs))
                .ok()
        };
        Self {
            handles: (0..count).map_while(start).collect(),
            runs: Some(sender),
        }
    }
}

fn work(runs: &Mutex<Receiver<Arc<dyn Serve>>>) {
    loop {
        let run = runs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(run) = run else { return };
        // The last one to leave a run drops what is left of it, and a user's type may panic
        // when it is dropped: no reason to end a thread that others rely on.
        let _ = catch_unwind(AssertUnwindSafe(move || run.serve()));
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.runs = None;
        for handle in self.handles.drain(..) {
            // A worker may itself be the last to let go; it ends by itself.
            if handle.thread().id() != thread::current().id() {
                let _ = handle.join();
            }
        }
    }
}
