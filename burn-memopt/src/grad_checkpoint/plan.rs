use core::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Span;
use crate::memory::Bytes;

/// What one block of a chain costs in a training step, measured on a sample
/// ([`profile`](super::profile())) or estimated.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BlockCost {
    /// Bytes of the block's output.
    pub output: Bytes,
    /// Index of the last block that reads the output: the next one, or a later
    /// one where the output is also a skip connection.
    pub last_use: usize,
    /// Bytes that stay live after a recorded forward pass, the output included.
    pub kept: Bytes,
    /// Highest bytes during an unrecorded forward pass, the output included.
    pub forward_peak: Bytes,
    /// Highest bytes during the backward pass, above those live at its start
    /// (`kept` and the gradient of the output); gradients that stay are counted.
    pub backward_peak: Bytes,
    /// Bytes of the gradients of the block's parameters.
    pub param_grads: Bytes,
    /// Time of one forward pass.
    pub forward: Duration,
}

/// How a chain is cut, and what that is predicted to cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The cut, in order, without gaps.
    pub spans: Vec<Span>,
    /// Highest bytes of the step above those live before it.
    pub predicted_peak: Bytes,
    /// Time of the recomputation: forward passes of the recomputed blocks.
    pub extra_time: Duration,
}

/// No cut of the chain fits the budget.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a budget of {budget} for activations and gradients is below the least that any cut of the \
     model needs, {minimum}: allow {minimum}, or make the batch or the input smaller"
)]
pub struct BudgetError {
    /// The budget asked for.
    pub budget: Bytes,
    /// The peak of the cheapest cut.
    pub minimum: Bytes,
}

impl Plan {
    /// Predicts the peak of a given cut.
    pub fn predict(spans: Vec<Span>, costs: &[BlockCost]) -> Self {
        let mut kept = 0;
        let mut peak = 0;
        let mut extra_time = Duration::ZERO;
        for span in &spans {
            peak = peak.max(kept + span_peak(span, costs));
            kept += span_kept(span, costs);
            extra_time += span_time(span, costs);
        }
        Self {
            spans,
            predicted_peak: Bytes::new(peak),
            extra_time,
        }
    }

    /// The cut with the least recomputation whose predicted peak stays within
    /// the budget; among equals, the one with the lower peak.
    ///
    /// # Exactness
    /// Optimal among all cuts into contiguous spans, each recomputed or not, by
    /// dynamic programming over the block boundaries: of the cuts of a prefix
    /// only those survive that no other beats in both bytes kept and time.
    ///
    /// # Errors
    /// [`BudgetError`] with the least predicted peak of any cut.
    pub fn within(budget: Bytes, costs: &[BlockCost]) -> Result<Self, BudgetError> {
        match cheapest(budget.get(), costs) {
            Some(spans) => Ok(Self::predict(spans, costs)),
            None => Err(BudgetError {
                budget,
                minimum: least_peak(costs),
            }),
        }
    }
}

/// A cut of a prefix of the chain.
#[derive(Clone)]
struct Prefix {
    kept: u64,
    time: Duration,
    peak: u64,
    spans: Vec<Span>,
}

/// The cut with the least time whose peak is at most `budget` bytes.
fn cheapest(budget: u64, costs: &[BlockCost]) -> Option<Vec<Span>> {
    let mut fronts: Vec<Vec<Prefix>> = vec![Vec::new(); costs.len() + 1];
    fronts[0].push(Prefix {
        kept: 0,
        time: Duration::ZERO,
        peak: 0,
        spans: Vec::new(),
    });
    for end in 1..=costs.len() {
        let mut candidates = Vec::new();
        for (start, front) in fronts[..end].iter().enumerate() {
            for recompute in [false, true] {
                let span = Span {
                    blocks: start..end,
                    recompute,
                };
                let (peak, kept) = (span_peak(&span, costs), span_kept(&span, costs));
                let time = span_time(&span, costs);
                let fitting = front.iter().filter(|p| p.kept + peak <= budget);
                candidates.extend(fitting.map(|p| Prefix {
                    kept: p.kept + kept,
                    time: p.time + time,
                    peak: p.peak.max(p.kept + peak),
                    spans: [p.spans.as_slice(), std::slice::from_ref(&span)].concat(),
                }));
            }
        }
        fronts[end] = pareto_front(candidates);
    }
    let complete = fronts.pop().unwrap_or_default();
    let best = complete
        .into_iter()
        .min_by_key(|p| (p.time, p.peak, p.spans.len()));
    best.map(|prefix| merge_plain(prefix.spans))
}

/// Keeps the prefixes that no other beats in kept bytes, time and peak.
fn pareto_front(mut prefixes: Vec<Prefix>) -> Vec<Prefix> {
    prefixes.sort_by_key(|p| (p.kept, p.time, p.peak, p.spans.len()));
    let mut front: Vec<Prefix> = Vec::new();
    for prefix in prefixes {
        let beaten = front
            .iter()
            .any(|p| p.time <= prefix.time && p.peak <= prefix.peak);
        if !beaten {
            front.push(prefix);
        }
    }
    front
}

/// Joins neighbouring spans that are not recomputed: their cut means nothing.
fn merge_plain(spans: Vec<Span>) -> Vec<Span> {
    let mut merged: Vec<Span> = Vec::new();
    for span in spans {
        match merged.last_mut() {
            Some(last) if !last.recompute && !span.recompute => {
                last.blocks.end = span.blocks.end;
            }
            _ => merged.push(span),
        }
    }
    merged
}

/// The lowest peak of any cut, by bisection over the budget.
fn least_peak(costs: &[BlockCost]) -> Bytes {
    let plain = vec![Span {
        blocks: 0..costs.len(),
        recompute: false,
    }];
    let (mut low, mut high) = (0, Plan::predict(plain, costs).predicted_peak.get());
    while low < high {
        let middle = low + (high - low) / 2;
        match cheapest(middle, costs) {
            Some(spans) => high = Plan::predict(spans, costs).predicted_peak.get().min(middle),
            None => low = middle + 1,
        }
    }
    Bytes::new(low)
}

/// Bytes that a span leaves behind until its backward pass.
fn span_kept(span: &Span, costs: &[BlockCost]) -> u64 {
    let blocks = span.blocks.clone();
    if span.recompute {
        return outputs_across(blocks.clone(), blocks.end, costs);
    }
    blocks.map(|i| costs[i].kept.get()).sum()
}

fn span_time(span: &Span, costs: &[BlockCost]) -> Duration {
    match span.recompute {
        true => span.blocks.clone().map(|i| costs[i].forward).sum(),
        false => Duration::ZERO,
    }
}

/// Bytes of the outputs of `blocks` that the block `reader` or a later one reads.
fn outputs_across(blocks: Range<usize>, reader: usize, costs: &[BlockCost]) -> u64 {
    let read_later = blocks.filter(|&i| costs[i].last_use >= reader);
    read_later.map(|i| costs[i].output.get()).sum()
}

/// Highest bytes while a span runs, forward or backward, above what the spans
/// before it keep.
fn span_peak(span: &Span, costs: &[BlockCost]) -> u64 {
    let blocks = span.blocks.clone();
    let mut kept = 0;
    let mut peak = 0;
    for i in blocks.clone() {
        if span.recompute {
            let inputs = outputs_across(blocks.start..i, i, costs);
            peak = peak.max(inputs + costs[i].forward_peak.get());
        }
        kept += costs[i].kept.get();
        // Gradients of every tensor that crosses the boundary behind block i,
        // and of the parameters of the blocks behind it.
        let grads = outputs_across(0..i + 1, i + 1, costs)
            + costs[i + 1..]
                .iter()
                .map(|c| c.param_grads.get())
                .sum::<u64>();
        peak = peak.max(kept + grads + costs[i].backward_peak.get());
    }
    peak
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cost() -> impl Strategy<Value = BlockCost> {
        (1u64..50, 0u64..100, 0u64..60, 0u64..60, 0u64..20, 1u64..100).prop_map(
            |(output, inner, forward, backward, params, time)| BlockCost {
                output: Bytes::new(output),
                last_use: 0,
                kept: Bytes::new(output + inner),
                forward_peak: Bytes::new(output + forward),
                backward_peak: Bytes::new(backward),
                param_grads: Bytes::new(params),
                forward: Duration::from_micros(time),
            },
        )
    }

    fn chain(max: usize) -> impl Strategy<Value = Vec<BlockCost>> {
        prop::collection::vec((cost(), 0usize..6), 1..max).prop_map(|blocks| {
            let finish = |(i, (mut cost, reach)): (usize, (BlockCost, usize))| {
                cost.last_use = i + 1 + reach / 4 * reach;
                cost
            };
            blocks.into_iter().enumerate().map(finish).collect()
        })
    }

    /// Every cut of `len` blocks, recomputed or not.
    fn all_cuts(len: usize) -> Vec<Vec<Span>> {
        if len == 0 {
            return vec![Vec::new()];
        }
        let mut cuts = Vec::new();
        for start in 0..len {
            for head in all_cuts(start) {
                for recompute in [false, true] {
                    let last = Span {
                        blocks: start..len,
                        recompute,
                    };
                    cuts.push([head.as_slice(), &[last]].concat());
                }
            }
        }
        cuts
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_plan_is_the_best_of_all_cuts(costs in chain(7), share in 0.2f64..1.1) {
            let plans: Vec<_> =
                all_cuts(costs.len()).into_iter().map(|s| Plan::predict(s, &costs)).collect();
            let plain = plans.iter().find(|p| p.extra_time.is_zero()).unwrap();
            let budget = Bytes::new((plain.predicted_peak.get() as f64 * share) as u64);
            let fitting = plans.iter().filter(|p| p.predicted_peak <= budget);
            match (fitting.map(|p| p.extra_time).min(), Plan::within(budget, &costs)) {
                (Some(best), Ok(plan)) => {
                    prop_assert_eq!(plan.extra_time, best);
                    prop_assert!(plan.predicted_peak <= budget);
                }
                (None, Err(error)) => {
                    let least = plans.iter().map(|p| p.predicted_peak).min().unwrap();
                    prop_assert_eq!(error.minimum, least);
                }
                (best, plan) => prop_assert!(false, "brute force {best:?}, plan {plan:?}"),
            }
        }

        #[test]
        fn spans_cover_the_chain_in_order(costs in chain(24), share in 0.3f64..1.0) {
            let all = vec![Span { blocks: 0..costs.len(), recompute: false }];
            let plain = Plan::predict(all, &costs).predicted_peak.get();
            if let Ok(plan) = Plan::within(Bytes::new((plain as f64 * share) as u64), &costs) {
                let covered: Vec<_> = plan.spans.iter().flat_map(|s| s.blocks.clone()).collect();
                prop_assert_eq!(covered, (0..costs.len()).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn an_impossible_budget_says_the_least_that_would_do() {
        let costs = vec![
            BlockCost {
                output: Bytes::new(10),
                last_use: 1,
                kept: Bytes::new(100),
                forward_peak: Bytes::new(20),
                backward_peak: Bytes::new(30),
                ..BlockCost::default()
            };
            4
        ];
        let error = Plan::within(Bytes::new(1), &costs).unwrap_err();
        assert!(error.minimum > Bytes::new(100));
        assert!(Plan::within(error.minimum, &costs).is_ok());
        assert!(Plan::within(Bytes::new(error.minimum.get() - 1), &costs).is_err());
    }
}
