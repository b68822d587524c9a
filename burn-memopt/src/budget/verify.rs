//! Choices that are run, and predictions that are corrected.
//!
//! Pure.

use std::error::Error;

use serde::{Deserialize, Serialize};

use super::request::Request;
use super::step::{StepSetting, StepSettings, choose};
use super::technique::Technique;
use super::{BudgetError, Choice, TOLERANCE, budget_for, usable};
use crate::memory::Bytes;

/// Choices that are run before the search gives up.
pub(crate) const MAX_ROUNDS: usize = 8;

/// A choice that was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// Highest live bytes by the prediction.
    pub predicted: Bytes,
    /// Highest live bytes measured.
    pub measured: Bytes,
}

/// A choice that was run and keeps its budget: of settings `S`, which `K` names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verified<S = StepSettings, K = StepSetting> {
    /// The settings, with the corrected prediction.
    #[serde(flatten)]
    pub choice: Choice<S, K>,
    /// Highest live bytes when they ran.
    pub measured_peak: Bytes,
    /// Every choice that was run, this one included, in their order.
    pub rounds: Vec<Round>,
}

/// Why there is no verified choice.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError<E: Error + 'static> {
    /// No settings stay within the budget, by predictions that runs have corrected.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// A choice could not be run.
    #[error("cannot run the chosen settings, {settings}")]
    Run {
        /// The settings in short.
        settings: String,
        /// Why.
        #[source]
        source: E,
    },
    /// Predictions remained wrong.
    #[error(
        "no settings kept the budget of {budget} in {} runs; the last took {last}: allow more",
        MAX_ROUNDS
    )]
    Unsettled {
        /// The budget asked for.
        budget: Bytes,
        /// What the last choice took.
        last: Bytes,
    },
}

/// Chooses, runs the choice, corrects what was predicted, and chooses again until a choice keeps the
/// budget and its prediction.
///
/// `run` takes two real steps with the settings and returns the peak of the second, above what was
/// live before it, as [`peak_of_step`](crate::memory::estimate::peak_of_step) does. A prediction
/// holds if the peak is at most 10 % from it. One that does not is corrected by what was measured,
/// for all choices of the same technique: a peak below it may allow a cheaper choice. One percent of
/// the budget is left free, for what differs from run to run. A few choices are run at most.
///
/// Where no settings are predicted to fit, the ones that need least are run, unless they need more
/// than [`Request::trial_limit`] allows: so the least that an error names is a measured one.
///
/// # Errors
/// [`VerifyError`] if no settings stay within the budget, or a run fails.
///
/// # Panics
/// If there is no technique.
pub fn verify<E: Error + 'static>(
    request: &Request,
    mut techniques: Vec<Technique>,
    mut run: impl FnMut(&StepSettings) -> Result<Bytes, E>,
) -> Result<Verified, VerifyError<E>> {
    let target = usable(request.budget);
    // Raised to the least that is needed where nothing fits.
    let mut within = Request {
        budget: target,
        ..request.clone()
    };
    let mut rounds: Vec<Round> = Vec::new();
    let mut fitting: Vec<Verified> = Vec::new();
    while rounds.len() < MAX_ROUNDS {
        let choice = match choose(&within, &techniques) {
            Ok(choice) => choice,
            // What fitted when it ran will do, whatever a correction says of it.
            Err(_) if !fitting.is_empty() => break,
            Err(error) if error.least > request.trial_limit => {
                return Err(too_small(request, error.least));
            }
            Err(error) => {
                within.budget = error.least;
                continue;
            }
        };
        let settings = &choice.settings;
        let ran_before = |found: &Verified| found.choice.settings.runs_as(settings);
        if fitting.iter().any(ran_before) {
            break;
        }
        let step = run(settings).map_err(|source| VerifyError::Run {
            settings: in_short(&choice),
            source,
        })?;
        let (predicted, measured) = (choice.predicted_peak, request.resident + step);
        rounds.push(Round {
            predicted,
            measured,
        });
        let (fits, holds) = (measured <= within.budget, is_near(measured, predicted));
        if !fits || !holds {
            techniques[settings.technique].correct(
                predicted - request.held(settings.accumulation_steps),
                step - request.waiting(settings.accumulation_steps),
            );
        }
        if fits {
            fitting.push(Verified {
                choice,
                measured_peak: measured,
                rounds: Vec::new(),
            });
            if holds {
                break;
            }
        }
    }
    let cheapest = fitting.into_iter().min_by(|one, other| {
        let (one, other) = (&one.choice.settings, &other.choice.settings);
        one.compare_cost(other, request)
    });
    let Some(mut found) = cheapest else {
        return Err(VerifyError::Unsettled {
            budget: request.budget,
            last: rounds.last().map_or(Bytes::ZERO, |round| round.measured),
        });
    };
    let predicted = &mut found.choice.predicted_peak;
    if !is_near(found.measured_peak, *predicted) {
        *predicted = found.measured_peak;
    }
    if found.measured_peak > target {
        return Err(too_small(request, found.measured_peak.max(*predicted)));
    }
    found.rounds = rounds;
    Ok(found)
}

fn too_small<E: Error + 'static>(request: &Request, least: Bytes) -> VerifyError<E> {
    VerifyError::Budget(BudgetError {
        budget: request.budget,
        least: budget_for(least),
        with: None,
    })
}

pub(crate) fn is_near(measured: Bytes, predicted: Bytes) -> bool {
    let difference = measured.get().abs_diff(predicted.get());
    difference as f64 <= TOLERANCE * predicted.get() as f64
}

fn in_short(choice: &Choice<StepSettings, StepSetting>) -> String {
    let reasons = choice.reasons.iter();
    let values = reasons.map(|reason| format!("{} {}", reason.setting, reason.value));
    values.collect::<Vec<_>>().join(", ")
}
