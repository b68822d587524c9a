//! What grows with pixels, from what was measured at some numbers of them.

use serde::{Deserialize, Serialize};

/// A line through measured points, broken at each; beyond the last it goes on as it came.
///
/// A peak is the highest of many moments, each of which is affine in the pixels. So with two points
/// it is an affine law, and with more it follows the law that is highest there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    /// Pixels and values, by pixels.
    points: Vec<(u64, f64)>,
}

impl Line {
    /// A line through points of which at least two differ in pixels. Values that fall with
    /// the pixels do so by noise and are raised.
    ///
    /// # Panics
    /// If there are fewer.
    pub(super) fn through(points: impl IntoIterator<Item = (u64, f64)>) -> Self {
        let mut points: Vec<_> = points.into_iter().collect();
        points.sort_by_key(|point| point.0);
        points.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 = kept.1.max(next.1);
            }
            same
        });
        assert!(
            points.len() >= 2,
            "a fit must have two workloads of different size, got {}",
            points.len()
        );
        for i in 1..points.len() {
            points[i].1 = points[i].1.max(points[i - 1].1);
        }
        Self { points }
    }

    /// The value at some pixels, never below zero.
    pub(super) fn at(&self, pixels: u64) -> f64 {
        let next = self.points.iter().position(|point| pixels < point.0);
        let next = next.unwrap_or(usize::MAX);
        let end = next.clamp(1, self.points.len() - 1);
        let ((x0, y0), (x1, y1)) = (self.points[end - 1], self.points[end]);
        let slope = (y1 - y0) / (x1 - x0) as f64;
        (y0 + slope * (pixels as f64 - x0 as f64)).max(0.0)
    }
}
