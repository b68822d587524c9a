//! Found emitters against true ones.

/// How well found emitters agree with the true ones.
///
/// Add up the scores of frames, then read the metrics.
///
/// # Example
/// ```
/// use burn_memopt_models::decode::Score;
///
/// let truth = [[3.0, 4.0], [10.0, 10.0]];
/// let found = [[3.0, 4.3], [6.0, 6.0]];
/// let score = Score::of_frame(&found, &truth, 2.0);
/// assert_eq!(score.jaccard(), 1.0 / 3.0);
/// assert!((score.rmse().unwrap() - 0.3).abs() < 1e-6);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Score {
    /// Found emitters that are there.
    pub true_positives: usize,
    /// Found emitters that are not.
    pub false_positives: usize,
    /// Emitters that were not found.
    pub false_negatives: usize,
    /// Sum of the squared distances of all matches, in pixels².
    pub squared_error: f64,
}

impl Score {
    /// Compares the emitters of one frame, `[x, y]` in pixels, as [`match_emitters`] pairs them.
    pub fn of_frame(found: &[[f32; 2]], truth: &[[f32; 2]], radius: f64) -> Self {
        let matches = match_emitters(found, truth, radius);
        Self {
            true_positives: matches.len(),
            false_positives: found.len() - matches.len(),
            false_negatives: truth.len() - matches.len(),
            squared_error: matches.iter().map(|pair| pair.distance.powi(2)).sum(),
        }
    }

    /// Adds the score of other frames.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            true_positives: self.true_positives + other.true_positives,
            false_positives: self.false_positives + other.false_positives,
            false_negatives: self.false_negatives + other.false_negatives,
            squared_error: self.squared_error + other.squared_error,
        }
    }

    /// The Jaccard index: matches among everything that was found or is there. It is 1 where
    /// nothing was found and nothing is there.
    pub fn jaccard(&self) -> f64 {
        let all = self.true_positives + self.false_positives + self.false_negatives;
        share(self.true_positives, all)
    }

    /// The share of found emitters that are there; 1 where nothing was found.
    pub fn precision(&self) -> f64 {
        share(
            self.true_positives,
            self.true_positives + self.false_positives,
        )
    }

    /// The share of emitters that were found; 1 where there is none.
    pub fn recall(&self) -> f64 {
        share(
            self.true_positives,
            self.true_positives + self.false_negatives,
        )
    }

    /// Root of the mean squared distance of the matches in pixels; `None` without matches.
    pub fn rmse(&self) -> Option<f64> {
        let count = self.true_positives as f64;
        (count > 0.0).then(|| (self.squared_error / count).sqrt())
    }
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        1.0
    } else {
        part as f64 / whole as f64
    }
}

/// A found emitter and the true one that it is taken for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Match {
    /// Index of the found emitter.
    pub found: usize,
    /// Index of the true emitter.
    pub truth: usize,
    /// Distance in pixels.
    pub distance: f64,
}

/// Pairs found emitters with true ones at most `radius` pixels away, `[x, y]` each.
///
/// The closest pair is taken first, then the closest of those that are left, and so on; each
/// emitter belongs to one pair at most. Between pairs at the same distance the order of the lists
/// decides. This does not look for the most pairs: in dense frames an optimal assignment may find
/// one more, in exchange for longer distances.
pub fn match_emitters(found: &[[f32; 2]], truth: &[[f32; 2]], radius: f64) -> Vec<Match> {
    let mut candidates: Vec<Match> = Vec::new();
    for (i, &[x, y]) in found.iter().enumerate() {
        for (j, &[true_x, true_y]) in truth.iter().enumerate() {
            let along = |a: f32, b: f32| f64::from(a) - f64::from(b);
            let distance = along(x, true_x).hypot(along(y, true_y));
            if distance <= radius {
                candidates.push(Match {
                    found: i,
                    truth: j,
                    distance,
                });
            }
        }
    }
    candidates.sort_by(|a, b| a.distance.total_cmp(&b.distance));
    let (mut found_taken, mut truth_taken) = (vec![false; found.len()], vec![false; truth.len()]);
    candidates.retain(|pair| {
        let is_free = !found_taken[pair.found] && !truth_taken[pair.truth];
        if is_free {
            (found_taken[pair.found], truth_taken[pair.truth]) = (true, true);
        }
        is_free
    });
    candidates
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(found: &[[f32; 2]], truth: &[[f32; 2]]) -> Vec<(usize, usize)> {
        let matches = match_emitters(found, truth, 2.0);
        matches
            .iter()
            .map(|pair| (pair.found, pair.truth))
            .collect()
    }

    #[test]
    fn the_closest_pair_is_taken_first() {
        let (found, truth) = ([[1.0, 0.0], [0.4, 0.0]], [[0.5, 0.0], [2.5, 0.0]]);
        assert_eq!(pairs(&found, &truth), [(1, 0), (0, 1)]);
    }

    #[test]
    fn two_found_emitters_do_not_share_a_true_one() {
        assert_eq!(pairs(&[[1.0, 1.0], [1.1, 1.0]], &[[1.0, 1.0]]), [(0, 0)]);
    }

    #[test]
    fn the_radius_itself_is_near_enough_and_more_is_not() {
        assert_eq!(pairs(&[[2.0, 0.0]], &[[0.0, 0.0]]), [(0, 0)]);
        assert_eq!(pairs(&[[2.01, 0.0]], &[[0.0, 0.0]]), []);
    }

    #[test]
    fn scores_of_frames_add_up() {
        let first = Score::of_frame(&[[0.0, 0.0], [9.0, 9.0]], &[[0.0, 1.0]], 2.0);
        let second = Score::of_frame(&[], &[[5.0, 5.0]], 2.0);
        let score = first.plus(second);
        assert_eq!(
            (
                score.true_positives,
                score.false_positives,
                score.false_negatives
            ),
            (1, 1, 1)
        );
        assert_eq!(score.jaccard(), 1.0 / 3.0);
        assert_eq!((score.precision(), score.recall()), (0.5, 0.5));
        assert_eq!(score.rmse(), Some(1.0));
    }

    #[test]
    fn an_empty_frame_left_empty_is_right() {
        let score = Score::of_frame(&[], &[], 2.0);
        assert_eq!((score.jaccard(), score.rmse()), (1.0, None));
    }

    fn positions() -> impl Strategy<Value = Vec<[f32; 2]>> {
        let position = (0f32..8.0, 0f32..8.0).prop_map(|(x, y)| [x, y]);
        proptest::collection::vec(position, 0..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn no_free_pair_within_the_radius_is_left(found in positions(), truth in positions()) {
            let matches = match_emitters(&found, &truth, 2.0);
            let free = |taken: &dyn Fn(&Match) -> usize, i| matches.iter().all(|m| taken(m) != i);
            for (i, a) in found.iter().enumerate() {
                for (j, b) in truth.iter().enumerate() {
                    let near = f64::from(a[0] - b[0]).hypot(f64::from(a[1] - b[1])) < 1.99;
                    prop_assert!(!(near && free(&|m| m.found, i) && free(&|m| m.truth, j)));
                }
            }
            prop_assert!(matches.iter().all(|pair| pair.distance <= 2.0));
        }
    }
}
