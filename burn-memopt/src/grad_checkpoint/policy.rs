use core::{fmt, ops::Range, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{BlockCost, BudgetError, Plan};
use crate::memory::Bytes;

/// Where a chain of blocks is cut into segments that are recomputed.
///
/// Written and read as `none`, `block`, `segments=6` or `budget=6GiB`.
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
    /// The cut with the least recomputation whose peak stays within the budget,
    /// by measured block costs (see [`Plan::within`]).
    Budget(Bytes),
}

/// Contiguous blocks that run together, recomputed in the backward pass or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Indices of the blocks.
    pub blocks: Range<usize>,
    /// Whether the blocks run again in the backward pass.
    pub recompute: bool,
}

impl Policy {
    /// Cuts a chain of `num_blocks` blocks whose costs need not be known.
    ///
    /// Returns `None` for [`Policy::Budget`], which needs them: see
    /// [`Policy::plan`].
    ///
    /// # Panics
    /// If the number of segments is zero.
    pub fn spans(&self, num_blocks: usize) -> Option<Vec<Span>> {
        let num_segments = match *self {
            Policy::None => {
                return Some(vec![Span {
                    blocks: 0..num_blocks,
                    recompute: false,
                }]);
            }
            Policy::EveryBlock => num_blocks,
            Policy::Segments(n) => n.min(num_blocks),
            Policy::Budget(_) => return None,
        };
        assert!(
            num_segments > 0,
            "the number of segments must be positive, got 0"
        );
        let (len, rest) = (num_blocks / num_segments, num_blocks % num_segments);
        let start = |segment: usize| segment * len + segment.min(rest);
        let span = |segment| Span {
            blocks: start(segment)..start(segment + 1),
            recompute: segment + 1 < num_segments,
        };
        Some((0..num_segments).map(span).collect())
    }

    /// Cuts a chain with the given costs and predicts the peak.
    ///
    /// # Errors
    /// [`BudgetError`] with the least budget that would do, if no cut fits.
    ///
    /// # Panics
    /// If the number of segments is zero.
    pub fn plan(&self, costs: &[BlockCost]) -> Result<Plan, BudgetError> {
        match (self, self.spans(costs.len())) {
            (_, Some(spans)) => Ok(Plan::predict(spans, costs)),
            (Policy::Budget(budget), None) => Plan::within(*budget, costs),
            _ => unreachable!("only a budget needs costs"),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Policy::None => f.write_str("none"),
            Policy::EveryBlock => f.write_str("block"),
            Policy::Segments(n) => write!(f, "segments={n}"),
            Policy::Budget(bytes) => write!(f, "budget={}", bytes.get()),
        }
    }
}

/// A gradient-checkpointing policy that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a gradient-checkpointing policy: write none, block, segments=N or budget=6GiB"
)]
pub struct ParsePolicyError(String);

impl FromStr for Policy {
    type Err = ParsePolicyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParsePolicyError(text.to_owned());
        match text.split_once('=') {
            None if text == "none" => Ok(Policy::None),
            None if text == "block" => Ok(Policy::EveryBlock),
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
