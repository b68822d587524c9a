//! The optimal ways to recompute a chain: for every interval of blocks, the cuts
//! that no other beats in both peak and work.
//!
//! With K(s, t) the outputs of blocks s..t that are read behind t, N(s, t) the nodes
//! of a segment around them, G(t) what is live behind t (the gradients of what crosses
//! that boundary and of the parameters of all blocks behind it, and their nodes) and
//! F(t) = G(t), but F(n) = 0 at the end of the chain, the peak P(s, t) of the interval is the smaller of
//!
//! - *block s kept*: max(F(t) + recorded(s), kept(s) + G(s + 1) + backward(s),
//!   kept(s) + P(s + 1, t)),
//! - *blocks s..u recomputed*: N(s, u) +
//!   max(F(t) + forward(s..u), K(s, u) + P(u, t), P(s, u)).
//!
//! Peaks are monotone in the parts' peaks and work is additive: so the best of
//! an interval is made of the best of its parts.
//!
//! Pure.

#[cfg(test)]
mod tests;

use super::{BlockCost, Span};

/// Most cuts that are remembered of one interval.
const MOST_POINTS: usize = 512;
/// Fewest, in a very long chain.
const FEWEST_POINTS: usize = 64;
/// Of a chain of n blocks, the product of points and n³ that is computed in about a second.
const POINTS_AND_CUTS: usize = 300_000_000;
/// A cut is worth having if its peak is at most this share of that of a faster one.
const WORTHWHILE: f64 = 0.98;

/// A cut of an interval.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub(super) peak: u64,
    /// Work of the recomputation.
    pub(super) work: u64,
    num_segments: u32,
    first: First,
}

/// How an interval begins. Parts are indices into the points of their interval.
#[derive(Debug, Clone, Copy)]
enum First {
    /// Its first block is kept.
    Plain { rest: u32 },
    /// Its blocks up to `end` are recomputed.
    Recomputed { end: u32, inner: u32, rest: u32 },
}

/// The cuts of every interval of a chain that no other beats in peak and work, by
/// rising peak and falling work.
pub(super) struct Schedules<'a> {
    boundaries: Boundaries<'a>,
    /// Of blocks `start..start + 1 + i` in `[start][i]`.
    intervals: Vec<Vec<Vec<Point>>>,
}

impl<'a> Schedules<'a> {
    pub(super) fn new(costs: &'a [BlockCost]) -> Self {
        let num_blocks = costs.len();
        let most = POINTS_AND_CUTS / num_blocks.pow(3).max(1);
        let most = most.clamp(FEWEST_POINTS, MOST_POINTS);
        let mut schedules = Self {
            boundaries: Boundaries::new(costs),
            intervals: vec![Vec::new(); num_blocks],
        };
        for len in 1..=num_blocks {
            for start in 0..=num_blocks - len {
                let front = thin(schedules.front(start, start + len), most);
                schedules.intervals[start].push(front);
            }
        }
        schedules
    }

    fn points(&self, start: usize, end: usize) -> &[Point] {
        &self.intervals[start][end - start - 1]
    }

    /// The best cuts of an interval from those of shorter ones.
    fn front(&self, start: usize, end: usize) -> Vec<Point> {
        let live_forward = self.boundaries.live_forward(end);
        let mut front = self.with_plain_first(start, end, live_forward);
        let (mut forward_peak, mut work) = (0, 0);
        // The last block is never worth recomputing: its backward pass comes at once.
        for cut in start + 1..end {
            let cost = &self.boundaries.costs[cut - 1];
            let inputs = self.boundaries.outputs(start, cut - 1);
            forward_peak = forward_peak.max(inputs + cost.forward_peak.get());
            work += cost.work;
            let floor = live_forward + forward_peak;
            front = merge(
                front,
                self.with_recomputed_first([start, cut, end], floor, work),
            );
        }
        front
    }

    fn with_plain_first(&self, start: usize, end: usize, live_forward: u64) -> Vec<Point> {
        let floor = self.boundaries.plain_peak(start, live_forward);
        if start + 1 == end {
            return vec![Point {
                peak: floor,
                work: 0,
                num_segments: 0,
                first: First::Plain { rest: 0 },
            }];
        }
        let kept = self.boundaries.costs[start].kept.get();
        let rest = self.points(start + 1, end).iter().zip(0..);
        let points = rest.map(|(point, rest)| Point {
            peak: floor.max(kept + point.peak),
            first: First::Plain { rest },
            ..*point
        });
        // Points below the floor become equal in peak: the last of them has the least work.
        points.fold(Vec::new(), |mut front, point| {
            front.pop_if(|last: &mut Point| last.peak == point.peak);
            front.push(point);
            front
        })
    }

    /// Every pair of a cut of `start..cut`, recomputed, and one of `cut..end` that no
    /// other pair beats: for each level of peak the fastest of both.
    fn with_recomputed_first(
        &self,
        [start, cut, end]: [usize; 3],
        floor: u64,
        work: u64,
    ) -> Vec<Point> {
        let nodes = self.boundaries.nodes(start, cut);
        let kept = nodes + self.boundaries.outputs(start, cut);
        let (inner, rest) = (self.points(start, cut), self.points(cut, end));
        let inner_peak = |i: usize| inner.get(i).map_or(u64::MAX, |point| nodes + point.peak);
        let rest_peak = |i: usize| rest.get(i).map_or(u64::MAX, |point| kept + point.peak);
        let (mut i, mut r) = (0, 0);
        let mut level = (nodes + floor).max(inner_peak(0)).max(rest_peak(0));
        let mut points = Vec::new();
        while level < u64::MAX {
            while inner_peak(i + 1) <= level {
                i += 1;
            }
            while rest_peak(r + 1) <= level {
                r += 1;
            }
            points.push(Point {
                peak: level,
                work: work + inner[i].work + rest[r].work,
                num_segments: 1 + inner[i].num_segments + rest[r].num_segments,
                first: First::Recomputed {
                    end: cut as u32,
                    inner: i as u32,
                    rest: r as u32,
                },
            });
            level = inner_peak(i + 1).min(rest_peak(r + 1));
        }
        points
    }

    /// The cuts of the whole chain from the fastest to the one with the lowest
    /// peak, but for those that save next to nothing over a faster one.
    pub(super) fn worth_having(&self) -> Vec<Point> {
        let nothing = Point {
            peak: 0,
            work: 0,
            num_segments: 0,
            first: First::Plain { rest: 0 },
        };
        let num_blocks = self.boundaries.costs.len();
        if num_blocks == 0 {
            return vec![nothing];
        }
        let points = self.points(0, num_blocks);
        let mut chosen: Vec<Point> = Vec::new();
        for (index, point) in points.iter().enumerate().rev() {
            let saves = |faster: &Point| point.peak as f64 <= faster.peak as f64 * WORTHWHILE;
            if index == 0 || chosen.last().is_none_or(saves) {
                chosen.push(*point);
            }
        }
        chosen
    }

    /// The cut of the whole chain at a point.
    pub(super) fn spans_of(&self, point: &Point) -> Vec<Span> {
        self.unfold(0, self.boundaries.costs.len(), *point)
    }

    fn unfold(&self, start: usize, end: usize, mut point: Point) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        let mut at = start;
        while at < end {
            let rest = match point.first {
                First::Plain { rest } => {
                    match spans.last_mut() {
                        Some(last) if !last.recompute => last.blocks.end += 1,
                        _ => spans.push(Span::plain(at..at + 1)),
                    }
                    at += 1;
                    rest
                }
                First::Recomputed { end, inner, rest } => {
                    let end = end as usize;
                    let inner = self.points(at, end)[inner as usize];
                    let inner = self.unfold(at, end, inner);
                    spans.push(Span::recomputed(at..end).with_inner(inner));
                    at = end;
                    rest
                }
            };
            if at < end {
                point = self.points(at, end)[rest as usize];
            }
        }
        spans
    }
}

/// The points of both lists that no other beats; of equals the one with fewer
/// segments, then that of the first list.
fn merge(first: Vec<Point>, second: Vec<Point>) -> Vec<Point> {
    let key = |point: &Point| (point.peak, point.work, point.num_segments);
    let mut merged: Vec<Point> = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter().peekable(), second.into_iter().peekable());
    loop {
        let next = match (first.peek(), second.peek()) {
            (Some(a), Some(b)) if key(b) < key(a) => second.next(),
            (Some(_), _) => first.next(),
            (None, _) => second.next(),
        };
        let Some(point) = next else { return merged };
        if merged.last().is_none_or(|last| point.work < last.work) {
            merged.push(point);
        }
    }
}

/// At most about `most` points: the fastest of each level of peak, and the one with the
/// lowest peak.
fn thin(points: Vec<Point>, most: usize) -> Vec<Point> {
    let (Some(lowest), Some(highest)) = (points.first(), points.last()) else {
        return points;
    };
    if points.len() <= most {
        return points;
    }
    let (from, width) = (
        lowest.peak,
        (highest.peak - lowest.peak).div_ceil(most as u64),
    );
    let level = |point: &Point| (point.peak - from) / width;
    let is_kept = |index: usize| {
        index == 0
            || points
                .get(index + 1)
                .is_none_or(|next| level(next) > level(&points[index]))
    };
    let kept = (0..points.len()).filter(|&index| is_kept(index));
    kept.map(|index| points[index]).collect()
}

/// What the costs of blocks add up to at the boundaries between them; the letters are those above.
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
