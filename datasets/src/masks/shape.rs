//! Shapes of any wanted number of pixels, and how they move within a frame.
//! Pure.

use rand::{RngExt, rngs::StdRng};

/// When each pixel of a frame is reached by a shape that grows.
///
/// The pixels that are reached first make the shape. So it gets exactly the size
/// that is asked for, whatever its outline.
pub(crate) struct Growth {
    height: usize,
    width: usize,
    reached: Vec<f32>,
}

impl Growth {
    /// Grows a smooth blob around the centre of the frame.
    ///
    /// Its outline is a circle with four waves on it, stretched; it is in one piece, since
    /// the centre sees every pixel of it.
    pub(crate) fn blob(height: usize, width: usize, rng: &mut StdRng) -> Self {
        let stretch = 1.6f32.powf(rng.random_range(-1.0..1.0));
        // The amplitudes add up to at most 0.6, so the radius stays above 0.4.
        let waves = [2.0, 3.0, 4.0, 5.0].map(|turns: f32| {
            let amplitude = rng.random_range(0.0..0.5) / turns.sqrt() * 0.55;
            (
                turns,
                amplitude,
                rng.random_range(0.0..std::f32::consts::TAU),
            )
        });
        let (middle_y, middle_x) = (height as f32 / 2.0, width as f32 / 2.0);
        Self::from_distance(height, width, |y, x| {
            let (v, u) = ((y - middle_y) * stretch, (x - middle_x) / stretch);
            let angle = libm::atan2f(v, u);
            let wave = |(turns, amplitude, phase)| amplitude * libm::cosf(turns * angle + phase);
            let radius = 1.0 + waves.map(wave).iter().sum::<f32>();
            libm::hypotf(u, v) / radius
        })
    }

    /// Grows one to four strokes around lines that wander, in the middle 70 % of the frame.
    pub(crate) fn strokes(height: usize, width: usize, rng: &mut StdRng) -> Self {
        let mut segments = Vec::new();
        for _ in 0..rng.random_range(1..=4) {
            let thickness = rng.random_range(0.6f32..1.6);
            let line = wander(height as f32, width as f32, rng);
            segments.extend(line.windows(2).map(|ends| Segment {
                from: ends[0],
                to: ends[1],
                thickness,
            }));
        }
        Self::from_distance(height, width, |y, x| {
            let distances = segments.iter().map(|segment| segment.distance(y, x));
            distances.fold(f32::INFINITY, f32::min)
        })
    }

    /// `reached` is given the centre of each pixel, as (y, x).
    fn from_distance(height: usize, width: usize, reached: impl Fn(f32, f32) -> f32) -> Self {
        let centres = (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
        let reached = centres
            .map(|(y, x)| reached(y as f32 + 0.5, x as f32 + 0.5))
            .collect();
        Self {
            height,
            width,
            reached,
        }
    }

    /// The shape of `num_pixels` pixels, at least one.
    pub(crate) fn shape(&self, num_pixels: usize) -> Stamp {
        let mut pixels: Vec<usize> = (0..self.reached.len()).collect();
        // Equal times go by place, so the number is exact.
        pixels.select_nth_unstable_by(num_pixels - 1, |&a, &b| {
            let order = self.reached[a].total_cmp(&self.reached[b]);
            order.then(a.cmp(&b))
        });
        let mut values = vec![0; self.reached.len()];
        for &pixel in &pixels[..num_pixels] {
            values[pixel] = 1;
        }
        Stamp::cut_out(self.height, self.width, &values)
    }
}

/// A part of a stroke, between two points given as (y, x).
struct Segment {
    from: (f32, f32),
    to: (f32, f32),
    thickness: f32,
}

impl Segment {
    /// The distance of a point, in units of the thickness.
    fn distance(&self, y: f32, x: f32) -> f32 {
        let (along_y, along_x) = (self.to.0 - self.from.0, self.to.1 - self.from.1);
        let (to_y, to_x) = (y - self.from.0, x - self.from.1);
        let length = along_y * along_y + along_x * along_x;
        let place = (to_y * along_y + to_x * along_x) / length.max(f32::MIN_POSITIVE);
        let place = place.clamp(0.0, 1.0);
        libm::hypotf(to_y - place * along_y, to_x - place * along_x) / self.thickness
    }
}

/// The largest turn from one step of a stroke to the next, in radians.
const MAX_TURN: f32 = std::f32::consts::PI / 3.0;

/// Four to nine points, each a step on from the one before, in about its direction.
fn wander(height: f32, width: f32, rng: &mut StdRng) -> Vec<(f32, f32)> {
    let within = |side: f32| (0.15 * side, 0.85 * side);
    let ((top, bottom), (left, right)) = (within(height), within(width));
    let mut y = rng.random_range(top..bottom);
    let mut x = rng.random_range(left..right);
    let mut direction = rng.random_range(0.0..std::f32::consts::TAU);
    let mut points = vec![(y, x)];
    for _ in 0..rng.random_range(3..=8) {
        direction += rng.random_range(-MAX_TURN..MAX_TURN);
        let step = rng.random_range(0.05f32..0.2) * (height + width) / 2.0;
        y = (y + step * libm::sinf(direction)).clamp(top, bottom);
        x = (x + step * libm::cosf(direction)).clamp(left, right);
        points.push((y, x));
    }
    points
}

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
    fn cut_out(height: usize, width: usize, values: &[u8]) -> Self {
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
            pace: (2.0 * speed / room.max(1.0)).min(std::f64::consts::PI),
            phase: rng.random_range(0.0..std::f64::consts::TAU),
        }
    }

    fn at(&self, frame: usize) -> usize {
        let angle = self.pace * frame as f64 + self.phase;
        (self.room * (0.5 - 0.5 * libm::cos(angle))).round() as usize
    }
}
