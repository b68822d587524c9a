//! What grows with the input, from what was measured on a few inputs.
//!
//! Pure.

use serde::{Deserialize, Serialize};

use super::Workload;

/// Below this share of the largest, a pivot counts as zero.
const LEAST_PIVOT: f64 = 1e-12;

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

/// A line through measured points, broken at each; beyond the last it keeps its slope.
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
    fn through(points: impl IntoIterator<Item = (u64, f64)>) -> Self {
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
    fn at(&self, pixels: u64) -> f64 {
        let next = self.points.iter().position(|point| pixels < point.0);
        let next = next.unwrap_or(usize::MAX);
        let end = next.clamp(1, self.points.len() - 1);
        let ((x0, y0), (x1, y1)) = (self.points[end - 1], self.points[end]);
        let slope = (y1 - y0) / (x1 - x0) as f64;
        (y0 + slope * (pixels as f64 - x0 as f64)).max(0.0)
    }
}

/// `fixed + batch_size · (per_token · len + per_pair · len²)`: every layer keeps something for each
/// token, and attention for each pair of tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Quadratic {
    fixed: f64,
    per_token: f64,
    per_pair: f64,
}

impl Quadratic {
    /// The function through three measured workloads, the nearest in the least squares to more.
    /// `None` if pairs of tokens seem to take less than nothing.
    ///
    /// # Panics
    /// If the workloads do not determine it.
    fn through(points: &[(Workload, f64)]) -> Option<Self> {
        let largest = |amount: fn(Workload) -> f64| {
            let amounts = points.iter().map(|&(work, _)| amount(work));
            amounts.fold(1.0, f64::max)
        };
        // Scaled to one, so that the equations are solved without loss.
        let (most_tokens, most_pairs) = (largest(tokens), largest(pairs));
        let mut equations = [[0.0; 4]; 3];
        for &(work, value) in points {
            let row = [1.0, tokens(work) / most_tokens, pairs(work) / most_pairs];
            for (equation, factor) in equations.iter_mut().zip(row) {
                for (sum, term) in equation.iter_mut().zip(row.into_iter().chain([value])) {
                    *sum += factor * term;
                }
            }
        }
        let Some([fixed, per_token, per_pair]) = solve(equations) else {
            let workloads: Vec<_> = points.iter().map(|(work, _)| work.to_string()).collect();
            panic!(
                "a fit of sequences of several lengths must have three workloads that determine a \
                 quadratic, got {}: measure a third length",
                workloads.join(", ")
            )
        };
        (per_pair >= 0.0).then_some(Self {
            fixed,
            per_token: per_token / most_tokens,
            per_pair: per_pair / most_pairs,
        })
    }

    /// The value at a workload, never below zero and never less for more of the same sequences.
    fn at(&self, workload: Workload) -> f64 {
        let growing = self.per_token * tokens(workload) + self.per_pair * pairs(workload);
        (self.fixed + growing.max(0.0)).max(0.0)
    }
}

fn tokens(workload: Workload) -> f64 {
    workload.pixels() as f64
}

/// Pairs of tokens of one sequence.
fn pairs(workload: Workload) -> f64 {
    tokens(workload) * workload.size[1] as f64
}

/// Solves three linear equations, each with its right side last, by elimination with pivots; `None`
/// if they do not determine the unknowns.
fn solve(mut equations: [[f64; 4]; 3]) -> Option<[f64; 3]> {
    let largest = equations.map(|[a, b, c, _]| a.max(b).max(c));
    let least = LEAST_PIVOT * largest.into_iter().fold(0.0, f64::max);
    for column in 0..3 {
        let by_size = |a: &usize, b: &usize| {
            let [a, b] = [a, b].map(|&row| equations[row][column].abs());
            a.total_cmp(&b)
        };
        let pivot = (column..3).max_by(by_size)?;
        equations.swap(column, pivot);
        let pivot = equations[column];
        if pivot[column].abs() <= least {
            return None;
        }
        for row in (0..3).filter(|&row| row != column) {
            let factor = equations[row][column] / pivot[column];
            for (term, pivot) in equations[row].iter_mut().zip(pivot) {
                *term -= factor * pivot;
            }
        }
    }
    Some(std::array::from_fn(|row| {
        equations[row][3] / equations[row][row]
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn law(fixed: f64, per_token: f64, per_pair: f64) -> impl Fn(Workload) -> f64 {
        move |work| fixed + per_token * tokens(work) + per_pair * pairs(work)
    }

    proptest! {
        #[test]
        fn three_runs_of_a_quadratic_law_give_it_at_any_length(
            fixed in 0.0..1e9f64, per_token in 0.0..1e5f64, per_pair in 0.0..1e3f64,
            shortest in 1usize..200, batch_size in 1usize..16, asked in 1usize..4096,
        ) {
            let law = law(fixed, per_token, per_pair);
            let runs = [1, 2, 4].map(|times| Workload::sequences(batch_size, shortest * times));
            let fit = Quadratic::through(&runs.map(|work| (work, law(work))));
            let asked = Workload::sequences(3, asked);
            // A law without pairs may come out with less than none, by rounding.
            if let Some(fit) = fit {
                let (expected, longest) = (law(asked), law(Workload::sequences(3, 4096)));
                prop_assert!((fit.at(asked) - expected).abs() <= 1e-6 * longest.max(1.0));
            }
        }
    }

    #[test]
    fn batches_may_stand_for_a_third_length() {
        let law = law(1000.0, 20.0, 3.0);
        let runs = [(1, 64), (2, 64), (1, 128)].map(|(n, len)| Workload::sequences(n, len));
        let fit = Quadratic::through(&runs.map(|work| (work, law(work)))).unwrap();
        let asked = Workload::sequences(4, 512);
        assert!((fit.at(asked) / law(asked) - 1.0).abs() < 1e-9);
    }

    #[test]
    #[should_panic(expected = "got 1×64, 1×128: measure a third length")]
    fn two_lengths_determine_no_quadratic() {
        let runs = [64, 128].map(|len| (Workload::sequences(1, len), len as f64));
        let _ = Quadratic::through(&runs);
    }

    #[test]
    fn growth_slower_than_the_tokens_is_no_quadratic() {
        let runs = [(64, 1.0), (128, 2.0), (256, 3.9)];
        let runs = runs.map(|(len, value)| (Workload::sequences(1, len), value));
        assert_eq!(Quadratic::through(&runs), None);
    }
}
