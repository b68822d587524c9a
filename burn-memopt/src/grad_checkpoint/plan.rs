//! Where a chain is cut, and what that is predicted to cost.
//!
//! Pure.

use serde::{Deserialize, Serialize};

use super::Span;
use super::schedule::{Boundaries, Schedules};
use crate::budget::{BudgetError, Ladder};
use crate::memory::Bytes;

/// Extra work that [`Policy::Least`](super::Policy::Least) accepts, in forward passes of the chain.
const MOST_RECOMPUTED: f64 = 2.0;

/// What one block of a chain costs in a training step, measured on a sample
/// ([`Chain::profile`](super::Chain::profile)) or estimated.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct BlockCost {
    /// Bytes of the block's output.
    pub output: Bytes,
    /// Index of the last block that reads the output: the next one, or a later
    /// one where the output is also a skip connection.
    pub last_use: usize,
    /// Whether the block is of one group with the block before it, which only a planned
    /// cut divides: see [`Chain::with_groups_of`](super::Chain::with_groups_of).
    #[serde(default)]
    pub joins_previous: bool,
    /// Bytes that stay live after a recorded forward pass, the output included.
    pub kept: Bytes,
    /// Highest bytes during an unrecorded forward pass, the output included.
    pub forward_peak: Bytes,
    /// Highest bytes during a recorded forward pass, the output included.
    pub recorded_peak: Bytes,
    /// Highest bytes during the backward pass, above those live at its start
    /// (`kept` and the gradient of the output); gradients that stay are counted.
    pub backward_peak: Bytes,
    /// Bytes of the gradients of the block's parameters.
    pub param_grads: Bytes,
    /// Bytes of the graph's nodes of a segment around the block: a few KiB for each
    /// parameter. They stay until the backward pass of the whole graph has ended.
    pub nodes: Bytes,
    /// Work of one forward pass: operations that are counted, not timed, so that
    /// the same chain is always cut alike. It ranks cuts and predicts no seconds.
    pub work: u64,
}

/// How a chain is cut, and what that is predicted to cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The cut, in order, without gaps.
    pub spans: Vec<Span>,
    /// Highest bytes of the step above those live before it.
    pub predicted_peak: Bytes,
    /// Work of the recomputation, as a share of a forward pass of the chain.
    pub recomputed: f64,
}

impl Plan {
    /// Predicts the peak of a given cut.
    ///
    /// # Panics
    /// If a span reaches beyond the last block.
    pub fn predict(spans: Vec<Span>, costs: &[BlockCost]) -> Self {
        let (peak, work) = Boundaries::new(costs).predict(&spans, 0);
        let forward: u64 = costs.iter().map(|cost| cost.work).sum();
        Self {
            spans,
            predicted_peak: Bytes::new(peak),
            recomputed: work as f64 / forward.max(1) as f64,
        }
    }

    /// The cut with the least recomputation whose predicted peak stays within the budget.
    ///
    /// # Exactness
    /// Optimal among all cuts into contiguous spans that are recomputed or not, with spans cut
    /// again when they are recomputed, to any depth: a dynamic programme over all intervals of
    /// blocks. A cut is passed over only if a faster one has a peak less than two percent higher.
    /// In a chain so long that an interval has more than 64 to 512 cuts worth keeping (the longer
    /// the chain, the fewer), cuts whose peaks are next to each other are thinned out.
    ///
    /// The same costs and budget give the same cut.
    ///
    /// # Errors
    /// [`BudgetError`] with the least predicted peak of any cut.
    ///
    /// # References
    /// Beaumont et al. 2019, *Optimal checkpointing for heterogeneous chains*,
    /// arXiv:1911.13214, section 4.
    pub fn within(budget: Bytes, costs: &[BlockCost]) -> Result<Self, BudgetError> {
        let plans = Ladder::new(Self::worth_having(costs), |plan| plan.predicted_peak);
        plans.within(budget).map(|(plan, _)| plan.clone())
    }

    /// The cut with the lowest predicted peak that recomputes no more than two
    /// forward passes of the chain. Some chains can go a little lower for much
    /// more time: [`within`](Self::within) a budget does.
    pub fn least(costs: &[BlockCost]) -> Self {
        let mut plans = Self::worth_having(costs);
        plans.retain(|plan| plan.recomputed <= MOST_RECOMPUTED);
        plans
            .pop()
            .unwrap_or_else(|| Self::predict(Vec::new(), costs))
    }

    /// The cuts from the least recomputation to the lowest peak, without those that
    /// save next to nothing over a faster one.
    pub(crate) fn worth_having(costs: &[BlockCost]) -> Vec<Self> {
        let schedules = Schedules::new(costs);
        let plan = |point| Self::predict(schedules.spans_of(point), costs);
        schedules.worth_having().iter().map(plan).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn equal_blocks(num_blocks: usize) -> Vec<BlockCost> {
        let cost = |index| BlockCost {
            output: Bytes::new(10),
            last_use: index + 1,
            joins_previous: false,
            kept: Bytes::new(100),
            forward_peak: Bytes::new(20),
            recorded_peak: Bytes::new(110),
            backward_peak: Bytes::new(30),
            param_grads: Bytes::new(1),
            nodes: Bytes::new(1),
            work: 5,
        };
        (0..num_blocks).map(cost).collect()
    }

    #[test]
    fn an_impossible_budget_says_the_least_that_would_do() {
        let costs = equal_blocks(4);
        let error = Plan::within(Bytes::new(1), &costs).unwrap_err();
        assert!(error.least > Bytes::new(100));
        assert!(Plan::within(error.least, &costs).is_ok());
        assert!(Plan::within(Bytes::new(error.least.get() - 1), &costs).is_err());
    }

    #[test]
    fn recomputing_twice_goes_below_every_cut_of_one_level() {
        let costs = equal_blocks(64);
        let one_level = |num_segments: usize| {
            let spans = crate::grad_checkpoint::Policy::Segments(num_segments).spans(64);
            Plan::predict(spans.unwrap(), &costs).predicted_peak
        };
        let lowest = (1..=64).map(one_level).min().unwrap();
        let least = Plan::least(&costs);
        assert!(least.predicted_peak.get() * 10 < lowest.get() * 7);
        assert!(least.recomputed <= 2.0);
        assert!(least.spans.iter().any(|span| !span.inner.is_empty()));
    }

    #[test]
    fn a_chain_of_no_blocks_needs_nothing() {
        let plan = Plan::within(Bytes::ZERO, &[]).unwrap();
        assert_eq!((plan.spans, plan.predicted_peak), (vec![], Bytes::ZERO));
        assert_eq!(Plan::least(&[]).predicted_peak, Bytes::ZERO);
    }

    #[test]
    fn a_flat_plan_saved_without_inner_cuts_can_be_read() {
        let text = r#"{"blocks": {"start": 0, "end": 4}, "recompute": true}"#;
        let span: Span = serde_json::from_str(text).unwrap();
        assert_eq!(span, Span::recomputed(0..4));
        assert!(!serde_json::to_string(&span).unwrap().contains("inner"));
    }
}
