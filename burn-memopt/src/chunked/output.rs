use std::ops::Range;

use burn::tensor::{DType, Tensor};

use super::band::Band;
use super::{Axis, Blend, BoxError, ChunkedError, Grid, RowSink};

/// One output of a model on its way to its sink.
pub(super) struct Output {
    number: usize,
    channels: usize,
    /// Height and width of what comes out of a window, and of the window.
    sides: [[usize; 2]; 2],
    weights: Vec<f32>,
    band: Band,
    /// Rows of the result that are there already.
    done: usize,
}

impl Output {
    /// Begins with the first output of a window; tells the sink what comes.
    ///
    /// # Panics
    /// If window starts do not fall on pixels of the output.
    pub(super) fn begin(
        number: usize,
        dims: [usize; 4],
        num_images: usize,
        grid: &Grid,
        blend: &Blend,
        sink: &mut dyn RowSink,
    ) -> Result<Self, ChunkedError> {
        let [_, channels, out_height, out_width] = dims;
        let window = [grid.rows().window(), grid.columns().window()];
        let mut output = Self {
            number,
            channels,
            sides: [[out_height, out_width], window],
            weights: resize(&blend.weights(window), window, [out_height, out_width]),
            band: Band::new(0, 0, 0, 0),
            done: 0,
        };
        output.check(0, grid.rows());
        output.check(1, grid.columns());
        let [height, width] = [grid.rows().len(), grid.columns().len()];
        let result = [output.scaled(0, height), output.scaled(1, width)];
        let begun = sink.begin([num_images, channels, result[0], result[1]]);
        output.done = begun.map_err(|source| ChunkedError::write(number, 0, source))?;
        output.start_at(0, grid, num_images);
        Ok(output)
    }

    /// Refuses windows that start between pixels of the output.
    fn check(&self, side: usize, axis: &Axis) {
        let [out, window] = [self.sides[0][side], self.sides[1][side]];
        let places = axis.starts().iter().copied();
        let odd = places
            .chain([axis.before(), axis.len()])
            .find(|place| place * out % window != 0);
        assert!(
            odd.is_none(),
            "windows must start on pixels of each output: output {} has {out} pixels for {window} of \
             the window, and one starts at {}; choose another window or overlap",
            self.number,
            odd.unwrap_or_default(),
        );
    }

    fn scaled(&self, side: usize, place: usize) -> usize {
        place * self.sides[0][side] / self.sides[1][side]
    }

    /// Rows of the image of which every result row is there already.
    pub(super) fn rows_done(&self) -> usize {
        self.done * self.sides[1][0] / self.sides[0][0]
    }

    /// Begins with the windows that start at row `start` of the padded image.
    pub(super) fn start_at(&mut self, start: usize, grid: &Grid, num_images: usize) {
        let width = self.scaled(1, grid.columns().padded());
        let first = self.scaled(0, start);
        self.band = Band::new(num_images * self.channels, self.sides[0][0], width, first);
    }

    /// Adds what came out of windows, `[windows, channels, height, width]`.
    ///
    /// # Errors
    /// If the device cannot give it.
    pub(super) fn add(
        &mut self,
        places: &[(usize, usize)],
        result: Tensor<4>,
    ) -> Result<(), BoxError> {
        let data = result.cast(DType::F32).try_into_data()?;
        let pixels = data.as_slice::<f32>().expect("invariant: cast to f32");
        let len = pixels.len() / places.len();
        for (&(image, start), pixels) in places.iter().zip(pixels.chunks(len)) {
            let column = self.scaled(1, start);
            let planes = image * self.channels..(image + 1) * self.channels;
            self.band.add(planes, column, pixels, &self.weights);
            if image == 0 {
                self.band.weigh(column, &self.weights);
            }
        }
        Ok(())
    }

    /// Hands rows of the padded image that are final to the sink.
    pub(super) fn finish(
        &mut self,
        rows: Range<usize>,
        grid: &Grid,
        sink: &mut dyn RowSink,
    ) -> Result<(), ChunkedError> {
        let before = self.scaled(0, grid.rows().before());
        let image = before + self.done..before + self.scaled(0, grid.rows().len());
        let rows = self.scaled(0, rows.start)..self.scaled(0, rows.end);
        let wanted = rows.start.max(image.start)..rows.end.min(image.end);
        let first_column = self.scaled(1, grid.columns().before());
        let columns = first_column..first_column + self.scaled(1, grid.columns().len());
        let pixels = self.band.take(rows.end, wanted.clone(), columns);
        if pixels.is_empty() {
            return Ok(());
        }
        let written = wanted.start - before..wanted.end - before;
        let first = written.start;
        sink.write(written, &pixels)
            .map_err(|source| ChunkedError::write(self.number, first, source))
    }
}

/// Weights of a window for an output of another size: each pixel's are those of the nearest.
fn resize(weights: &[f32], from: [usize; 2], to: [usize; 2]) -> Vec<f32> {
    let place = |side: usize, at: usize| at * from[side] / to[side];
    let row = |y: usize| (0..to[1]).map(move |x| place(0, y) * from[1] + place(1, x));
    (0..to[0]).flat_map(row).map(|at| weights[at]).collect()
}
