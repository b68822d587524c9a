//! Emitters in the outputs of a network, and how well they agree with the true ones.

use burn::config::Config;
use burn::tensor::Tensor;
use burn::tensor::module::max_pool2d;
use burn::tensor::ops::MaxPoolOptions;
use burn_memopt::nn::canonical_strides;

use super::batch::{Emitter, OutputScale};
use super::networks::SigmaMUNet;

/// How emitters are found in the output of a [`SigmaMUNet`].
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt_models::decode::{DetectionConfig, OutputScale};
///
/// let device = Device::flex();
/// let probs = Tensor::<4>::zeros([1, 1, 8, 8], &device);
/// let probs = probs.slice_fill([0..1, 0..1, 3..4, 5..6], 0.9);
/// let output = Tensor::cat(vec![probs, Tensor::full([1, 9, 8, 8], 0.25, &device)], 1);
/// let found = DetectionConfig::new().find(output, &OutputScale::new(1000.0, 40.0));
/// assert_eq!(found[0].len(), 1);
/// assert_eq!((found[0][0].emitter.x, found[0][0].emitter.y), (5.25, 3.25));
/// assert_eq!(found[0][0].emitter.photons, 250.0);
/// ```
#[derive(Config, Debug)]
pub struct DetectionConfig {
    /// Probability above which a pixel may be the centre of an emitter. The default is `0.1`: an
    /// emitter between four pixels leaves each of them a quarter of its probability.
    #[config(default = 0.1)]
    pub raw_threshold: f64,
    /// Probability above which a pixel next to a centre is an emitter of its own. The default is
    /// `0.6`.
    #[config(default = 0.6)]
    pub split_threshold: f64,
    /// Least probability of an emitter, summed over the pixels that share it. The default is
    /// `0.5`.
    #[config(default = 0.5)]
    pub threshold: f64,
}

/// An emitter that a network found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FoundEmitter {
    /// Where it is, and how bright.
    pub emitter: Emitter,
    /// How probable it is, at most 1.
    pub prob: f32,
    /// Background in photons a pixel.
    pub background: f32,
    /// Standard deviation of the estimated column in pixels.
    pub x_sigma: f32,
    /// Standard deviation of the estimated row in pixels.
    pub y_sigma: f32,
    /// Standard deviation of the estimated z.
    pub z_sigma: f32,
    /// Standard deviation of the estimated photons.
    pub photons_sigma: f32,
}

impl DetectionConfig {
    /// Finds the emitters of every frame, row by row.
    ///
    /// # Shapes
    /// - output: `[batch_size, 10, height, width]`, as of [`SigmaMUNet::forward`]
    ///
    /// # Panics
    /// If the output has other channels.
    pub fn find(&self, output: Tensor<4>, scale: &OutputScale) -> Vec<Vec<FoundEmitter>> {
        let [batch_size, channels, height, width] = output.dims();
        assert!(
            channels == SigmaMUNet::CHANNELS,
            "output must have {} channels, got {channels}",
            SigmaMUNet::CHANNELS
        );
        let probs = output.clone().narrow(1, 0, 1);
        let probs = self.integrate(probs.squeeze_dim::<3>(1)).clamp(0.0, 1.0);
        let probs: Vec<f32> = probs.into_data().iter::<f32>().collect();
        let values = scale.to_physical(output).into_data();
        let values: Vec<f32> = values.iter::<f32>().collect();
        let pixels = height * width;
        (0..batch_size)
            .map(|frame| {
                let probs = &probs[frame * pixels..(frame + 1) * pixels];
                let values = &values[frame * channels * pixels..(frame + 1) * channels * pixels];
                let found = probs.iter().enumerate();
                let found = found.filter(|&(_, &prob)| f64::from(prob) >= self.threshold);
                let read = |(pixel, &prob)| read(values, pixel, pixels, width, prob);
                found.map(read).collect()
            })
            .collect()
    }

    /// Gathers the probability of an emitter, which a network may spread over neighbouring
    /// pixels, in one of them.
    ///
    /// Pixels that are the largest of their 3×3 neighbourhood get the sum over themselves and
    /// their four neighbours, as do other pixels above the split threshold; the rest get 0. The
    /// sums are not bounded by 1.
    ///
    /// # Shapes
    /// - probs, output: `[batch_size, height, width]`
    pub fn integrate(&self, probs: Tensor<3>) -> Tensor<3> {
        let probs = probs.unsqueeze_dim::<4>(1);
        let too_low = probs.clone().lower_equal_scalar(self.raw_threshold);
        let candidates = probs.clone().mask_fill(too_low, 0.0);
        let options = MaxPoolOptions::new([3, 3])
            .with_stride([1, 1])
            .with_padding([1, 1]);
        let largest = probs
            .clone()
            .equal(canonical_strides(max_pool2d(candidates, options)));
        let split = probs.clone().greater_scalar(self.split_threshold);
        let centres = largest.bool_or(split);
        let sums = cross_sums(probs);
        sums.mask_fill(centres.bool_not(), 0.0).squeeze_dim::<3>(1)
    }
}

/// The sum of each pixel and its four neighbours; there is nothing outside.
fn cross_sums(probs: Tensor<4>) -> Tensor<4> {
    let [_, _, height, width] = probs.dims();
    let padded = probs.clone().pad([(1, 1), (1, 1)], 0.0);
    let shifted = |row, column| {
        let rows = padded.clone().narrow(2, row, height);
        rows.narrow(3, column, width)
    };
    probs + shifted(0, 1) + shifted(2, 1) + shifted(1, 0) + shifted(1, 2)
}

/// The emitter at a pixel, from one frame's output in physical units.
fn read(values: &[f32], pixel: usize, pixels: usize, width: usize, prob: f32) -> FoundEmitter {
    let at = |channel: usize| values[channel * pixels + pixel];
    FoundEmitter {
        emitter: Emitter {
            x: (pixel % width) as f32 + at(3),
            y: (pixel / width) as f32 + at(2),
            z: at(4),
            photons: at(1),
        },
        prob,
        background: at(9),
        x_sigma: at(7),
        y_sigma: at(6),
        z_sigma: at(8),
        photons_sigma: at(5),
    }
}

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
    /// Compares the emitters of one frame, `[x, y]` in pixels.
    ///
    /// Found emitters are paired with true ones at most `radius` pixels away. The closest pair is
    /// taken first, then the closest of those that are left, and so on; each emitter belongs to one
    /// pair at most. This does not look for the most pairs: in dense frames an optimal assignment may
    /// find one more, in exchange for longer distances.
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
struct Match {
    found: usize,
    truth: usize,
    /// In pixels.
    distance: f64,
}

/// The pairs of emitters; between pairs at the same distance the order of the lists decides.
fn match_emitters(found: &[[f32; 2]], truth: &[[f32; 2]], radius: f64) -> Vec<Match> {
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
    use burn::tensor::{Device, Tensor};
    use proptest::prelude::*;

    pub fn integrate(rows: [[f32; 5]; 3]) -> Vec<f32> {
        let probs = Tensor::<2>::from_floats(rows, &Device::flex()).unsqueeze_dim::<3>(0);
        let probs = DetectionConfig::new().integrate(probs);
        probs.into_data().iter::<f32>().collect()
    }

    #[test]
    fn probability_spread_over_neighbours_is_gathered_in_the_largest() {
        let sums = integrate([
            [0.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.4, 0.35, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.0, 0.0],
        ]);
        assert!((sums[6] - 0.75).abs() < 1e-6, "{sums:?}");
        assert_eq!(sums[7], 0.0);
    }

    #[test]
    fn two_sure_neighbours_are_two_emitters() {
        let sums = integrate([
            [0.0, 0.0, 0.0, 0.0, 0.0],
            [0.0, 0.9, 0.8, 0.0, 0.0],
            [0.0, 0.0, 0.0, 0.0, 0.0],
        ]);
        assert!(sums[6] > 0.5 && sums[7] > 0.5, "{sums:?}");
    }

    #[test]
    fn faint_probability_is_no_emitter() {
        let sums = integrate([[0.09; 5]; 3]);
        assert_eq!(sums, [0.0; 15]);
    }

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
