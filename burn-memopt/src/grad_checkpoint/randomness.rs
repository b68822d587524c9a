//! Random numbers that a segment draws a second time.
//!
//! burn's random stream cannot be read or restored, only seeded, and there is one
//! for the whole process. Four rules follow:
//!
//! 1. A segment has a seed of its own. It seeds the stream before each of its two
//!    runs and moves the stream on after each, so that nothing drawn later repeats.
//! 2. Seeds of inner segments derive from the seed of the outer one and their
//!    number in it. They are the same in both runs of the outer segment, whether or
//!    not the inner one records anything. Where there is no outer segment, the seed
//!    is read from the stream: once for all segments in [`share_seed`].
//! 3. While a segment runs on its seed, its thread holds the stream
//!    ([`hold_random_stream`]). Segments of other threads wait.
//! 4. A thread that draws without holding the stream cannot be stopped, but it is
//!    noticed: see [`repeat`](super::repeat).

use core::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use burn::tensor::{Device, Distribution, Int, Tensor};

/// The seed of one run of a segment.
///
/// burn's random stream cannot be read or restored, only seeded. So a segment
/// draws a seed from the stream, seeds the device with it, and can seed it again
/// for the recomputation: dropout repeats its masks. After either run the stream
/// moves on to a place of its own, so that nothing drawn later repeats.
///
/// Everything follows from [`Device::seed`]: the same seed, the same masks.
///
/// # Example
/// What a checkpointed segment draws, drawn without one:
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_memopt::grad_checkpoint::SegmentSeed;
///
/// let device = Device::flex();
/// let seed = SegmentSeed::draw(&device);
/// let draw = || Tensor::<1>::random([4], Distribution::Default, &device).to_data();
/// seed.apply(&device);
/// let first = draw();
/// seed.apply(&device);
/// assert_eq!(draw(), first);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentSeed(u64);

/// Which run of a segment has ended: the two leave the stream in different places.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Run {
    First = 1,
    Recomputation = 2,
}

impl SegmentSeed {
    /// Draws a seed from the device's random stream.
    ///
    /// On an asynchronous device this waits for the tensor of three numbers.
    pub fn draw(device: &Device) -> Self {
        #[cfg(test)]
        tests::READS.with(|reads| reads.set(reads.get() + 1));
        let _stream = hold_random_stream();
        let device = device.clone().without_autodiff();
        let whole = Distribution::Uniform(0.0, f64::from(1u32 << 24));
        let words = Tensor::<1, Int>::random([3], whole, &device).into_data();
        let seed = words
            .iter::<i64>()
            .fold(0, |seed, word| mix(seed ^ word.cast_unsigned()));
        Self(seed)
    }

    /// Seeds the device, so that the segment's run starts here.
    pub fn apply(self, device: &Device) {
        device.seed(self.0);
    }

    /// Runs a forward pass from this seed: it draws the same each time, and so do its segments, also where one of the
    /// times records nothing, if it `repeats`. Segments that it does not repeat for may be cut by what was measured.
    pub(crate) fn run<T>(self, repeats: bool, device: &Device, forward: impl FnOnce() -> T) -> T {
        let _stream = hold_random_stream();
        self.apply(device);
        let in_segment = repeats || inside_segment();
        enter(Level::new(Arc::new(self.into()), in_segment), forward)
    }

    /// Moves the device's stream on after a run.
    pub(crate) fn leave(self, run: Run, device: &Device) {
        device.seed(mix(self.0.wrapping_add(run as u64)));
    }

    /// What is drawn first from this seed, as after a run that drew nothing.
    pub(crate) fn untouched(self, device: &Device) -> Tensor<1> {
        let _stream = hold_random_stream();
        self.apply(device);
        let next = draw_next(device);
        self.leave(Run::Recomputation, device);
        next
    }

    /// The seed of the inner segment with this number.
    pub(crate) fn inner(self, number: u64) -> Self {
        // Inverted, so that no inner seed is one that `leave` sets.
        Self(mix(!self.0 ^ mix(number)))
    }
}

/// The output function of SplitMix64 (Steele et al. 2014, figure 17).
fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// The random stream, held by one thread; see [`hold_random_stream`].
#[derive(Debug)]
#[must_use = "the stream is held until this is dropped"]
pub struct RandomStreamGuard {
    /// `None` where the thread held the stream already.
    _lock: Option<MutexGuard<'static, ()>>,
}

impl RandomStreamGuard {
    /// Seeds the stream of `device`: what is drawn while it is held is the same in every run.
    ///
    /// For tests, which otherwise draw beside each other.
    ///
    /// # Example
    /// ```
    /// use burn::tensor::{Device, Distribution, Tensor};
    /// use burn_memopt::grad_checkpoint::hold_random_stream;
    ///
    /// let device = Device::flex();
    /// let draw = || {
    ///     let _stream = hold_random_stream().seeded(&device, 7);
    ///     Tensor::<1>::random([4], Distribution::Default, &device).into_data()
    /// };
    /// assert_eq!(draw(), draw());
    /// ```
    pub fn seeded(self, device: &Device, seed: u64) -> Self {
        device.seed(seed);
        self
    }
}

/// Holds burn's random stream for this thread until the guard is dropped.
///
/// The stream is one for the whole process, whatever the device. A checkpointed segment that runs
/// on its seed holds it. A thread that draws random tensors by burn while another thread trains,
/// such as a data loader that adds noise, has to hold it as well: otherwise its draw falls between
/// those of a segment, and the backward pass of that segment ends with an error. A thread may hold
/// the stream several times.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_memopt::grad_checkpoint::hold_random_stream;
///
/// std::thread::spawn(|| {
///     let _stream = hold_random_stream();
///     Tensor::<1>::random([4], Distribution::Default, &Device::flex())
/// });
/// ```
pub fn hold_random_stream() -> RandomStreamGuard {
    static STREAM: Mutex<()> = Mutex::new(());
    let held = HOLDS.with(|holds| holds.replace(holds.get() + 1)) > 0;
    RandomStreamGuard {
        _lock: (!held).then(|| STREAM.lock().unwrap_or_else(PoisonError::into_inner)),
    }
}

/// Whether this thread holds the stream.
pub(crate) fn holds_random_stream() -> bool {
    HOLDS.with(|holds| holds.get() > 0)
}

impl Drop for RandomStreamGuard {
    fn drop(&mut self) {
        HOLDS.with(|holds| holds.set(holds.get() - 1));
    }
}

/// Runs a forward pass whose segments share one draw of a seed.
///
/// A segment with random numbers needs a seed from the device's random stream. On a
/// GPU, reading it waits for everything that was queued before. Inside this function
/// the first such segment reads one, and the others derive theirs from it.
/// [`Policy::run`](super::Policy::run), [`Chain::run`](super::Chain::run),
/// [`checkpoint_sequential`](super::checkpoint_sequential) and
/// [`MicroBatchTrainer`](crate::train::MicroBatchTrainer) do this by themselves.
///
/// # Exactness
/// Other seeds than without it, as good as those.
///
/// # Example
/// ```
/// use burn::nn::{Dropout, DropoutConfig};
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::grad_checkpoint::{grad_checkpoint, share_seed};
///
/// let device = Device::flex().autodiff();
/// let dropout = DropoutConfig::new(0.5).init();
/// let x = Tensor::<2>::ones([4, 4], &device).require_grad();
/// let y = share_seed(|| {
///     (0..8).fold(x, |x, _| {
///         grad_checkpoint(&dropout, x, |dropout: &Dropout, x: Tensor<2>| dropout.forward(x))
///     })
/// });
/// assert_eq!(y.dims(), [4, 4]);
/// ```
pub fn share_seed<T>(forward: impl FnOnce() -> T) -> T {
    let in_segment = inside_segment();
    enter(Level::new(Arc::default(), in_segment), forward)
}

/// One level of nesting on this thread: seeds of the segments in it derive from its own.
struct Level {
    /// Empty until the first segment in it asks. Shared by both runs of a segment.
    seed: Arc<OnceLock<SegmentSeed>>,
    /// Number of the next segment in it.
    next: Cell<u64>,
    /// Whether this is, or is within, a run of a segment.
    in_segment: bool,
}

impl Level {
    fn new(seed: Arc<OnceLock<SegmentSeed>>, in_segment: bool) -> Self {
        Self {
            seed,
            next: Cell::new(0),
            in_segment,
        }
    }
}

thread_local! {
    static HOLDS: Cell<usize> = const { Cell::new(0) };
    static LEVELS: RefCell<Vec<Level>> = const { RefCell::new(Vec::new()) };
}

/// Whether a segment is running on this thread.
pub(super) fn inside_segment() -> bool {
    LEVELS.with_borrow(|levels| levels.last().is_some_and(|level| level.in_segment))
}

fn enter<T>(level: Level, run: impl FnOnce() -> T) -> T {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            LEVELS.with_borrow_mut(Vec::pop);
        }
    }
    LEVELS.with_borrow_mut(|levels| levels.push(level));
    let _leave = Leave;
    run()
}

/// The seed of the next segment at the innermost of some levels.
fn next_seed(levels: &[Level], device: &Device) -> SegmentSeed {
    let Some((level, outer)) = levels.split_last() else {
        return SegmentSeed::draw(device);
    };
    let seed = level.seed.get_or_init(|| next_seed(outer, device));
    seed.inner(level.next.replace(level.next.get() + 1))
}

/// How a segment repeats its random numbers.
#[derive(Debug, Clone)]
pub(super) struct Replay {
    /// `None` for a segment that promised to draw none.
    seed: Option<SegmentSeed>,
    /// Seed that inner segments derive theirs from.
    inner: Arc<OnceLock<SegmentSeed>>,
    device: Device,
}

impl Replay {
    /// Takes the segment's seed, unless it promised to need none.
    pub(super) fn new(deterministic: bool, device: Device) -> Self {
        let seed =
            (!deterministic).then(|| LEVELS.with_borrow(|levels| next_seed(levels, &device)));
        Self {
            seed,
            // With its own seed a segment needs no other; without one, an inner
            // segment that draws after all brings it here, for both runs.
            inner: seed.map_or_else(Arc::default, |seed| Arc::new(seed.into())),
            device,
        }
    }

    pub(super) fn is_seeded(&self) -> bool {
        self.seed.is_some()
    }

    /// Runs `forward` on the segment's own random numbers. Also returns where the stream
    /// was after it; `None` where nothing is replayed.
    pub(super) fn run<T>(&self, run: Run, forward: impl FnOnce() -> T) -> (T, Option<StreamPlace>) {
        let level = Level::new(self.inner.clone(), true);
        let Some(seed) = self.seed else {
            return (enter(level, forward), None);
        };
        let _stream = hold_random_stream();
        seed.apply(&self.device);
        let result = enter(level, forward);
        let next = draw_next(&self.device);
        seed.leave(run, &self.device);
        (result, Some(StreamPlace { seed, next }))
    }
}

pub(crate) fn draw_next(device: &Device) -> Tensor<1> {
    Tensor::random(
        [4],
        Distribution::Default,
        &device.clone().without_autodiff(),
    )
}

/// Where a run of a segment left the random stream. Both runs leave it at the same place,
/// unless somebody else drew.
pub(super) struct StreamPlace {
    pub(super) seed: SegmentSeed,
    /// What would have been drawn next, on the device.
    pub(super) next: Tensor<1>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grad_checkpoint::{Policy, Segment, checkpoint_sequential, grad_checkpoint};
    use burn::nn::{Dropout, DropoutConfig};

    thread_local! {
        pub(super) static READS: Cell<usize> = const { Cell::new(0) };
    }

    fn reads_of(forward: impl FnOnce(Tensor<2>) -> Tensor<2>) -> usize {
        let device = Device::flex().autodiff();
        let x = Tensor::ones([4, 4], &device).require_grad();
        let before = READS.get();
        drop(forward(x));
        READS.get() - before
    }

    fn dropouts(count: usize) -> Vec<Dropout> {
        (0..count).map(|_| DropoutConfig::new(0.5).init()).collect()
    }

    fn forward(dropout: &Dropout, x: Tensor<2>) -> Tensor<2> {
        dropout.forward(x)
    }

    fn nested(dropout: &Dropout, x: Tensor<2>) -> Tensor<2> {
        grad_checkpoint(dropout, x, forward)
    }

    #[test]
    fn a_chain_reads_one_seed_from_the_device_however_long_it_is() {
        let blocks = dropouts(32);
        let block = |x| checkpoint_sequential(&blocks, 32, x, forward);
        assert_eq!(reads_of(block), 1);
        let nested = |x| checkpoint_sequential(&blocks, 32, x, nested);
        assert_eq!(reads_of(nested), 1);
    }

    #[test]
    fn segments_of_a_loop_share_a_seed_where_they_are_told_to() {
        let blocks = dropouts(8);
        let run = |x| {
            blocks
                .iter()
                .fold(x, |x, block| grad_checkpoint(block, x, forward))
        };
        assert_eq!(reads_of(run), 8);
        assert_eq!(reads_of(|x| share_seed(|| run(x))), 1);
    }

    #[test]
    fn segments_without_random_numbers_read_nothing() {
        let blocks = dropouts(1);
        let segment = Segment::new().without_randomness();
        let run = |x| segment.run(&blocks, x, |_: &Vec<Dropout>, x: Tensor<2>| x * 2.0);
        assert_eq!(reads_of(run), 0);
    }

    #[test]
    fn inner_seeds_differ_from_each_other_and_from_where_the_stream_goes_on() {
        let seed = SegmentSeed(7);
        let mut seeds: Vec<_> = (0..100).map(|number| seed.inner(number).0).collect();
        seeds.extend([Run::First, Run::Recomputation].map(|run| mix(7 + run as u64)));
        seeds.push(7);
        let num_seeds = seeds.len();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), num_seeds);
    }

    #[test]
    fn a_panic_in_a_segment_leaves_stream_and_nesting_free() {
        let caught = std::panic::catch_unwind(|| {
            let dropout = DropoutConfig::new(0.5).init();
            let device = Device::flex().autodiff();
            let x = Tensor::<2>::ones([2, 2], &device).require_grad();
            grad_checkpoint(&dropout, x, |_: &Dropout, _: Tensor<2>| -> Tensor<2> {
                panic!("in the first run")
            })
        });
        assert!(caught.is_err());
        assert!(!inside_segment());
        let other = std::thread::spawn(|| drop(hold_random_stream()));
        assert!(other.join().is_ok());
    }

    #[test]
    fn a_policy_is_no_reason_to_draw() {
        let blocks = dropouts(3);
        let run = |x| checkpoint_sequential(&blocks, 1, x, forward);
        assert_eq!(Policy::Segments(1).spans(3).unwrap().len(), 1);
        assert_eq!(reads_of(run), 0);
    }
}
