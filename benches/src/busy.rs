//! How many threads of the program compute at the same time.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(10);

/// Looks at the threads of the program from time to time and counts those that run, for each of
/// `N` stages of its work. Only Linux says which run.
pub(crate) struct BusyThreads<const N: usize> {
    shared: Arc<Shared>,
    watch: JoinHandle<[Looks; N]>,
}

#[derive(Default)]
struct Shared {
    stage: AtomicUsize,
    ended: AtomicBool,
}

/// Looks during one stage.
#[derive(Clone, Copy, Default)]
pub(crate) struct Looks {
    one: usize,
    several: usize,
}

impl Looks {
    /// The share of the time in which one thread alone ran.
    pub(crate) fn single(self) -> Option<f64> {
        let all = self.one + self.several;
        (all > 0).then(|| self.one as f64 / all as f64)
    }
}

impl std::iter::Sum for Looks {
    fn sum<I: Iterator<Item = Self>>(looks: I) -> Self {
        looks.fold(Self::default(), |sum, looks| Self {
            one: sum.one + looks.one,
            several: sum.several + looks.several,
        })
    }
}

impl<const N: usize> BusyThreads<N> {
    /// Begins to look, in stage 0.
    pub(crate) fn watch() -> Self {
        let shared = Arc::new(Shared::default());
        let of_thread = shared.clone();
        let watch = thread::spawn(move || {
            let mut looks = [Looks::default(); N];
            while !of_thread.ended.load(Relaxed) {
                let stage = &mut looks[of_thread.stage.load(Relaxed)];
                match running() {
                    0 => {}
                    1 => stage.one += 1,
                    _ => stage.several += 1,
                }
                thread::sleep(INTERVAL);
            }
            looks
        });
        Self { shared, watch }
    }

    /// Says that another stage of the work begins.
    pub(crate) fn enter(&self, stage: usize) {
        self.shared.stage.store(stage, Relaxed);
    }

    /// Ends, and returns what was seen of each stage.
    pub(crate) fn finish(self) -> [Looks; N] {
        self.shared.ended.store(true, Relaxed);
        self.watch.join().expect("the thread only reads files")
    }
}

/// Threads that run, besides the one that asks; 0 where nobody knows.
fn running() -> usize {
    let own = fs::read_link("/proc/thread-self");
    let own = own.ok().and_then(|path| Some(path.file_name()?.to_owned()));
    let Ok(threads) = fs::read_dir("/proc/self/task") else {
        return 0;
    };
    let others = threads
        .flatten()
        .filter(|thread| Some(thread.file_name()) != own);
    others.filter(|thread| runs(&thread.path())).count()
}

/// Whether a thread runs: the letter after its name, which is in parentheses.
fn runs(thread: &Path) -> bool {
    let text = fs::read_to_string(thread.join("stat")).unwrap_or_default();
    text.rsplit_once(") ")
        .is_some_and(|(_, rest)| rest.starts_with('R'))
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;
    use std::time::Instant;

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn stages_of_one_and_of_two_threads_are_told_apart() {
        let work = || {
            let start = Instant::now();
            while start.elapsed() < Duration::from_millis(400) {
                black_box((0..1000).sum::<u64>());
            }
        };
        let busy = BusyThreads::<2>::watch();
        work();
        busy.enter(1);
        thread::scope(|scope| {
            scope.spawn(work);
            scope.spawn(work);
        });
        let [_, two] = busy.finish();
        assert!(two.single().unwrap() < 0.5, "{:?}", two.single());
    }
}
