//! Everything a budget may choose from, in the order of what it costs.

use super::technique::Pass;
use super::{Request, Technique};
use crate::memory::Bytes;
use crate::memory::estimate::Workload;
use crate::precision::Precision;

/// A technique on a part of the batch and of the image.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) technique: &'a Technique,
    pub(super) index: usize,
    pub(super) micro_batch_size: usize,
    pub(super) accumulation_steps: usize,
    pub(super) tile: [usize; 2],
}

/// What a way costs, compared in this order: results that differ first, then time.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub(super) struct Price(usize, usize, bool, f64, usize);

impl Way<'_> {
    fn workload(&self) -> Workload {
        Workload::new(self.micro_batch_size, self.tile)
    }

    /// What is live beside the pass itself.
    pub(super) fn beside(&self, request: &Request) -> Bytes {
        let waits = request.is_training && self.accumulation_steps > 1;
        let gradients = if waits {
            request.gradients
        } else {
            Bytes::ZERO
        };
        request.resident + gradients
    }

    /// The least that it needs altogether.
    pub(super) fn least(&self, request: &Request) -> Bytes {
        self.beside(request) + self.technique.least(self.workload())
    }

    /// How it keeps the budget, if it can.
    pub(super) fn within(&self, request: &Request) -> Option<Pass> {
        let beside = self.beside(request);
        let room = (beside <= request.budget).then(|| request.budget - beside)?;
        self.technique.within(room, self.workload())
    }

    pub(super) fn price(&self, request: &Request, recomputed: f64) -> Price {
        let splits = request.has_batch_statistics && request.is_training;
        let precision = usize::from(self.is_half());
        let parts = self.num_tiles(request);
        // Training on parts of images is another training; inference on them takes time only.
        let (first, second) = match request.is_training {
            true => (parts, precision),
            false => (precision, parts),
        };
        let splits = splits && self.accumulation_steps > 1;
        Price(first, second, splits, recomputed, self.accumulation_steps)
    }

    pub(super) fn is_half(&self) -> bool {
        self.technique.precision() != Precision::F32
    }

    fn num_tiles(&self, request: &Request) -> usize {
        let along = |axis: usize| request.size[axis].div_ceil(self.tile[axis].max(1));
        along(0) * along(1)
    }
}

/// Every way there is.
pub(super) fn ways<'a>(request: &Request, techniques: &'a [Technique]) -> Vec<Way<'a>> {
    let mut ways = Vec::new();
    for tile in request.tiles() {
        for (micro_batch_size, accumulation_steps) in request.micro_batches() {
            ways.extend(techniques.iter().enumerate().map(|(index, technique)| Way {
                technique,
                index,
                micro_batch_size,
                accumulation_steps,
                tile,
            }));
        }
    }
    ways
}
