use std::cmp::Ordering;
use std::error::Error;

use serde::{Deserialize, Serialize};

use super::{BudgetError, Choice, Request, Technique, decide};
use crate::memory::Bytes;

/// Choices that are run before the planner gives up.
const MAX_ROUNDS: usize = 8;
/// Largest difference of a measured peak from a prediction that stands, as a share of it.
const TOLERANCE: f64 = 0.1;

/// A choice that was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// Highest live bytes by the prediction.
    pub predicted: Bytes,
    /// Highest live bytes measured.
    pub measured: Bytes,
}

/// A choice that was run and keeps its budget.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verified {
    /// The settings, with the corrected prediction.
    pub choice: Choice,
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
    /// Predictions went on to be wrong.
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

/// Decides, runs the choice, corrects what was predicted, and decides again until a choice keeps
/// the budget and its prediction.
///
/// `run` takes two real steps with the settings and tells the peak of the second, above what was
/// live before it, as [`peak_of_step`](crate::memory::estimate::peak_of_step) does. A prediction
/// stands if the peak is at most 10 % from it. One that does not is corrected by what was measured,
/// for all choices of the same technique: a peak below it may allow a cheaper choice. One percent of
/// the budget is left free, for what differs from run to run. A few choices are run at most.
///
/// Where no settings are predicted to fit, the ones that need least are run, unless they need more
/// than [`Request::with_trial_limit`] allows: so the least that an error says is a measured one.
///
/// # Errors
/// [`VerifyError`] if no settings stay within the budget, or a run fails.
///
/// # Panics
/// If there is no technique.
pub fn verified<E: Error + 'static>(
    request: &Request,
    techniques: Vec<Technique>,
    run: impl FnMut(&Choice) -> Result<Bytes, E>,
) -> Result<Verified, VerifyError<E>> {
    let usable = request.budget - Bytes::new(request.budget.get() / 100);
    let mut search = Search {
        techniques,
        run,
        rounds: Vec::new(),
    };
    let mut target = usable;
    let mut tried = None;
    while search.has_rounds() {
        match search.settle(&request.clone().with_budget(target)) {
            Ok(found) if found.measured_peak <= usable => return Ok(found),
            Ok(found) => {
                let least = found.measured_peak.max(found.choice.predicted_peak);
                tried = Some(least);
                break;
            }
            Err(VerifyError::Budget(error)) => {
                tried = Some(error.least);
                if error.least > request.trial_limit {
                    break;
                }
                target = error.least;
            }
            Err(error) => return Err(error),
        }
    }
    match tried {
        Some(least) => Err(VerifyError::Budget(BudgetError {
            budget: request.budget,
            least: least + Bytes::new(least.get().div_ceil(99)),
        })),
        None => Err(search.unsettled(request.budget)),
    }
}

/// A search for settings that hold, with what it has learned.
struct Search<R> {
    techniques: Vec<Technique>,
    run: R,
    rounds: Vec<Round>,
}

impl<R> Search<R> {
    fn has_rounds(&self) -> bool {
        self.rounds.len() < MAX_ROUNDS
    }

    fn unsettled<E: Error + 'static>(&self, budget: Bytes) -> VerifyError<E> {
        VerifyError::Unsettled {
            budget,
            last: self
                .rounds
                .last()
                .map_or(Bytes::ZERO, |round| round.measured),
        }
    }

    /// Runs choices within the budget of `request` until one holds.
    fn settle<E: Error + 'static>(&mut self, request: &Request) -> Result<Verified, VerifyError<E>>
    where
        R: FnMut(&Choice) -> Result<Bytes, E>,
    {
        let mut kept: Vec<(Choice, Bytes)> = Vec::new();
        while self.has_rounds() {
            let choice = match decide(request, &self.techniques) {
                Ok(choice) => choice,
                // What was run and fitted does, whatever a correction says of it.
                Err(_) if !kept.is_empty() => break,
                Err(error) => return Err(error.into()),
            };
            if kept.iter().any(|(earlier, _)| earlier.runs_as(&choice)) {
                break;
            }
            let round = self.run(request, &choice)?;
            let fits = round.measured <= request.budget;
            let holds = fits && is_near(round.measured, round.predicted);
            if fits {
                kept.push((choice, round.measured));
            }
            if holds {
                break;
            }
        }
        let price = |(choice, _): &(Choice, Bytes)| choice.price;
        let order = |a: &_, b: &_| price(a).partial_cmp(&price(b)).unwrap_or(Ordering::Equal);
        let Some((mut choice, measured_peak)) = kept.into_iter().min_by(order) else {
            return Err(self.unsettled(request.budget));
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
    fn run<E: Error + 'static>(
        &mut self,
        request: &Request,
        choice: &Choice,
    ) -> Result<Round, VerifyError<E>>
    where
        R: FnMut(&Choice) -> Result<Bytes, E>,
    {
        let step = (self.run)(choice).map_err(|source| VerifyError::Run {
            settings: in_short(choice),
            source,
        })?;
        let round = Round {
            predicted: choice.predicted_peak,
            measured: request.resident + step,
        };
        self.rounds.push(round);
        if round.measured > request.budget || !is_near(round.measured, round.predicted) {
            self.techniques[choice.technique].correct(request, choice, step);
        }
        Ok(round)
    }
}

fn is_near(measured: Bytes, predicted: Bytes) -> bool {
    let difference = measured.get().abs_diff(predicted.get());
    difference as f64 <= TOLERANCE * predicted.get() as f64
}

fn in_short(choice: &Choice) -> String {
    let values: Vec<_> = choice
        .reasons
        .iter()
        .map(|reason| format!("{} {}", reason.setting, reason.value))
        .collect();
    values.join(", ")
}

impl Technique {
    /// Scales its predictions so that `choice` would have been predicted as it was measured.
    fn correct(&mut self, request: &Request, choice: &Choice, measured: Bytes) {
        let waits = request.is_training && choice.accumulation_steps > 1;
        let beside = if waits {
            request.gradients
        } else {
            Bytes::ZERO
        };
        let predicted = choice.predicted_peak - request.resident - beside;
        let measured = measured - beside;
        if predicted > Bytes::ZERO && measured > Bytes::ZERO {
            self.correction *= measured.get() as f64 / predicted.get() as f64;
        }
    }
}
