use std::cmp::Ordering;
use std::error::Error;

use serde::{Deserialize, Serialize};

use super::{BudgetError, Choice, Request, Technique, decide};
use crate::memory::Bytes;

/// Choices that are run before the planner gives up.
const MAX_ROUNDS: usize = 6;
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
/// for all choices of the same technique: a peak below it may allow a cheaper choice. Six choices
/// are run at most.
///
/// # Errors
/// [`VerifyError`] if no settings stay within the budget, or a run fails.
///
/// # Panics
/// If there is no technique.
pub fn verified<E: Error + 'static>(
    request: &Request,
    mut techniques: Vec<Technique>,
    mut run: impl FnMut(&Choice) -> Result<Bytes, E>,
) -> Result<Verified, VerifyError<E>> {
    let mut rounds: Vec<Round> = Vec::new();
    let mut kept: Vec<(Choice, Bytes)> = Vec::new();
    let mut is_settled = false;
    while !is_settled && rounds.len() < MAX_ROUNDS {
        let choice = match decide(request, &techniques) {
            Ok(choice) => choice,
            // What was run and fitted does, whatever a correction says of it.
            Err(_) if !kept.is_empty() => break,
            Err(error) => return Err(error.into()),
        };
        if kept.iter().any(|(earlier, _)| earlier.runs_as(&choice)) {
            break;
        }
        let step = run(&choice).map_err(|source| VerifyError::Run {
            settings: in_short(&choice),
            source,
        })?;
        let (predicted, measured) = (choice.predicted_peak, request.resident + step);
        rounds.push(Round {
            predicted,
            measured,
        });
        let fits = measured <= request.budget;
        is_settled = fits && is_near(measured, predicted);
        if !is_settled {
            techniques[choice.technique].correct(request, &choice, step);
        }
        if fits {
            kept.push((choice, measured));
        }
    }
    let cheaper = |a: &Choice, b: &Choice| a.price.partial_cmp(&b.price).unwrap_or(Ordering::Equal);
    let best = kept.into_iter().min_by(|(a, _), (b, _)| cheaper(a, b));
    let Some((mut choice, measured_peak)) = best else {
        return Err(VerifyError::Unsettled {
            budget: request.budget,
            last: rounds.last().map_or(Bytes::ZERO, |round| round.measured),
        });
    };
    if !is_near(measured_peak, choice.predicted_peak) {
        choice.predicted_peak = measured_peak;
    }
    Ok(Verified {
        choice,
        measured_peak,
        rounds,
    })
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
