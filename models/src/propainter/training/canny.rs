use burn::tensor::{Tensor, TensorData};
use burn_memopt::precision::ops::full;

/// Above this a pixel may be on an edge.
const LOW: f32 = 0.1;
/// Above this it does.
const HIGH: f32 = 0.2;
/// Standard deviation of the smoothing, in pixels.
const SIGMA: f64 = 2.0;
/// Pixels on either side of the smoothing kernel's middle.
const REACH: isize = 2;
/// Steps to the eight neighbours, down and to the right, every 45 degrees from the right.
const AROUND: [[isize; 2]; 8] = [
    [0, 1],
    [1, 1],
    [1, 0],
    [1, -1],
    [0, -1],
    [-1, -1],
    [-1, 0],
    [-1, 1],
];

/// Finds the edges of grey images; computed on the host, without a gradient.
///
/// Smooths with 5×5 pixels and a standard deviation of 2, takes Sobel differences, keeps maxima
/// across the edge above 0.1, and of these what is connected to one above 0.2.
///
/// # Shapes
/// - x: `[images, 1, height, width]`
/// - output: the same, 1 on edges and 0 elsewhere
///
/// # Panics
/// If a side is shorter than 3 pixels.
///
/// # References
/// Canny 1986, "A computational approach to edge detection", sections VI to VIII.
pub fn canny(x: Tensor<4>) -> Tensor<4> {
    of_each(x, |image| connected(&image.thinned()))
}

/// How steep grey images are once smoothed, where they are steeper than next to the edge; elsewhere
/// 0. Its values are those that [`canny`] compares with its bounds.
///
/// # Shapes
/// As [`canny`].
///
/// # Panics
/// As [`canny`].
pub fn crests(x: Tensor<4>) -> Tensor<4> {
    of_each(x, |image| image.thinned().values)
}

/// Applies `compute` to every image on the host.
fn of_each(x: Tensor<4>, compute: impl Fn(&Image) -> Vec<f32>) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    assert!(
        height > REACH as usize && width > REACH as usize,
        "image sides must be at least 3 pixels, got {height}×{width}"
    );
    let (device, dims) = (x.device(), x.dims());
    let values: Vec<f32> = full(x).into_data().iter::<f32>().collect();
    let images = values.chunks(height * width);
    let computed = images.flat_map(|values| compute(&Image::new(values.to_vec(), width)));
    Tensor::from_data(TensorData::new(computed.collect(), dims), &device)
}

/// The edges of the length of flows, relative to the longest of all; none where no flow is longer
/// than a pixel.
///
/// # Shapes
/// - flows: `[batch_size, pairs, 2, height, width]`, one direction
/// - output: `[batch_size, pairs, 1, height, width]`
pub fn flow_edges(flows: &Tensor<5>) -> Tensor<5> {
    let [batch_size, pairs, _, height, width] = flows.dims();
    let flows = full(flows.clone()).detach();
    let lengths = flows.square().sum_dim(2).sqrt();
    let longest = lengths.clone().max().into_scalar::<f32>();
    if longest < 1.0 {
        return lengths.zeros_like();
    }
    let edges = canny(lengths.div_scalar(longest).flatten(0, 1));
    edges.reshape([batch_size, pairs, 1, height, width])
}

/// A grey image on the host.
struct Image {
    values: Vec<f32>,
    height: usize,
    width: usize,
}

impl Image {
    fn new(values: Vec<f32>, width: usize) -> Self {
        let height = values.len() / width;
        Self {
            values,
            height,
            width,
        }
    }

    /// The image whose pixel at each row and column is `value` of them.
    fn map(&self, value: impl Fn(isize, isize) -> f32) -> Self {
        let rows = 0..self.height as isize;
        let at = rows.flat_map(|row| (0..self.width as isize).map(move |column| (row, column)));
        let values = at.map(|(row, column)| value(row, column));
        Self::new(values.collect(), self.width)
    }

    /// The value at a row and column, 0 outside.
    fn at(&self, row: isize, column: isize) -> f32 {
        let inside =
            (0..self.height as isize).contains(&row) && (0..self.width as isize).contains(&column);
        if inside {
            self.values[row as usize * self.width + column as usize]
        } else {
            0.0
        }
    }

    /// The weighted sum around a pixel, `place` saying which row or column replaces one outside.
    fn sum(
        &self,
        [row, column]: [isize; 2],
        kernel: &[([isize; 2], f32)],
        place: fn(isize, usize) -> isize,
    ) -> f32 {
        let terms = kernel.iter().map(|([down, right], weight)| {
            let (row, column) = (row + down, column + right);
            weight * self.at(place(row, self.height), place(column, self.width))
        });
        terms.sum()
    }

    /// Smoothed, mirrored at the edges.
    fn smoothed(&self) -> Self {
        let bell = |at: isize| (-((at * at) as f64) / (2.0 * SIGMA * SIGMA)).exp();
        let total: f64 = (-REACH..=REACH).map(bell).sum();
        let around =
            (-REACH..=REACH).flat_map(|down| (-REACH..=REACH).map(move |right| [down, right]));
        let weight = |[down, right]: [isize; 2]| bell(down) * bell(right) / (total * total);
        let kernel: Vec<_> = around.map(|step| (step, weight(step) as f32)).collect();
        self.map(|row, column| self.sum([row, column], &kernel, mirrored))
    }

    /// How steep the smoothed image is, where it is steeper than both neighbours along its slope;
    /// elsewhere 0.
    fn thinned(&self) -> Self {
        let smooth = self.smoothed();
        let slope = |across: bool| {
            let weights = (-1..=1).flat_map(|side: isize| {
                [-1, 1].map(|along: isize| {
                    let step = if across { [side, along] } else { [along, side] };
                    (step, (along * (2 - side.abs())) as f32)
                })
            });
            let kernel: Vec<_> = weights.collect();
            smooth.map(|row, column| smooth.sum([row, column], &kernel, clamped))
        };
        let (right, down) = (slope(true), slope(false));
        let steep = self.map(|row, column| {
            let (x, y) = (right.at(row, column), down.at(row, column));
            (x * x + y * y + 1e-6).sqrt()
        });
        steep.map(|row, column| {
            let angle = down
                .at(row, column)
                .atan2(right.at(row, column))
                .to_degrees();
            let toward = (angle / 45.0).round_ties_even().rem_euclid(8.0) as usize;
            let value = steep.at(row, column);
            let above = |toward: usize| {
                let [down, right] = AROUND[toward % 8];
                value > steep.at(row + down, column + right)
            };
            if above(toward) && above(toward + 4) {
                value
            } else {
                0.0
            }
        })
    }
}

/// 1 for all pixels above the lower bound that are connected to one above the upper.
fn connected(thin: &Image) -> Vec<f32> {
    let strong = thin.values.iter().enumerate();
    let strong = strong.filter(|(_, value)| **value > HIGH);
    let mut open: Vec<usize> = strong.map(|(at, _)| at).collect();
    let mut edges = vec![0.0; thin.values.len()];
    for &at in &open {
        edges[at] = 1.0;
    }
    while let Some(at) = open.pop() {
        let (row, column) = ((at / thin.width) as isize, (at % thin.width) as isize);
        for [down, right] in AROUND {
            let (row, column) = (row + down, column + right);
            if thin.at(row, column) > LOW {
                let next = row as usize * thin.width + column as usize;
                if edges[next] == 0.0 {
                    edges[next] = 1.0;
                    open.push(next);
                }
            }
        }
    }
    edges
}

/// Replaces places outside by those as far inside, the outermost being the mirror.
fn mirrored(at: isize, len: usize) -> isize {
    let last = len as isize - 1;
    let at = at.abs();
    if at > last { 2 * last - at } else { at }
}

/// Replaces places outside by the outermost.
fn clamped(at: isize, len: usize) -> isize {
    at.clamp(0, len as isize - 1)
}
