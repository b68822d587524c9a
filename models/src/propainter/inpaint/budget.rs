//! From a budget of memory to the settings that keep it, each with its reason; pure.

mod request;

use std::fmt;

use burn_memopt::memory::Bytes;
use serde::Serialize;

pub use self::request::{BudgetRequest, Ladder};
use self::request::{ORDER, Places, place};
use super::{Setting, Workload};

/// A setting and why it was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// What was chosen.
    pub setting: Setting,
    /// The choice.
    pub value: String,
    /// Why not another.
    pub why: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<16} {:<18} {}", self.setting, self.value, self.why)
    }
}

/// Settings that keep a budget, and why each was chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct BudgetChoice {
    /// What is to be computed, and how.
    pub workload: Workload,
    /// Highest live bytes.
    pub predicted_peak: Bytes,
    /// Why every setting is what it is.
    pub reasons: Vec<Reason>,
}

impl fmt::Display for BudgetChoice {
    /// A setting a line with its reason, then the predicted peak.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for reason in &self.reasons {
            writeln!(f, "{reason}")?;
        }
        write!(f, "{:<16} {}", "predicted peak", self.predicted_peak)
    }
}

/// No settings keep a budget.
#[derive(thiserror::Error, Debug, Clone, PartialEq, Eq)]
#[error(
    "{budget} are too little to complete this video: it needs at least {least}, with {with}; give \
     that much, or leave out flags that ask for more"
)]
pub struct BudgetError {
    /// What was given.
    pub budget: Bytes,
    /// The least that would do.
    pub least: Bytes,
    /// The settings that need so little.
    pub with: String,
}

/// Chooses the settings that keep a budget and come closest to those of ProPainter.
///
/// What costs time alone goes first: less is computed at a time. Then, one after the other, the
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
/// assert_eq!(ample.workload.config.subvideo_length, 80);
/// let tight = choose(&request(1024))?;
/// assert!(tight.workload.config.subvideo_length < 80);
/// assert!(tight.predicted_peak <= Bytes::mib(1024));
/// assert!(choose(&request(1)).unwrap_err().least > Bytes::mib(1));
/// # Ok::<(), burn_memopt_models::propainter::inpaint::BudgetError>(())
/// ```
pub fn choose(request: &BudgetRequest) -> Result<BudgetChoice, BudgetError> {
    let mut places = Places(ORDER.map(|setting| request.ladder(setting).0 - 1));
    let mut reasons = Vec::new();
    for setting in ORDER {
        let (len, why_only) = request.ladder(setting);
        let with = |step: usize| {
            let mut places = places;
            places.0[place(setting)] = step;
            places
        };
        let fitting = (0..len).find(|&step| request.peak(&with(step)) <= request.budget);
        let Some(step) = fitting else {
            return Err(BudgetError {
                budget: request.budget,
                least: whole_mebibytes(request.peak(&places)),
                with: described(&request.workload(&places)),
            });
        };
        let why = match step.checked_sub(1) {
            None if len == 1 => why_only.into(),
            None => best(setting).into(),
            Some(better) => {
                let better = with(better);
                let value = value(setting, &request.workload(&better));
                format!("{value} would need at least {}", request.peak(&better))
            }
        };
        places = with(step);
        reasons.push((setting, why));
    }
    let workload = request.workload(&places);
    let reasons = reasons.into_iter().rev().map(|(setting, why)| Reason {
        setting,
        value: value(setting, &workload),
        why,
    });
    Ok(BudgetChoice {
        reasons: reasons.collect(),
        predicted_peak: request.peak(&places),
        workload,
    })
}

/// As it is shown, so that what is shown is enough.
fn whole_mebibytes(bytes: Bytes) -> Bytes {
    Bytes::mib(bytes.get().div_ceil(1 << 20))
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

fn described(workload: &Workload) -> String {
    let named = ORDER.map(|setting| format!("{setting} {}", value(setting, workload)));
    named.join(", ")
}

#[cfg(test)]
mod tests {
    use burn_memopt::precision::Precision;
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
                sizes: Ladder::of(halves),
                precisions: Ladder::of([Precision::F32, Precision::F16]),
                ..BudgetRequest::new(Bytes::mib(mib), size, num_frames)
            };
            match (choose(&request(mib)), choose(&request(mib + more))) {
                (Ok(choice), Ok(larger)) => {
                    prop_assert!(choice.predicted_peak <= Bytes::mib(mib));
                    prop_assert!(larger.workload.size >= choice.workload.size);
                    prop_assert_eq!(choice.reasons.len(), ORDER.len());
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
            neighbor_lengths: Ladder::given(7),
            precisions: Ladder::only(Precision::F32, "the device has no other"),
            ..BudgetRequest::new(Bytes::mib(1024), [240, 432], 80)
        };
        let choice = choose(&request).unwrap();
        assert_eq!(choice.workload.config.neighbor_length, 7);
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
        let least = error.least.to_string();
        for part in [
            "10.0 MiB are too little",
            &least,
            "64×64",
            "sub-video length 5",
        ] {
            assert!(text.contains(part), "no {part} in {text}");
        }
    }
}
