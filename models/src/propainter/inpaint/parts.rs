use std::ops::Range;

use burn_memopt::chunked::Tile;
use burn_memopt::clip::sub_videos;

/// The sub-videos of a stage, and how many of them are done.
pub(super) struct Parts {
    /// Frame that the first part keeps first.
    first: usize,
    tiles: Vec<Tile>,
    /// Number of the part that comes next.
    next: usize,
}

impl Parts {
    /// Parts of `length` of the frames `range`, which read `halo` more on both sides, those before
    /// `range` too; the parts before frame `done` were done by an earlier run.
    pub(super) fn new(range: Range<usize>, length: usize, halo: usize, done: usize) -> Self {
        let parts = match range.is_empty() {
            true => Vec::new(),
            false => sub_videos(range.len(), length, 0),
        };
        let parts = parts.into_iter().map(|part| {
            let keep = range.start + part.keep.start..range.start + part.keep.end;
            let read = keep.start.saturating_sub(halo)..(keep.end + halo).min(range.end);
            Tile { read, keep }
        });
        let tiles: Vec<Tile> = parts.collect();
        Self {
            first: range.start,
            next: tiles.partition_point(|part| part.keep.end <= done),
            tiles,
        }
    }

    /// The part that comes next, if it begins before frame `end`.
    pub(super) fn next_before(&self, end: usize) -> Option<Tile> {
        let part = self.tiles.get(self.next);
        part.filter(|part| part.keep.start < end).cloned()
    }

    /// Notes that the next part is done.
    pub(super) fn advance(&mut self) {
        self.next += 1;
    }

    /// Frames that are done.
    pub(super) fn finished(&self) -> usize {
        let last = self.next.checked_sub(1);
        last.map_or(self.first, |last| self.tiles[last].keep.end)
    }

    /// First frame that the next part reads; `usize::MAX` if none is left.
    pub(super) fn first_needed(&self) -> usize {
        let part = self.tiles.get(self.next);
        part.map_or(usize::MAX, |part| part.read.start)
    }
}
