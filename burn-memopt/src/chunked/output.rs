use burn::tensor::Tensor;

use super::band::Piece;
use super::coverage::Coverage;
use super::pending::{Finished, Pending};
use super::{Accumulator, Axis, Blend, ChunkedError, Grid, RowSink, WindowPlace};

/// What every output of a run shares.
pub(super) struct Run<'a> {
    pub grid: Grid,
    pub num_images: usize,
    pub blend: &'a Blend,
    pub accumulator: &'a Accumulator,
}

/// One output of a model on its way to its sink.
pub(super) struct Output {
    /// Height and width of what comes out of a window.
    sides: [usize; 2],
    /// First rows and columns of windows in the padded result.
    starts: [Vec<usize>; 2],
    /// Pixels that are padded in front of the result.
    before: [usize; 2],
    /// Height and width of the result.
    size: [usize; 2],
    /// Rows of the result that were there when the run began.
    done: usize,
    pending: Pending,
}

impl Output {
    /// Begins with the first output of windows; tells the sink what comes.
    ///
    /// # Panics
    /// If window starts do not fall on pixels of the output.
    pub(super) fn begin(
        number: usize,
        result: &Tensor<4>,
        run: &Run,
        sink: &mut dyn RowSink,
    ) -> Result<Self, ChunkedError> {
        let [_, channels, out_height, out_width] = result.dims();
        let sides = [out_height, out_width];
        let axes = [run.grid.rows(), run.grid.columns()];
        let window = axes.map(Axis::window);
        let scaled = |side: usize, place: usize| place * sides[side] / window[side];
        for side in 0..2 {
            check(number, [sides[side], window[side]], axes[side]);
        }
        let starts = [0, 1].map(|side| {
            let starts = axes[side].starts().iter();
            starts.map(|&start| scaled(side, start)).collect()
        });
        let size = [0, 1].map(|side| scaled(side, axes[side].len()));
        let width = scaled(1, axes[1].padded());
        let done = sink.begin([run.num_images, channels, size[0], size[1]]);
        let weights = resize(&run.blend.weights(window), window, sides);
        let pending = Pending::new(
            run.accumulator,
            number,
            [run.num_images, channels, out_height, width],
            Some(Coverage::new(weights, out_width, starts.clone(), width)),
            &result.device(),
        );
        Ok(Self {
            sides,
            starts,
            before: [0, 1].map(|side| scaled(side, axes[side].before())),
            size,
            done: done.map_err(|source| ChunkedError::write(number, 0, source))?,
            pending: pending?,
        })
    }

    /// The first row of windows that touches a row which is not there yet.
    pub(super) fn first_missing(&self) -> usize {
        if self.done >= self.size[0] {
            return self.starts[0].len();
        }
        let wanted = self.before[0] + self.done;
        self.starts[0].partition_point(|start| start + self.sides[0] <= wanted)
    }

    /// Adds what came out of windows, `[windows, channels, height, width]`, at these images and
    /// columns of windows, in row `row` of a run that began with row `first`.
    pub(super) fn add(
        &mut self,
        [first, row]: [usize; 2],
        places: &[(usize, usize)],
        at: WindowPlace,
        results: Tensor<4>,
    ) -> Result<(), ChunkedError> {
        // Where the window before ends.
        let end = |side: usize, number: usize, first: usize| match number > first {
            true => self.starts[side][number - 1] + self.sides[side],
            false => 0,
        };
        let piece = |&(image, column): &(usize, usize)| Piece {
            image,
            row: self.starts[0][row],
            column: self.starts[1][column],
            old_rows: end(0, row, first),
            old_columns: end(1, column, 0),
        };
        let pieces: Vec<_> = places.iter().map(piece).collect();
        self.pending.add(at, &pieces, results)
    }

    /// Hands on what no row of windows after the `row`th touches.
    pub(super) fn finish(
        &mut self,
        row: usize,
        sink: &mut dyn RowSink,
    ) -> Result<(), ChunkedError> {
        let first = self.starts[0][row];
        let until = self.starts[0].get(row + 1);
        let until = until.copied().unwrap_or(first + self.sides[0]);
        let [before, columns_before] = self.before;
        let start = first.max(before + self.done);
        let end = until.min(before + self.size[0]);
        let finished = Finished {
            first,
            until,
            rows: start.min(end)..end,
            columns: columns_before..columns_before + self.size[1],
            before,
        };
        self.pending.finish(finished, sink)
    }
}

/// Refuses windows that start between pixels of an output.
fn check(number: usize, [out, window]: [usize; 2], axis: &Axis) {
    let places = axis.starts().iter().copied();
    let odd = places
        .chain([axis.before(), axis.len()])
        .find(|place| place * out % window != 0);
    assert!(
        odd.is_none(),
        "windows must start on pixels of each output: output {number} has {out} pixels for {window} of \
         the window, and one starts at {}; choose another window or overlap",
        odd.unwrap_or_default(),
    );
}

/// Weights of a window for an output of another size: each pixel's are those of the nearest.
fn resize(weights: &[f32], from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
    let place = |side: usize, at: usize| at * from[side] / to[side];
    let row = |y: usize| (0..to[1]).map(move |x| place(0, y) * from[1] + place(1, x));
    (0..to[0]).flat_map(row).map(|at| weights[at]).collect()
}
