use core::ops::Range;

use serde::{Deserialize, Serialize};

/// Contiguous blocks of a chain that run together, recomputed in the backward pass or not.
///
/// Spans form a tree: a span that is recomputed says how its blocks are cut while they are
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
