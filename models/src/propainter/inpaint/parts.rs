use burn_memopt::chunked::Tile;
use burn_memopt::clip::sub_videos;

/// The sub-videos of a stage, and how many of them are done.
pub(super) struct Parts {
    tiles: Vec<Tile>,
    /// Number of the part that comes next.
    next: usize,
}

impl Parts {
    /// Parts of `length` frames that read `halo` more on both sides, of which those before frame
    /// `done` were done by an earlier run.
    pub(super) fn new(num_frames: usize, length: usize, halo: usize, done: usize) -> Self {
        let tiles = sub_videos(num_frames, length, halo);
        Self {
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
        last.map_or(0, |last| self.tiles[last].keep.end)
    }

    /// First frame that the next part reads; `usize::MAX` if none is left.
    pub(super) fn first_needed(&self) -> usize {
        let part = self.tiles.get(self.next);
        part.map_or(usize::MAX, |part| part.read.start)
    }
}
