use core::{fmt, ops::Range, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{BlockCost, Plan, Span};
use crate::budget::BudgetError;
use crate::memory::Bytes;

/// Where a chain of blocks is cut into segments that are recomputed.
///
/// Written and read as `none`, `block`, `segments=6`, `least` or `budget=6GiB`.
///
/// # Example
/// ```
/// use burn_memopt::grad_checkpoint::Policy;
///
/// let policy: Policy = "segments=3".parse().unwrap();
/// assert_eq!(policy, Policy::Segments(3));
/// assert_eq!(policy.to_string(), "segments=3");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Policy {
    /// Nothing is recomputed. The default.
    #[default]
    None,
    /// Every block is a segment; the last one, whose backward pass comes at
    /// once, is not recomputed.
    EveryBlock,
    /// This many segments of equal length (the first ones longer by one block
    /// where the division leaves a rest); the last one is not recomputed.
    Segments(usize),
    /// The cut with the lowest peak that recomputes no more than two forward
    /// passes, by measured block costs (see [`Plan::least`]).
    Least,
    /// The cut with the least recomputation whose peak stays within the budget,
    /// by measured block costs (see [`Plan::within`]).
    Budget(Bytes),
}

impl Policy {
    /// Cuts a chain of `num_blocks` blocks whose costs need not be known.
    ///
    /// Returns `None` for [`Policy::Least`] and [`Policy::Budget`], which need
    /// them: see [`Policy::plan`].
    ///
    /// # Panics
    /// If the number of segments is zero.
    pub fn spans(&self, num_blocks: usize) -> Option<Vec<Span>> {
        let num_segments = match *self {
            Policy::None => 1,
            Policy::EveryBlock => num_blocks.max(1),
            Policy::Segments(n) => n,
            Policy::Least | Policy::Budget(_) => return None,
        };
        assert!(
            num_segments > 0,
            "the number of segments must be positive, got 0"
        );
        if num_blocks == 0 {
            return Some(Vec::new());
        }
        let num_segments = num_segments.min(num_blocks);
        let (len, rest) = (num_blocks / num_segments, num_blocks % num_segments);
        let start = |segment: usize| segment * len + segment.min(rest);
        let span = |segment| {
            let blocks = start(segment)..start(segment + 1);
            if segment + 1 < num_segments {
                Span::recomputed(blocks)
            } else {
                Span::plain(blocks)
            }
        };
        Some((0..num_segments).map(span).collect())
    }

    /// As [`spans`](Self::spans), but cuts between groups of blocks only.
    pub(super) fn spans_of_groups(&self, groups: &[Range<usize>]) -> Option<Vec<Span>> {
        let of_blocks = |mut span: Span| {
            let groups = &groups[span.blocks];
            span.blocks = groups[0].start..groups[groups.len() - 1].end;
            span
        };
        let spans = self.spans(groups.len())?.into_iter();
        Some(spans.map(of_blocks).collect())
    }

    /// Cuts a chain with the given costs and predicts the peak.
    ///
    /// # Errors
    /// [`BudgetError`] with the least budget that would do, if no cut fits.
    ///
    /// # Panics
    /// If the number of segments is zero.
    pub fn plan(&self, costs: &[BlockCost]) -> Result<Plan, BudgetError> {
        let mut groups: Vec<Range<usize>> = Vec::new();
        for (index, cost) in costs.iter().enumerate() {
            match groups.last_mut() {
                Some(group) if cost.joins_previous => group.end = index + 1,
                _ => groups.push(index..index + 1),
            }
        }
        if let Some(spans) = self.spans_of_groups(&groups) {
            return Ok(Plan::predict(spans, costs));
        }
        match self {
            Policy::Budget(budget) => Plan::within(*budget, costs),
            _ => Ok(Plan::least(costs)),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Policy::None => f.write_str("none"),
            Policy::EveryBlock => f.write_str("block"),
            Policy::Segments(n) => write!(f, "segments={n}"),
            Policy::Least => f.write_str("least"),
            Policy::Budget(bytes) => write!(f, "budget={}", bytes.get()),
        }
    }
}

/// A gradient-checkpointing policy that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a gradient-checkpointing policy: write none, block, segments=N, least or \
     budget=6GiB"
)]
pub struct ParsePolicyError(String);

impl FromStr for Policy {
    type Err = ParsePolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParsePolicyError(text.to_owned());
        match text.split_once('=') {
            None if text == "none" => Ok(Policy::None),
            None if text == "block" => Ok(Policy::EveryBlock),
            None if text == "least" => Ok(Policy::Least),
            Some(("segments", n)) => match n.parse() {
                Ok(n) if n > 0 => Ok(Policy::Segments(n)),
                _ => Err(error()),
            },
            Some(("budget", bytes)) => bytes.parse().map(Policy::Budget).map_err(|_| error()),
            _ => Err(error()),
        }
    }
}

impl TryFrom<String> for Policy {
    type Error = ParsePolicyError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Policy> for String {
    fn from(policy: Policy) -> Self {
        policy.to_string()
    }
}

/// How a model cuts its chain: by a policy, planned when the model first runs where
/// that takes measurements, or by a plan that was made before.
///
/// A field of a model that holds it is marked `#[module(skip)]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cut {
    /// Decided by a policy.
    Policy(Policy),
    /// Given.
    Spans(Vec<Span>),
}

impl Cut {
    /// Whether blocks should keep little for themselves: under any policy but
    /// [`Policy::None`]. Spans too, even if all are plain: their plan measured the
    /// blocks so.
    pub fn recomputes(&self) -> bool {
        *self != Cut::Policy(Policy::None)
    }
}

impl From<Policy> for Cut {
    fn from(policy: Policy) -> Self {
        Cut::Policy(policy)
    }
}

impl From<&Plan> for Cut {
    fn from(plan: &Plan) -> Self {
        Cut::Spans(plan.spans.clone())
    }
}

impl From<&Cut> for Cut {
    fn from(cut: &Cut) -> Self {
        cut.clone()
    }
}

impl From<&[Span]> for Cut {
    fn from(spans: &[Span]) -> Self {
        Cut::Spans(spans.to_vec())
    }
}
