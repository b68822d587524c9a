//! When the frames of a video are shown.

use std::{fmt, str::FromStr};

/// Frames a second, as a ratio: 30000/1001 is no decimal number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRate {
    numerator: u32,
    denominator: u32,
}

impl FrameRate {
    /// `numerator / denominator` frames a second.
    ///
    /// # Panics
    /// If one of them is zero.
    pub fn new(numerator: u32, denominator: u32) -> Self {
        assert!(
            numerator > 0 && denominator > 0,
            "frame rate must be above zero, got {numerator}/{denominator}"
        );
        Self {
            numerator,
            denominator,
        }
    }

    /// Frames a second, rounded.
    pub fn per_second(self) -> f64 {
        f64::from(self.numerator) / f64::from(self.denominator)
    }

    pub(super) fn ratio(self) -> (u32, u32) {
        (self.numerator, self.denominator)
    }
}

impl fmt::Display for FrameRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.numerator, self.denominator)
    }
}

impl FromStr for FrameRate {
    type Err = String;

    /// Reads `25` or `30000/1001`.
    fn from_str(text: &str) -> Result<Self, String> {
        match ratio(text, '/') {
            Some((numerator, denominator)) => Ok(Self {
                numerator,
                denominator,
            }),
            None => Err(format!(
                "frame rate must be a number above zero as 25 or 30000/1001, got {text}"
            )),
        }
    }
}

/// Two numbers above zero; the second is 1 where it is missing.
pub(super) fn ratio(text: &str, separator: char) -> Option<(u32, u32)> {
    let (above, below) = text.split_once(separator).unwrap_or((text, "1"));
    match (above.parse(), below.parse()) {
        (Ok(above @ 1..), Ok(below @ 1..)) => Some((above, below)),
        _ => None,
    }
}

/// When each frame of a video is shown, exactly: in ticks of the file's own clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameTimes {
    /// Tick at which each frame appears, rising.
    starts: Vec<i64>,
    /// Tick at which the last frame ends.
    end: i64,
    ticks_per_second: u32,
}

impl FrameTimes {
    /// Frames that appear at `starts` and stay until the next one, the last until `end`.
    ///
    /// # Panics
    /// If there is no frame, if the ticks do not rise, if one is negative, or if a second has no
    /// ticks.
    pub fn new(starts: Vec<i64>, end: i64, ticks_per_second: u32) -> Self {
        assert!(ticks_per_second > 0, "a second must have ticks, got 0");
        let first = starts.first().copied();
        let first = first.expect("a video must have frames, got none");
        let rises = starts.is_sorted_by(|left, right| left < right);
        assert!(
            first >= 0 && rises && end > starts[starts.len() - 1],
            "times of frames must rise from 0 or later, got {starts:?} and the end {end}"
        );
        Self {
            starts,
            end,
            ticks_per_second,
        }
    }

    /// Times as a file has them. Where they do not rise, as in a damaged file or one that has none,
    /// frames follow each other at the usual interval.
    ///
    /// Returns also the tick of the file that is 0 here: `origin`, or that of a frame before it.
    pub(super) fn repaired(
        ticks: &[Option<i64>],
        origin: i64,
        ticks_per_second: u32,
        rate: Option<FrameRate>,
    ) -> (Self, i64) {
        // Frames without a time between two others would make their interval longer.
        let pairs = ticks.windows(2);
        let intervals = pairs.filter_map(|pair| Some(pair[1]?.saturating_sub(pair[0]?)));
        let usual = usual_interval(intervals).unwrap_or_else(|| {
            let rate = rate.map_or(24.0, FrameRate::per_second);
            ((f64::from(ticks_per_second) / rate).round() as i64).max(1)
        });
        let first = ticks.iter().copied().flatten().next().unwrap_or(origin);
        let origin = origin.min(first);
        let mut starts: Vec<i64> = Vec::with_capacity(ticks.len());
        for tick in ticks {
            let start = tick.map(|tick| tick.saturating_sub(origin));
            let start = match starts.last() {
                // At least one tick after the frame before it.
                Some(last) => start.unwrap_or(last + usual).max(last + 1),
                None => start.unwrap_or(0),
            };
            starts.push(start);
        }
        let end = starts[starts.len() - 1] + usual;
        (Self::new(starts, end, ticks_per_second), origin)
    }

    /// `num_frames` frames at an even rate, from 0.
    ///
    /// # Panics
    /// If there is no frame.
    pub fn at_rate(rate: FrameRate, num_frames: usize) -> Self {
        let (ticks_per_second, interval) = rate.ratio();
        let start = |frame: usize| frame as i64 * i64::from(interval);
        let starts = (0..num_frames).map(start).collect();
        Self::new(starts, start(num_frames), ticks_per_second)
    }

    /// The same in milliseconds; frames that are closer to each other move apart.
    pub(super) fn in_milliseconds(&self) -> Self {
        let per_second = i128::from(self.ticks_per_second);
        let rounded =
            |ticks: i64| ((i128::from(ticks) * 1000 + per_second / 2) / per_second) as i64;
        let mut starts: Vec<i64> = Vec::with_capacity(self.starts.len());
        for start in &self.starts {
            let least = starts.last().map_or(0, |last| last + 1);
            starts.push(rounded(*start).max(least));
        }
        let end = rounded(self.end).max(starts[starts.len() - 1] + 1);
        Self::new(starts, end, 1000)
    }

    /// The same, but the last frame ends at a tick.
    pub(super) fn ending_at(self, end: i64) -> Self {
        Self::new(self.starts, end, self.ticks_per_second)
    }

    /// Number of frames.
    #[expect(clippy::len_without_is_empty, reason = "there is at least one frame")]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Ticks at which the frames appear.
    pub fn starts(&self) -> &[i64] {
        &self.starts
    }

    /// Tick at which the last frame ends.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// Ticks of a second.
    pub fn ticks_per_second(&self) -> u32 {
        self.ticks_per_second
    }

    /// Seconds of a number of ticks.
    pub fn seconds(&self, ticks: i64) -> f64 {
        ticks as f64 / f64::from(self.ticks_per_second)
    }

    /// Ticks from each frame to the next.
    pub(super) fn intervals(&self) -> impl Iterator<Item = i64> {
        self.starts.windows(2).map(|pair| pair[1] - pair[0])
    }

    /// The interval that half of the frames do not exceed, where there are two frames.
    pub(super) fn usual_interval(&self) -> Option<i64> {
        usual_interval(self.intervals())
    }
}

/// The median of the intervals at which times rise.
fn usual_interval(intervals: impl Iterator<Item = i64>) -> Option<i64> {
    let mut intervals: Vec<i64> = intervals.filter(|interval| *interval > 0).collect();
    let middle = intervals.len() / 2;
    (!intervals.is_empty()).then(|| *intervals.select_nth_unstable(middle).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn repaired(ticks: &[Option<i64>], origin: i64) -> (Vec<i64>, i64, i64) {
        let rate = Some(FrameRate::new(25, 1));
        let (times, origin) = FrameTimes::repaired(ticks, origin, 100, rate);
        (times.starts, times.end, origin)
    }

    #[test]
    fn times_that_rise_stay() {
        let ticks = [0, 3, 5, 18].map(Some);
        assert_eq!(repaired(&ticks, 0), (vec![0, 3, 5, 18], 21, 0));
        let late = [50, 53].map(Some);
        assert_eq!(repaired(&late, 0), (vec![50, 53], 56, 0));
        assert_eq!(repaired(&late, 50), (vec![0, 3], 6, 50));
    }

    #[test]
    fn a_frame_before_the_origin_moves_it() {
        assert_eq!(repaired(&[-2, 2].map(Some), 0), (vec![0, 4], 8, -2));
    }

    #[test]
    fn missing_and_falling_times_follow_the_frame_before() {
        let ticks = [Some(0), Some(4), None, Some(12), Some(11)];
        assert_eq!(repaired(&ticks, 0), (vec![0, 4, 8, 12, 13], 17, 0));
        assert_eq!(repaired(&[None, None], 7), (vec![0, 4], 8, 7));
    }

    #[test]
    fn an_even_rate_is_exact_after_any_number_of_frames() {
        let times = FrameTimes::at_rate(FrameRate::new(30_000, 1001), 90_000);
        assert_eq!(times.end(), 90_000 * 1001);
        assert_eq!(times.seconds(times.end()), 3003.0);
    }

    #[test]
    fn milliseconds_are_rounded_and_still_rise() {
        let times = FrameTimes::new(vec![0, 1, 1001, 2002], 3003, 24_000);
        let milliseconds = FrameTimes::new(vec![0, 1, 42, 83], 125, 1000);
        assert_eq!(times.in_milliseconds(), milliseconds);
    }

    #[test]
    #[should_panic(expected = "must rise")]
    fn equal_times_are_refused() {
        let _ = FrameTimes::new(vec![0, 0], 1, 25);
    }

    #[rstest]
    #[case("25", Some("25/1"))]
    #[case("30000/1001", Some("30000/1001"))]
    #[case("0/0", None)]
    #[case("-25", None)]
    fn rates_are_ratios_above_zero(#[case] text: &str, #[case] rate: Option<&str>) {
        let read = text.parse::<FrameRate>().ok();
        assert_eq!(read.map(|rate| rate.to_string()).as_deref(), rate);
    }
}
