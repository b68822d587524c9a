use burn_memopt::memory::Bytes;
use burn_memopt::precision::Precision;

use super::super::{
    InpaintConfig, NEIGHBOR_LENGTHS, REF_STRIDES, SUBVIDEO_LENGTHS, Setting, WORKING_MEMORY,
    Workload,
};

/// Values that a setting may have, the best first.
#[derive(Debug, Clone, PartialEq)]
pub struct Ladder<T> {
    steps: Vec<T>,
    /// Why there is only one.
    why_only: &'static str,
}

impl<T: Copy> Ladder<T> {
    /// These values.
    ///
    /// # Panics
    /// If there is none.
    pub fn of(steps: impl Into<Vec<T>>) -> Self {
        Self::with(steps.into(), "nothing smaller is possible")
    }

    /// The value that was given, which stays.
    pub fn given(value: T) -> Self {
        Self::with(vec![value], "as given")
    }

    /// This value, and why no other.
    pub fn only(value: T, why: &'static str) -> Self {
        Self::with(vec![value], why)
    }

    fn with(steps: Vec<T>, why_only: &'static str) -> Self {
        assert!(!steps.is_empty(), "a setting must have a value, got none");
        Self { steps, why_only }
    }
}

/// What is to be completed, within which budget, and which settings may be chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetRequest {
    /// The most bytes that may be live, weights included.
    pub budget: Bytes,
    /// Frames of the video.
    pub num_frames: usize,
    /// What is live besides, such as frames that are read.
    pub beside: Bytes,
    /// Videos that are worked on at a time, with the same weights.
    pub side_by_side: usize,
    /// Whether the networks compute in the memory of the host.
    pub on_host: bool,
    /// What is not chosen, such as the iterations of the flow.
    pub config: InpaintConfig,
    /// Height and width.
    pub sizes: Ladder<[usize; 2]>,
    /// Frames from one reference to the next.
    pub ref_strides: Ladder<usize>,
    /// Frames of a neighbourhood.
    pub neighbor_lengths: Ladder<usize>,
    /// Frames of a sub-video.
    pub subvideo_lengths: Ladder<usize>,
    /// What flow completion and the generator compute in.
    pub precisions: Ladder<Precision>,
    /// What is computed at a time where work can be divided.
    pub working: Ladder<Bytes>,
}

impl BudgetRequest {
    /// A video of `num_frames` frames of `size` on the host, in f32; every length may be chosen.
    pub fn new(budget: Bytes, size: [usize; 2], num_frames: usize) -> Self {
        Self {
            budget,
            num_frames,
            beside: Bytes::ZERO,
            side_by_side: 1,
            on_host: true,
            config: InpaintConfig::default(),
            sizes: Ladder::given(size),
            ref_strides: Ladder::of(REF_STRIDES),
            neighbor_lengths: Ladder::of(NEIGHBOR_LENGTHS),
            subvideo_lengths: Ladder::of(SUBVIDEO_LENGTHS),
            precisions: Ladder::given(Precision::F32),
            working: Ladder::of(WORKING_MEMORY),
        }
    }

    /// What completes the video with the values at `places` of the ladders.
    pub(super) fn workload(&self, places: &Places) -> Workload {
        let at = |setting: Setting| places.0[place(setting)];
        Workload {
            size: self.sizes.steps[at(Setting::Size)],
            num_frames: self.num_frames,
            precision: self.precisions.steps[at(Setting::Precision)],
            on_host: self.on_host,
            working: self.working.steps[at(Setting::WorkingMemory)],
            config: InpaintConfig {
                ref_stride: self.ref_strides.steps[at(Setting::RefStride)],
                neighbor_length: self.neighbor_lengths.steps[at(Setting::NeighborLength)],
                subvideo_length: self.subvideo_lengths.steps[at(Setting::SubvideoLength)],
                ..self.config.clone()
            },
        }
        .divided()
    }

    pub(super) fn peak(&self, places: &Places) -> Bytes {
        self.workload(places).peak(self.side_by_side) + self.beside
    }

    /// How many values a setting may have, and why it is one only.
    pub(super) fn ladder(&self, setting: Setting) -> (usize, &'static str) {
        fn of<T>(ladder: &Ladder<T>) -> (usize, &'static str) {
            (ladder.steps.len(), ladder.why_only)
        }
        match setting {
            Setting::Size => of(&self.sizes),
            Setting::RefStride => of(&self.ref_strides),
            Setting::NeighborLength => of(&self.neighbor_lengths),
            Setting::SubvideoLength => of(&self.subvideo_lengths),
            Setting::Precision => of(&self.precisions),
            Setting::RaftClip | Setting::WorkingMemory => of(&self.working),
        }
    }
}

/// The settings that are chosen, in the order in which they are: what is the last to be given up
/// comes first, and takes the best value with which the least of all others fit.
pub(super) const ORDER: [Setting; 6] = [
    Setting::Size,
    Setting::RefStride,
    Setting::NeighborLength,
    Setting::SubvideoLength,
    Setting::Precision,
    Setting::WorkingMemory,
];

/// For each setting of [`ORDER`], which value of its ladder it has.
#[derive(Clone, Copy)]
pub(super) struct Places(pub(super) [usize; ORDER.len()]);

/// The place of a setting in [`ORDER`].
pub(super) fn place(setting: Setting) -> usize {
    let place = ORDER.iter().position(|known| *known == setting);
    place.expect("invariant: every chosen setting has a place in the order")
}
