//! A shape that moves within a frame.

use std::f64::consts::{PI, TAU};

use rand::{RngExt, rngs::StdRng};

/// The pixels of a shape, in the smallest box that holds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    height: usize,
    width: usize,
    /// 1 in the shape: `[height, width]`.
    values: Vec<u8>,
}

impl Stamp {
    /// Takes the pixels that are 1 out of a frame, at least one.
    pub(super) fn cut_out(height: usize, width: usize, values: &[u8]) -> Self {
        let is_set = |row: usize, column: usize| values[row * width + column] == 1;
        let rows = bounds(height, |row| (0..width).any(|column| is_set(row, column)));
        let columns = bounds(width, |column| (0..height).any(|row| is_set(row, column)));
        let places = rows
            .clone()
            .flat_map(|row| columns.clone().map(move |column| (row, column)));
        Self {
            height: rows.len(),
            width: columns.len(),
            values: places
                .map(|(row, column)| values[row * width + column])
                .collect(),
        }
    }
}

/// From the first number below `len` that `is_set` to the last.
fn bounds(len: usize, is_set: impl Fn(usize) -> bool) -> std::ops::Range<usize> {
    let first = (0..len).find(|&at| is_set(at)).unwrap_or(0);
    let last = (0..len).rfind(|&at| is_set(at)).unwrap_or(0);
    first..last + 1
}

/// A stamp on its way: it swings along both axes, each at a pace of its own, and never
/// leaves the frame.
///
/// The way is a formula of the frame's number, so any frame is drawn without those before.
#[derive(Debug, Clone)]
pub(crate) struct Moving {
    stamp: Stamp,
    rows: Swing,
    columns: Swing,
}

impl Moving {
    /// Sends a stamp on a random way in a frame of `height * width` pixels, with at most
    /// `speed` pixels a frame along each axis; 0 stands still at a random place.
    pub(crate) fn new(
        stamp: Stamp,
        height: usize,
        width: usize,
        speed: f64,
        rng: &mut StdRng,
    ) -> Self {
        Self {
            rows: Swing::new(height - stamp.height, speed, rng),
            columns: Swing::new(width - stamp.width, speed, rng),
            stamp,
        }
    }

    /// Where the stamp's first row and column are.
    pub(crate) fn corner(&self, frame: usize) -> (usize, usize) {
        (self.rows.at(frame), self.columns.at(frame))
    }

    /// The pixels of the shape, as (row, column) of the frame.
    pub(crate) fn pixels(&self, frame: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        let (top, left) = self.corner(frame);
        let values = self.stamp.values.iter().enumerate();
        let set = values.filter(|(_, value)| **value == 1);
        set.map(move |(at, _)| (top + at / self.stamp.width, left + at % self.stamp.width))
    }
}

/// A way to and fro over `room` pixels.
#[derive(Debug, Clone)]
struct Swing {
    room: f64,
    /// Radians a frame.
    pace: f64,
    phase: f64,
}

impl Swing {
    fn new(room: usize, speed: f64, rng: &mut StdRng) -> Self {
        let room = room as f64;
        let speed = speed * rng.random_range(0.25..=1.0);
        Self {
            room,
            // A swing is fastest in the middle, with `room * pace / 2` pixels a frame. Above half
            // a turn a frame it would only seem faster.
            pace: (2.0 * speed / room.max(1.0)).min(PI),
            phase: rng.random_range(0.0..TAU),
        }
    }

    fn at(&self, frame: usize) -> usize {
        let angle = self.pace * frame as f64 + self.phase;
        (self.room * (0.5 - 0.5 * libm::cos(angle))).round() as usize
    }
}
