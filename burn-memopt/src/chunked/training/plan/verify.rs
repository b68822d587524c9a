//! Plans of tiles that are run, and predictions that are corrected.

use std::error::Error;

use super::{TilePlan, TilePlanner, TilePolicy, TileSetting};
use crate::budget::{
    BudgetError, MAX_ROUNDS, Round, Verified, VerifyError, budget_for, is_near, usable,
};
use crate::memory::Bytes;

impl TilePlanner {
    /// Plans, runs the plan, corrects what was predicted, and plans again until a plan keeps the budget and its prediction.
    ///
    /// `run` takes two real steps of two batches of tiles and returns the peak of the second, above what was live before
    /// it, as [`peak_of_step`](crate::memory::estimate::peak_of_step) does. As in [`budget::verify`](crate::budget::verify), a
    /// prediction holds if the peak is at most 10 % from it, and one percent of the budget is left free.
    ///
    /// Where no plan is predicted to fit, the one that needs least is run, so that the least which an error names is
    /// a measured one.
    ///
    /// # Errors
    /// [`VerifyError`] if no plan stays within the budget, or a run fails.
    ///
    /// # Panics
    /// If there is no policy.
    pub fn verify<E: Error + 'static>(
        &self,
        budget: Bytes,
        mut policies: Vec<TilePolicy>,
        mut run: impl FnMut(&TilePlan) -> Result<Bytes, E>,
    ) -> Result<Verified<TilePlan, TileSetting>, VerifyError<E>> {
        let target = usable(budget);
        let mut rounds = Vec::new();
        let mut ran: Vec<(TilePlan, Bytes)> = Vec::new();
        let mut best: Option<Verified<TilePlan, TileSetting>> = None;
        while rounds.len() < MAX_ROUNDS {
            let choice = match self.plan(target, &policies) {
                Ok(choice) => choice,
                // What fitted when it ran will do, whatever a correction says of it.
                Err(_) if best.is_some() => break,
                Err(error) => {
                    let lowest = self.plan(error.least, &policies)?;
                    let is_lowest = |(plan, _): &&(TilePlan, Bytes)| *plan == lowest.settings;
                    if let Some((_, measured)) = ran.iter().find(is_lowest) {
                        let least = budget_for(error.least.max(*measured));
                        let error = BudgetError {
                            budget,
                            least,
                            ..error
                        };
                        return Err(error.into());
                    }
                    lowest
                }
            };
            let is_faster = |best: &Verified<TilePlan, TileSetting>| {
                choice.settings.time() < best.choice.settings.time()
            };
            if best.as_ref().is_some_and(|best| !is_faster(best)) {
                break;
            }
            let measured = run(&choice.settings).map_err(|source| VerifyError::Run {
                settings: choice.settings.to_string(),
                source,
            })?;
            ran.push((choice.settings.clone(), measured));
            let predicted = choice.predicted_peak;
            rounds.push(Round {
                predicted,
                measured,
            });
            let holds = is_near(measured, predicted);
            let factor = measured.get() as f64 / predicted.get().max(1) as f64;
            let of_plan = |policy: &&mut TilePolicy| policy.policy == choice.settings.policy;
            if let Some(policy) = policies.iter_mut().find(of_plan) {
                policy.cost = policy.cost.scaled(factor);
            }
            if measured <= target {
                best = Some(Verified {
                    choice,
                    measured_peak: measured,
                    rounds: Vec::new(),
                });
                if holds {
                    break;
                }
            }
        }
        let Some(mut best) = best else {
            return Err(VerifyError::Unsettled {
                budget,
                last: rounds.last().map_or(Bytes::ZERO, |round| round.measured),
            });
        };
        let predicted = best.choice.predicted_peak;
        if predicted > target || !is_near(best.measured_peak, predicted) {
            best.choice.predicted_peak = best.measured_peak;
        }
        best.rounds = rounds;
        Ok(best)
    }
}
