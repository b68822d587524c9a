//! What grows with the input, from what was measured on a few inputs.

use serde::{Deserialize, Serialize};

use super::Workload;
use super::line::Line;
use super::quadratic::Quadratic;

/// An amount as a function of the workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Growth {
    /// With the pixels of all images, or the tokens of all sequences.
    Linear(Line),
    /// With the batch, for sequences of the one length that was measured.
    OneLength { len: usize, line: Line },
    /// With the square of the sequences' length.
    Quadratic(Quadratic),
}

impl Growth {
    /// The growth through measured workloads. Images need two that differ in pixels. Sequences of
    /// one length need two batch sizes; of several lengths, three workloads.
    ///
    /// # Panics
    /// If there are fewer, or some are images and some sequences.
    pub(super) fn through(points: impl IntoIterator<Item = (Workload, f64)>) -> Self {
        let points: Vec<_> = points.into_iter().collect();
        let line = || Line::through(points.iter().map(|(work, value)| (work.pixels(), *value)));
        let mut sequences = points.iter().filter(|(work, _)| work.is_sequences());
        let Some((first, _)) = sequences.next() else {
            return Self::Linear(line());
        };
        let others = sequences.clone().count();
        assert!(
            others + 1 == points.len(),
            "workloads of a fit must be all images or all sequences, got both"
        );
        let len = first.size[1];
        if sequences.all(|(work, _)| work.size[1] == len) {
            return Self::OneLength { len, line: line() };
        }
        // Attention never grows slower than the tokens: where it seems to, by noise, the line through
        // the longest is nearest.
        let quadratic = Quadratic::through(&points);
        quadratic.map_or_else(|| Self::Linear(line()), Self::Quadratic)
    }

    /// The amount at a workload, never below zero.
    ///
    /// # Panics
    /// If sequences of one length were measured and others are asked for.
    pub(super) fn at(&self, workload: Workload) -> f64 {
        match self {
            Self::Linear(line) => line.at(workload.pixels()),
            Self::OneLength { len, line } => {
                assert!(
                    workload.size == [1, *len],
                    "a fit of sequences of {len} tokens must be asked for such sequences, got \
                     {workload}: measure three workloads of several lengths"
                );
                line.at(workload.pixels())
            }
            Self::Quadratic(quadratic) => quadratic.at(workload),
        }
    }
}
