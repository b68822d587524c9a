//! How a chain is to be cut, as a value.
//!
//! Pure.

use core::{fmt, ops::Range, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{BlockCost, Plan};
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
/// Mark a field of a model that contains it `#[module(skip)]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cut {
    /// Decided by a policy.
    Policy(Policy),
    /// A plan that was made before.
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

/// Contiguous blocks of a chain that run together, recomputed in the backward pass or not.
///
/// Spans form a tree: a span that is recomputed contains how its blocks are cut while they are
/// recomputed. So parts of it may be recomputed once more, which takes less memory and more time.
///
/// # Example
/// ```
/// use burn_memopt::grad_checkpoint::Span;
///
/// // Blocks 0 to 5 are recomputed together; when they are, blocks 0 to 2 once more.
/// let span = Span::recomputed(0..6).with_inner(vec![Span::recomputed(0..3), Span::plain(3..6)]);
/// assert_eq!(span.recomputations(1), 2);
/// assert_eq!(span.recomputations(4), 1);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Span {
    /// Indices of the blocks.
    pub blocks: Range<usize>,
    /// Whether the blocks run again in the backward pass.
    pub recompute: bool,
    /// How the blocks are cut when they run again; empty where all of them are kept then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inner: Vec<Span>,
}

impl Span {
    /// Blocks that keep what they compute.
    pub fn plain(blocks: Range<usize>) -> Self {
        Self {
            blocks,
            recompute: false,
            inner: Vec::new(),
        }
    }

    /// Blocks that run again in the backward pass, without a cut between them.
    pub fn recomputed(blocks: Range<usize>) -> Self {
        Self {
            recompute: true,
            ..Self::plain(blocks)
        }
    }

    /// Sets how the blocks are cut when they run again. One plain span means no cut.
    pub fn with_inner(mut self, inner: Vec<Span>) -> Self {
        let is_cut = inner.iter().any(|span| span.recompute);
        self.inner = if is_cut { inner } else { Vec::new() };
        self
    }

    /// How often a block runs again.
    pub fn recomputations(&self, block: usize) -> usize {
        if !self.recompute || !self.blocks.contains(&block) {
            return 0;
        }
        let inner = self.inner.iter().map(|span| span.recomputations(block));
        1 + inner.sum::<usize>()
    }

    /// How the blocks are cut when they run again.
    pub(super) fn when_recomputed(&self) -> Vec<Span> {
        if self.inner.is_empty() {
            return vec![Span::plain(self.blocks.clone())];
        }
        self.inner.clone()
    }
}
