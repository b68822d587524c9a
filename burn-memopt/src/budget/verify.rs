//! Choices that are run, and predictions that are corrected.
//!
//! Pure.

use std::error::Error;

use serde::{Deserialize, Serialize};

use super::step::{Request, StepSetting, StepSettings, Technique, choose};
use super::{BudgetError, Choice, TOLERANCE, budget_for, usable};
use crate::memory::Bytes;

/// Choices that are run before the search gives up.
const MAX_ROUNDS: usize = 8;

/// A choice that was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// Highest live bytes by the prediction.
    pub predicted: Bytes,
    /// Highest live bytes measured.
    pub measured: Bytes,
}

/// A choice that was run and keeps its budget.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verified {
    /// The settings, with the corrected prediction.
    pub choice: Choice<StepSettings, StepSetting>,
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
    techniques: Vec<Technique>,
    run: impl FnMut(&StepSettings) -> Result<Bytes, E>,
) -> Result<Verified, VerifyError<E>> {
    let target = usable(request.budget);
    let mut search = Search {
        request: Request {
            budget: target,
            ..request.clone()
        },
        techniques,
        run,
        rounds: Vec::new(),
    };
    let mut tried = None;
    while search.has_rounds() {
        match search.settle() {
            Ok(found) if found.measured_peak <= target => return Ok(found),
            Ok(found) => {
                tried = Some(found.measured_peak.max(found.choice.predicted_peak));
                break;
            }
            Err(VerifyError::Budget(error)) => {
                tried = Some(error.least);
                if error.least > request.trial_limit {
                    break;
                }
                search.request.budget = error.least;
            }
            Err(error) => return Err(error),
        }
    }
    Err(match tried {
        Some(least) => VerifyError::Budget(BudgetError {
            budget: request.budget,
            least: budget_for(least),
            with: None,
        }),
        None => search.unsettled(request.budget),
    })
}

/// A search for settings that hold, with what it has learned.
struct Search<R> {
    request: Request,
    techniques: Vec<Technique>,
    run: R,
    rounds: Vec<Round>,
}

impl<E: Error + 'static, R: FnMut(&StepSettings) -> Result<Bytes, E>> Search<R> {
    fn has_rounds(&self) -> bool {
        self.rounds.len() < MAX_ROUNDS
    }

    fn unsettled(&self, budget: Bytes) -> VerifyError<E> {
        let last = self.rounds.last();
        VerifyError::Unsettled {
            budget,
            last: last.map_or(Bytes::ZERO, |round| round.measured),
        }
    }

    /// Runs choices within the budget of the request until one holds.
    fn settle(&mut self) -> Result<Verified, VerifyError<E>> {
        // The choices that fitted when they ran, with their measured peaks.
        let mut fitting: Vec<(Choice<StepSettings, StepSetting>, Bytes)> = Vec::new();
        while self.has_rounds() {
            let choice = match choose(&self.request, &self.techniques) {
                Ok(choice) => choice,
                // What fitted when it ran will do, whatever a correction says of it.
                Err(_) if !fitting.is_empty() => break,
                Err(error) => return Err(error.into()),
            };
            let settings = &choice.settings;
            if fitting
                .iter()
                .any(|(earlier, _)| earlier.settings.runs_as(settings))
            {
                break;
            }
            let Round {
                predicted,
                measured,
            } = self.run(&choice)?;
            if measured <= self.request.budget {
                fitting.push((choice, measured));
                if is_near(measured, predicted) {
                    break;
                }
            }
        }
        let cheapest = fitting.into_iter().min_by(|(one, _), (other, _)| {
            one.settings.compare_cost(&other.settings, &self.request)
        });
        let Some((mut choice, measured_peak)) = cheapest else {
            return Err(self.unsettled(self.request.budget));
        };
        if !is_near(measured_peak, choice.predicted_peak) {
            choice.predicted_peak = measured_peak;
        }
        Ok(Verified {
            choice,
            measured_peak,
            rounds: self.rounds.clone(),
        })
    }

    /// Runs a choice, and corrects the predictions of its technique where this one was wrong.
    fn run(&mut self, choice: &Choice<StepSettings, StepSetting>) -> Result<Round, VerifyError<E>> {
        let settings = &choice.settings;
        let step = (self.run)(settings).map_err(|source| VerifyError::Run {
            settings: in_short(choice),
            source,
        })?;
        let request = &self.request;
        let round = Round {
            predicted: choice.predicted_peak,
            measured: request.resident + step,
        };
        self.rounds.push(round);
        if round.measured > request.budget || !is_near(round.measured, round.predicted) {
            // The technique predicts a pass, without what is live around it.
            let predicted = choice.predicted_peak - request.held(settings.accumulation_steps);
            let measured = step - request.waiting(settings.accumulation_steps);
            if predicted > Bytes::ZERO && measured > Bytes::ZERO {
                self.techniques[settings.technique].correction *=
                    measured.get() as f64 / predicted.get() as f64;
            }
        }
        Ok(round)
    }
}

fn is_near(measured: Bytes, predicted: Bytes) -> bool {
    let difference = measured.get().abs_diff(predicted.get());
    difference as f64 <= TOLERANCE * predicted.get() as f64
}

fn in_short(choice: &Choice<StepSettings, StepSetting>) -> String {
    let reasons = choice.reasons.iter();
    let values = reasons.map(|reason| format!("{} {}", reason.setting, reason.value));
    values.collect::<Vec<_>>().join(", ")
}
