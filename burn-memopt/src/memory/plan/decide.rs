use super::reason::reasons;
use super::technique::Pass;
use super::way::{Price, Way, ways};
use super::{Choice, Request, Technique};
use crate::memory::Bytes;

/// No way to compute stays within the budget.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a budget of {budget} is below the least that any settings need, {}: allow that, or make the \
     images or the network smaller",
    least.to_advise()
)]
pub struct BudgetError {
    /// The budget asked for.
    pub budget: Bytes,
    /// The least that would do.
    pub least: Bytes,
}

/// The cheapest of the ways that `techniques` allow whose predicted peak stays within the budget.
///
/// A larger budget never costs more.
///
/// # Errors
/// [`BudgetError`] with the least that would do.
///
/// # Panics
/// If there is no technique.
pub fn decide(request: &Request, techniques: &[Technique]) -> Result<Choice, BudgetError> {
    assert!(
        !techniques.is_empty(),
        "techniques must be at least one, got none"
    );
    let ways = ways(request, techniques);
    let mut best: Option<(Price, Way, Pass)> = None;
    for way in &ways {
        // What it costs before anything is recomputed is never more than what it costs at last.
        let is_hopeless = |(price, ..): &(Price, Way, Pass)| *price <= way.price(request, 0.0);
        if best.as_ref().is_some_and(is_hopeless) {
            continue;
        }
        let Some(pass) = way.within(request) else {
            continue;
        };
        let price = way.price(request, pass.recomputed);
        if best.as_ref().is_none_or(|(least, ..)| price < *least) {
            best = Some((price, *way, pass));
        }
    }
    let Some((price, way, pass)) = best else {
        let least = ways.iter().map(|way| way.least(request)).min();
        return Err(BudgetError {
            budget: request.budget,
            least: least.unwrap_or(Bytes::MAX),
        });
    };
    Ok(Choice {
        precision: way.technique.precision(),
        policy: pass.policy,
        micro_batch_size: way.micro_batch_size,
        accumulation_steps: way.accumulation_steps,
        tile: way.tile,
        recomputed: pass.recomputed,
        predicted_peak: way.beside(request) + pass.peak,
        reasons: reasons(request, &ways, &way, &pass),
        technique: way.index,
        cut: pass.cut,
        price,
    })
}
