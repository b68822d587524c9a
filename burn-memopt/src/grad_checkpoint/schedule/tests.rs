use proptest::prelude::*;

use super::*;
use crate::grad_checkpoint::Plan;
use crate::memory::Bytes;

fn cost() -> impl Strategy<Value = BlockCost> {
    let bytes = (
        1u64..50,
        0u64..100,
        0u64..60,
        0u64..60,
        0u64..60,
        0u64..20,
        0u64..5,
    );
    (bytes, 1u64..100).prop_map(
        |((output, inner, forward, recorded, backward, params, nodes), work)| BlockCost {
            output: Bytes::new(output),
            last_use: 0,
            joins_previous: false,
            kept: Bytes::new(output + inner),
            forward_peak: Bytes::new(output + forward),
            recorded_peak: Bytes::new(output + inner + recorded),
            backward_peak: Bytes::new(backward),
            param_grads: Bytes::new(params),
            nodes: Bytes::new(nodes),
            work,
        },
    )
}

/// Chains with skips: about a third of the blocks are read by a later one too.
fn chain(max: usize) -> impl Strategy<Value = Vec<BlockCost>> {
    prop::collection::vec((cost(), 0usize..6), 1..max).prop_map(|blocks| {
        let finish = |(i, (mut cost, reach)): (usize, (BlockCost, usize))| {
            cost.last_use = i + 1 + reach / 4 * reach;
            cost
        };
        blocks.into_iter().enumerate().map(finish).collect()
    })
}

/// Every cut of some blocks: one span, or several.
fn all_cuts(start: usize, end: usize) -> Vec<Vec<Span>> {
    if start == end {
        return vec![Vec::new()];
    }
    let whole = all_spans(start, end).into_iter().map(|span| vec![span]);
    whole.chain(cuts_in_parts(start, end)).collect()
}

/// Every cut into several spans.
fn cuts_in_parts(start: usize, end: usize) -> Vec<Vec<Span>> {
    let mut cuts = Vec::new();
    for cut in start + 1..end {
        let heads = all_spans(start, cut);
        for rest in all_cuts(cut, end) {
            let with_rest = |head: &Span| [std::slice::from_ref(head), rest.as_slice()].concat();
            cuts.extend(heads.iter().map(with_rest));
        }
    }
    cuts
}

/// Some blocks kept, recomputed, or recomputed and cut again in every way.
fn all_spans(start: usize, end: usize) -> Vec<Span> {
    let again = cuts_in_parts(start, end).into_iter();
    let again = again.map(|inner| Span::recomputed(start..end).with_inner(inner));
    let mut spans = vec![Span::plain(start..end), Span::recomputed(start..end)];
    spans.extend(again);
    spans
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_cuts_of_the_chain_are_the_best_of_all_trees(costs in chain(6)) {
        let boundaries = Boundaries::new(&costs);
        let all: Vec<_> = all_cuts(0, costs.len())
            .iter()
            .map(|spans| boundaries.predict(spans, 0))
            .collect();
        let schedules = Schedules::new(&costs);
        let front = schedules.points(0, costs.len());
        for point in front {
            let spans = schedules.spans_of(point);
            prop_assert_eq!(boundaries.predict(&spans, 0), (point.peak, point.work));
        }
        for (peak, work) in all {
            let beats = |point: &Point| point.peak <= peak && point.work <= work;
            prop_assert!(front.iter().any(beats), "{peak} bytes with {work} are missing");
        }
    }

    #[test]
    fn a_budget_is_kept_by_the_fastest_cut_but_for_two_percent(
        costs in chain(6),
        share in 0.2f64..1.1,
    ) {
        let plans = all_cuts(0, costs.len()).into_iter().map(|s| Plan::predict(s, &costs));
        let plans: Vec<_> = plans.collect();
        let plain = Plan::predict(vec![Span::plain(0..costs.len())], &costs).predicted_peak;
        let budget = Bytes::new((plain.get() as f64 * share) as u64);
        match Plan::within(budget, &costs) {
            Ok(plan) => {
                prop_assert!(plan.predicted_peak <= budget);
                let tighter = budget.get() as f64 * WORTHWHILE;
                let fitting = plans.iter().filter(|p| p.predicted_peak.get() as f64 <= tighter);
                for other in fitting {
                    prop_assert!(plan.recomputed <= other.recomputed);
                }
            }
            Err(error) => {
                let least = plans.iter().map(|p| p.predicted_peak).min().unwrap();
                prop_assert_eq!(error.least, least);
                prop_assert!(least > budget);
            }
        }
    }

    #[test]
    fn spans_cover_the_chain_in_order_at_every_depth(costs in chain(24), share in 0.2f64..1.0) {
        let plain = Plan::predict(vec![Span::plain(0..costs.len())], &costs).predicted_peak;
        let budget = Bytes::new((plain.get() as f64 * share) as u64);
        if let Ok(plan) = Plan::within(budget, &costs) {
            prop_assert!(covers(&plan.spans, 0, costs.len()));
        }
        prop_assert!(covers(&Plan::least(&costs).spans, 0, costs.len()));
    }

    #[test]
    fn a_smaller_budget_never_gets_a_higher_peak(costs in chain(16)) {
        let plain = Plan::predict(vec![Span::plain(0..costs.len())], &costs).predicted_peak;
        let mut last = u64::MAX;
        for percent in (10..=100).rev().step_by(10) {
            let budget = Bytes::new(plain.get() * percent / 100);
            let Ok(plan) = Plan::within(budget, &costs) else { break };
            prop_assert!(plan.predicted_peak.get() <= last);
            last = plan.predicted_peak.get();
        }
    }
}

fn covers(spans: &[Span], start: usize, end: usize) -> bool {
    let last = spans.iter().try_fold(start, |at, span| {
        let whole = span.blocks.start == at && span.blocks.end > at;
        let inner = span.inner.is_empty() || covers(&span.inner, at, span.blocks.end);
        (whole && inner).then_some(span.blocks.end)
    });
    last == Some(end)
}

#[test]
fn a_thinned_list_keeps_the_lowest_and_the_fastest() {
    let point = |i: u64| Point {
        peak: 100 + i,
        work: 10_000 - i,
        num_segments: 0,
        first: First::Plain { rest: 0 },
    };
    let thinned = thin((0..1000).map(point).collect(), 64);
    assert!(thinned.len() <= 66, "{}", thinned.len());
    assert_eq!(
        (thinned[0].peak, thinned[thinned.len() - 1].peak),
        (100, 1099)
    );
    assert!(thinned.windows(2).all(|two| two[0].work > two[1].work));
}
