//! Settings in the order of what they cost, and which of them fit.
//!
//! Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::memory::Bytes;

/// Settings to choose from, the cheapest first, each with its predicted peak.
///
/// What is cheap is up to whoever orders them: usually what takes the least time, and gives the same
/// results as without a budget.
///
/// # Example
/// ```
/// use burn_memopt::budget::Ladder;
/// use burn_memopt::memory::Bytes;
///
/// // Frames at a time: the more, the faster.
/// let ladder = Ladder::new([16_u64, 8, 4, 2, 1], |frames| Bytes::mib(100) + Bytes::mib(50) * *frames);
/// assert_eq!(ladder.within(Bytes::mib(400)), Ok((&4, Bytes::mib(300))));
/// assert_eq!(ladder.within(Bytes::mib(100)).unwrap_err().least, Bytes::mib(150));
/// ```
#[derive(Debug, Clone)]
pub struct Ladder<S> {
    rungs: Vec<(S, Bytes)>,
}

impl<S> Ladder<S> {
    /// Predicts the peak of each of `settings`, which come in the order of what they cost.
    ///
    /// # Panics
    /// If there are none.
    pub fn new(settings: impl IntoIterator<Item = S>, mut peak: impl FnMut(&S) -> Bytes) -> Self {
        let with_peak = |settings| {
            let peak = peak(&settings);
            (settings, peak)
        };
        Self::with_peaks(settings.into_iter().map(with_peak).collect())
    }

    /// Settings whose peaks are known, in the order of what they cost.
    ///
    /// # Panics
    /// If there are none.
    pub(super) fn with_peaks(rungs: Vec<(S, Bytes)>) -> Self {
        assert!(
            !rungs.is_empty(),
            "there must be settings to choose from, got none"
        );
        Self { rungs }
    }

    /// The cheapest settings whose predicted peak stays within the budget, and that peak.
    ///
    /// # Errors
    /// [`BudgetError`] with the least that would do.
    pub fn within(&self, budget: Bytes) -> Result<(&S, Bytes), BudgetError> {
        let fitting = self.rungs.iter().find(|(_, peak)| *peak <= budget);
        match fitting {
            Some((settings, peak)) => Ok((settings, *peak)),
            None => Err(BudgetError {
                budget,
                least: self.lowest().1,
                with: None,
            }),
        }
    }

    /// The settings with the lowest peak; of several, the last.
    pub fn lowest(&self) -> (&S, Bytes) {
        let lowest = self.rungs.iter().rev().min_by_key(|(_, peak)| *peak);
        let (settings, peak) = lowest.expect("invariant: a ladder is not empty");
        (settings, *peak)
    }

    /// Why settings that are cheaper in some way were not chosen: the least that those which
    /// `is_meant` selects would need. `what` is their name.
    pub fn why_not(&self, what: impl fmt::Display, is_meant: impl Fn(&S) -> bool) -> String {
        let meant = self.rungs.iter().filter(|(settings, _)| is_meant(settings));
        match meant.map(|(_, peak)| peak).min() {
            Some(least) => format!("{what} would need at least {least}"),
            None => format!("{what} was not asked for"),
        }
    }
}

/// Settings that keep a budget, and why each is what it is.
///
/// [`Display`](fmt::Display) has a line for each setting, then the predicted peak. `K` names a setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice<S, K> {
    /// What was chosen.
    #[serde(flatten)]
    pub settings: S,
    /// Highest live bytes.
    pub predicted_peak: Bytes,
    /// Why.
    pub reasons: Vec<Reason<K>>,
}

/// A setting and why it was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason<K> {
    /// What was chosen.
    pub setting: K,
    /// The choice.
    pub value: String,
    /// Why not another.
    pub why: String,
}

impl<K: fmt::Display> fmt::Display for Reason<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<16} {:<18} {}", self.setting, self.value, self.why)
    }
}

impl<S, K: fmt::Display> fmt::Display for Choice<S, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for reason in &self.reasons {
            writeln!(f, "{reason}")?;
        }
        write!(f, "{:<16} {}", "predicted peak", self.predicted_peak)
    }
}

/// No settings stay within a budget.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a budget of {budget} is below the least that is needed{}: allow {}, or make the input, the batch \
     or the model smaller",
    with.as_ref().map_or_else(String::new, |with| format!(", with {with}")),
    least.to_advise()
)]
pub struct BudgetError {
    /// The budget asked for.
    pub budget: Bytes,
    /// The least budget that would do.
    pub least: Bytes,
    /// The settings that need so little, where there are some to name.
    pub with: Option<String>,
}
