//! From a budget of memory to the settings that keep it, each with its reason.
//!
//! Pure.

use burn_memopt::budget::{BudgetError, Choice, Ladder, Reason};
use burn_memopt::memory::Bytes;
use burn_memopt::precision::Precision;

use super::{
    InpaintConfig, NEIGHBOR_LENGTHS, REF_STRIDES, SUBVIDEO_LENGTHS, Setting, WORKING_MEMORY,
    Workload,
};

/// Values that a setting may have, the best first.
#[derive(Debug, Clone, PartialEq)]
pub struct Values<T> {
    values: Vec<T>,
    /// Why there is only one.
    why_only: &'static str,
}

impl<T: Copy> Values<T> {
    /// These values.
    ///
    /// # Panics
    /// If there is none.
    pub fn new(values: impl Into<Vec<T>>) -> Self {
        let values = values.into();
        assert!(!values.is_empty(), "a setting must have a value, got none");
        Self {
            values,
            why_only: "nothing smaller is possible",
        }
    }

    /// The value that was given, which stays.
    pub fn given(value: T) -> Self {
        Self::only(value, "as given")
    }

    /// This value, and why no other.
    pub fn only(value: T, why: &'static str) -> Self {
        Self {
            values: vec![value],
            why_only: why,
        }
    }
}

/// What is to be completed, within which budget, and which settings may be chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetRequest {
    /// The most bytes that may be live, weights included.
    pub budget: Bytes,
    /// Frames of the video.
    pub num_frames: usize,
    /// What else is live, such as frames that are read.
    pub beside: Bytes,
    /// Videos that are worked on at a time, with the same weights.
    pub side_by_side: usize,
    /// Whether the networks compute in the memory of the host.
    pub on_host: bool,
    /// What is not chosen, such as the iterations of the flow.
    pub config: InpaintConfig,
    /// Height and width.
    pub sizes: Values<[usize; 2]>,
    /// Frames from one reference to the next.
    pub ref_strides: Values<usize>,
    /// Frames of a neighbourhood.
    pub neighbor_lengths: Values<usize>,
    /// Frames of a sub-video.
    pub subvideo_lengths: Values<usize>,
    /// What flow completion and the generator compute in.
    pub precisions: Values<Precision>,
    /// What is computed at a time where work can be divided.
    pub working: Values<Bytes>,
}

/// The settings that are chosen. Those that are lowered last come first.
const SETTINGS: [Setting; 6] = [
    Setting::Size,
    Setting::RefStride,
    Setting::NeighborLength,
    Setting::SubvideoLength,
    Setting::Precision,
    Setting::WorkingMemory,
];

/// For each of [`SETTINGS`], the index of its value.
type Indices = [usize; SETTINGS.len()];

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
            sizes: Values::given(size),
            ref_strides: Values::new(REF_STRIDES),
            neighbor_lengths: Values::new(NEIGHBOR_LENGTHS),
            subvideo_lengths: Values::new(SUBVIDEO_LENGTHS),
            precisions: Values::given(Precision::F32),
            working: Values::new(WORKING_MEMORY),
        }
    }

    /// What completes the video with these values.
    fn workload(
        &self,
        [size, stride, neighbors, subvideo, precision, working]: Indices,
    ) -> Workload {
        Workload {
            size: self.sizes.values[size],
            num_frames: self.num_frames,
            precision: self.precisions.values[precision],
            on_host: self.on_host,
            working: self.working.values[working],
            config: InpaintConfig {
                ref_stride: self.ref_strides.values[stride],
                neighbor_length: self.neighbor_lengths.values[neighbors],
                subvideo_length: self.subvideo_lengths.values[subvideo],
                ..self.config.clone()
            },
        }
        .divided()
    }

    /// How many values each setting has, and why it is only one.
    fn counts(&self) -> [(usize, &'static str); SETTINGS.len()] {
        fn count<T>(values: &Values<T>) -> (usize, &'static str) {
            (values.values.len(), values.why_only)
        }
        [
            count(&self.sizes),
            count(&self.ref_strides),
            count(&self.neighbor_lengths),
            count(&self.subvideo_lengths),
            count(&self.precisions),
            count(&self.working),
        ]
    }

    /// Every combination of values, with the peak of each. The last setting is lowered first.
    fn ladder(&self) -> Ladder<Indices> {
        let lens = self.counts().map(|(len, _)| len);
        let combinations = (0..lens.iter().product()).map(|mut number: usize| {
            // The digits of a number whose places have these many values each.
            let mut indices = [0; SETTINGS.len()];
            for (index, len) in indices.iter_mut().zip(lens).rev() {
                (*index, number) = (number % len, number / len);
            }
            indices
        });
        Ladder::new(combinations, |indices| {
            self.workload(*indices).peak(self.side_by_side) + self.beside
        })
    }
}

/// Chooses the settings that keep a budget and come closest to those of ProPainter.
///
/// What costs only time is lowered first: less is computed at a time. Then, one after the other, the
/// precision, the length of sub-videos and of neighbourhoods, the references and, last, the size
/// get smaller, each no more than needed.
///
/// # Errors
/// If the least of all settings needs more, with how much that is.
///
/// # Example
/// ```
/// use burn_memopt::memory::Bytes;
/// use burn_memopt_models::propainter::inpaint::{BudgetRequest, choose};
///
/// let request = |mib| BudgetRequest::new(Bytes::mib(mib), [240, 432], 80);
/// let ample = choose(&request(1 << 20))?;
/// assert_eq!(ample.settings.config.subvideo_length, 80);
/// let tight = choose(&request(1024))?;
/// assert!(tight.settings.config.subvideo_length < 80);
/// assert!(tight.predicted_peak <= Bytes::mib(1024));
/// assert!(choose(&request(1)).unwrap_err().least > Bytes::mib(1));
/// # Ok::<(), burn_memopt::budget::BudgetError>(())
/// ```
pub fn choose(request: &BudgetRequest) -> Result<Choice<Workload, Setting>, BudgetError> {
    let ladder = request.ladder();
    let (&chosen, predicted_peak) = ladder.within(request.budget).map_err(|error| {
        // Of several that need as little, the one with the lowest value of every setting.
        let lowest = request.workload(request.counts().map(|(len, _)| len - 1));
        let named = SETTINGS.map(|setting| format!("{setting} {}", value(setting, &lowest)));
        BudgetError {
            with: Some(named.join(", ")),
            ..error
        }
    })?;
    let settings = request.workload(chosen);
    let counts = request.counts().into_iter();
    let reasons = SETTINGS.into_iter().zip(counts).enumerate().rev();
    let reasons = reasons.map(|(place, (setting, (len, why_only)))| Reason {
        setting,
        value: value(setting, &settings),
        why: match chosen[place].checked_sub(1) {
            None if len == 1 => why_only.into(),
            None => best(setting).into(),
            Some(better) => {
                let mut with_better = chosen;
                with_better[place] = better;
                let what = value(setting, &request.workload(with_better));
                ladder.why_not(what, |other| other[..=place] == with_better[..=place])
            }
        },
    });
    Ok(Choice {
        reasons: reasons.collect(),
        predicted_peak,
        settings,
    })
}

fn best(setting: Setting) -> &'static str {
    match setting {
        Setting::Size => "the whole size stays within the budget",
        Setting::Precision => "full precision stays within the budget",
        Setting::RaftClip | Setting::WorkingMemory => "what is fastest stays within the budget",
        Setting::SubvideoLength | Setting::NeighborLength | Setting::RefStride => {
            "that of ProPainter stays within the budget"
        }
    }
}

fn value(setting: Setting, workload: &Workload) -> String {
    let config = &workload.config;
    match setting {
        Setting::Size => format!("{}×{}", workload.size[0], workload.size[1]),
        Setting::Precision => workload.precision.to_string(),
        Setting::SubvideoLength => config.subvideo_length.to_string(),
        Setting::NeighborLength => config.neighbor_length.to_string(),
        Setting::RefStride => config.ref_stride.to_string(),
        Setting::RaftClip | Setting::WorkingMemory => workload.working.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_choice_keeps_the_budget_and_a_larger_budget_chooses_no_smaller_size(
            mib in 200_u64..20_000, more in 0_u64..4000, height in 8_usize..90, width in 8_usize..160,
            num_frames in 1_usize..200,
        ) {
            let size = [8 * height, 8 * width];
            let halves = [size, size.map(|side| (side / 16 * 8).max(64))];
            let request = |mib| BudgetRequest {
                sizes: Values::new(halves),
                precisions: Values::new([Precision::F32, Precision::F16]),
                ..BudgetRequest::new(Bytes::mib(mib), size, num_frames)
            };
            match (choose(&request(mib)), choose(&request(mib + more))) {
                (Ok(choice), Ok(larger)) => {
                    prop_assert!(choice.predicted_peak <= Bytes::mib(mib));
                    prop_assert!(larger.settings.size >= choice.settings.size);
                    prop_assert_eq!(choice.reasons.len(), SETTINGS.len());
                }
                (Ok(_), Err(error)) => panic!("{error}"),
                (Err(error), _) => {
                    prop_assert!(error.least > Bytes::mib(mib));
                    // What is said to do does.
                    let least = BudgetRequest { budget: error.least, ..request(0) };
                    prop_assert!(choose(&least).is_ok());
                }
            }
        }
    }

    #[test]
    fn what_is_given_stays_and_everything_says_why() {
        let request = BudgetRequest {
            neighbor_lengths: Values::given(7),
            precisions: Values::only(Precision::F32, "the device has no other"),
            ..BudgetRequest::new(Bytes::mib(1024), [240, 432], 80)
        };
        let choice = choose(&request).unwrap();
        assert_eq!(choice.settings.config.neighbor_length, 7);
        let text = choice.to_string();
        for line in [
            "neighbour length 7                  as given",
            "precision        f32                the device has no other",
            "size             240×432            as given",
            "would need at least",
            "predicted peak",
        ] {
            assert!(text.contains(line), "no {line:?} in\n{text}");
        }
    }

    #[test]
    fn an_impossible_budget_says_the_least_that_would_do() {
        let error = choose(&BudgetRequest::new(Bytes::mib(10), [64, 64], 8)).unwrap_err();
        let text = error.to_string();
        let least = format!("allow {}", error.least.to_advise());
        for part in [
            "a budget of 10.0 MiB is below the least",
            &least,
            "64×64",
            "sub-video length 5",
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }
}
