use super::{BlockCost, Span};

/// What the costs of blocks come to at the boundaries between them; the letters are those of
/// [`schedule`](super::schedule).
pub(super) struct Boundaries<'a> {
    pub(super) costs: &'a [BlockCost],
    /// G(t).
    gradients: Vec<u64>,
}

impl<'a> Boundaries<'a> {
    pub(super) fn new(costs: &'a [BlockCost]) -> Self {
        let mut boundaries = Self {
            costs,
            gradients: Vec::new(),
        };
        let behind = |at: usize| {
            let blocks = costs[at..].iter();
            blocks
                .map(|c| c.param_grads.get() + c.nodes.get())
                .sum::<u64>()
        };
        let gradients = (0..=costs.len()).map(|at| boundaries.outputs(0, at) + behind(at));
        boundaries.gradients = gradients.collect();
        boundaries
    }

    /// K(start, end).
    pub(super) fn outputs(&self, start: usize, end: usize) -> u64 {
        let read_later = self.costs[start..end].iter().filter(|c| c.last_use >= end);
        read_later.map(|c| c.output.get()).sum()
    }

    /// N(start, end).
    pub(super) fn nodes(&self, start: usize, end: usize) -> u64 {
        self.costs[start..end].iter().map(|c| c.nodes.get()).sum()
    }

    /// Highest bytes of a forward pass of `start..end` of which nothing is recorded.
    fn forward_peak(&self, start: usize, end: usize) -> u64 {
        let peak = |at: usize| self.outputs(start, at) + self.costs[at].forward_peak.get();
        (start..end).map(peak).max().unwrap_or(0)
    }

    fn work(&self, start: usize, end: usize) -> u64 {
        self.costs[start..end].iter().map(|c| c.work).sum()
    }

    /// Highest bytes while block `at` runs as the first of an interval, forward and backward.
    pub(super) fn plain_peak(&self, at: usize, live_forward: u64) -> u64 {
        let cost = &self.costs[at];
        let backward = cost.kept.get() + self.gradients[at + 1] + cost.backward_peak.get();
        backward.max(live_forward + cost.recorded_peak.get())
    }

    /// F(end).
    pub(super) fn live_forward(&self, end: usize) -> u64 {
        if end == self.costs.len() {
            return 0;
        }
        self.gradients[end]
    }

    /// Peak and extra work of given spans, which run forward while `live_forward`
    /// bytes of gradients are live.
    pub(super) fn predict(&self, spans: &[Span], live_forward: u64) -> (u64, u64) {
        let (mut kept, mut peak, mut work) = (0, 0, 0);
        for span in spans {
            let (start, end) = (span.blocks.start, span.blocks.end);
            if !span.recompute {
                for at in start..end {
                    peak = peak.max(kept + self.plain_peak(at, live_forward));
                    kept += self.costs[at].kept.get();
                }
                continue;
            }
            let (inner_peak, inner_work) =
                self.predict(&span.when_recomputed(), self.gradients[end]);
            let forward = live_forward + self.forward_peak(start, end);
            kept += self.nodes(start, end);
            peak = peak.max(kept + inner_peak.max(forward));
            kept += self.outputs(start, end);
            work += inner_work + self.work(start, end);
        }
        (peak, work)
    }
}
