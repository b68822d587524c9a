use super::{position::Position, report::LoaderReport};

/// Where the consumer is and what it got, shared by all copies of a loader.
pub(super) struct Track {
    pub(super) position: Position,
    pub(super) report: LoaderReport,
    /// Items of an epoch, once one was seen to its end.
    pub(super) total: Option<u64>,
    /// Number of the iterator that moves the position: the one made last, and none after
    /// the position was set.
    pub(super) mover: u64,
}

impl Track {
    pub(super) fn new(position: Position) -> Self {
        Self {
            position,
            report: LoaderReport::default(),
            total: None,
            mover: 0,
        }
    }

    /// Sets the position; iterators that exist do not move it any more.
    pub(super) fn set(&mut self, position: Position) {
        self.position = position;
        self.mover += 1;
    }
}
