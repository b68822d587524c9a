use std::io;
use std::ops::Range;

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::band::Band;
use super::coverage::Coverage;
use super::device_band::DeviceBand;
use super::{Accumulator, ChunkedError, RowSink, WindowPlace};

/// Numbers that a sink is handed at once, so that they lie in a processor's cache; at least a row.
const NUM_HANDED: usize = 1 << 16;

/// The rows of one output that are not handed on yet, wherever they are kept.
#[derive(Debug)]
pub(super) struct Pending {
    output: usize,
    channels: usize,
    /// What divides sums; `None` if no pixel is covered twice.
    coverage: Option<Coverage>,
    rows: Rows,
    buffer: Vec<f32>,
}

#[derive(Debug)]
enum Rows {
    Lines(Band),
    Device(Box<DeviceBand>),
}

/// Where the result of a window goes in the padded result, and what is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub image: usize,
    pub row: usize,
    pub column: usize,
    /// Rows before this one hold something already,
    pub old_rows: usize,
    /// and so do columns before this one, in rows that do not.
    pub old_columns: usize,
}

impl Piece {
    /// A piece that lies on no other.
    pub(super) fn alone(image: usize, row: usize, column: usize) -> Self {
        Self {
            image,
            row,
            column,
            old_rows: 0,
            old_columns: 0,
        }
    }
}

/// What is finished, in rows and columns of the padded result.
#[derive(Debug, Clone)]
pub(super) struct Finished {
    /// Row that the last windows start with.
    pub first: usize,
    /// Rows before this one are not needed any more.
    pub until: usize,
    /// Perhaps none.
    pub rows: Range<usize>,
    pub columns: Range<usize>,
    /// Rows that are padded in front.
    pub before: usize,
}

impl Pending {
    /// Room for `[num_images, channels, height, width]`, for a model that answers on `device`.
    ///
    /// # Errors
    /// If a file cannot be made.
    pub(super) fn new(
        accumulator: &Accumulator,
        output: usize,
        dims: [usize; 4],
        coverage: Option<Coverage>,
        device: &Device,
    ) -> Result<Self, ChunkedError> {
        let [num_images, channels, height, width] = dims;
        let num_planes = num_images * channels;
        let rows = match accumulator {
            Accumulator::Host => Rows::Lines(Band::on_host(num_planes, height, width)),
            Accumulator::File(folder) => {
                let file = tempfile::tempfile_in(folder);
                let file = file.map_err(|error| ChunkedError::accumulator(output, error))?;
                Rows::Lines(Band::in_file(file, num_planes, height, width))
            }
            Accumulator::Device => {
                let weights = coverage.as_ref().map(|coverage| {
                    let dims = [1, 1, height, coverage.side()];
                    on_device(coverage.weights().to_vec(), dims, device)
                });
                Rows::Device(Box::new(DeviceBand::new(dims, weights, device)))
            }
        };
        Ok(Self {
            output,
            channels,
            coverage,
            rows,
            buffer: Vec::new(),
        })
    }

    /// Adds what came out of windows, `[windows, channels, height, width]`.
    pub(super) fn add(
        &mut self,
        first: WindowPlace,
        pieces: &[Piece],
        results: Tensor<4>,
    ) -> Result<(), ChunkedError> {
        let results = results.cast(DType::F32);
        let band = match &mut self.rows {
            Rows::Lines(band) => band,
            Rows::Device(band) => {
                for (number, piece) in pieces.iter().enumerate() {
                    let result = results.clone().narrow(0, number, 1);
                    band.add(piece.image, piece.column, result);
                }
                return Ok(());
            }
        };
        let [_, _, height, width] = results.dims();
        let data = results.try_into_data();
        let data = data.map_err(|error| ChunkedError::model(first, error.into()))?;
        let pixels = data.as_slice::<f32>().expect("invariant: cast to f32");
        let planes = pixels.chunks(height * width);
        let places = pieces
            .iter()
            .flat_map(|piece| (0..self.channels).map(move |channel| (piece, channel)));
        let weights = self.coverage.as_ref().map(Coverage::weights);
        for ((piece, channel), pixels) in places.zip(planes) {
            let plane = piece.image * self.channels + channel;
            add_plane(band, plane, piece, pixels, width, weights)
                .map_err(|error| ChunkedError::accumulator(self.output, error))?;
        }
        Ok(())
    }

    /// Hands finished rows to a sink.
    pub(super) fn finish(
        &mut self,
        finished: Finished,
        sink: &mut dyn RowSink,
    ) -> Result<(), ChunkedError> {
        let output = self.output;
        let write = |row| move |error| ChunkedError::write(output, row, error);
        let Finished { rows, before, .. } = finished.clone();
        match &mut self.rows {
            Rows::Lines(band) => {
                let row_len = band.num_planes() * finished.columns.len();
                let at_once = (NUM_HANDED / row_len).max(1);
                for start in rows.clone().step_by(at_once) {
                    let some = start..rows.end.min(start + at_once);
                    self.gather(some.clone(), finished.columns.clone())
                        .map_err(|error| ChunkedError::accumulator(output, error))?;
                    let first = some.start - before;
                    sink.write(first..some.end - before, &self.buffer)
                        .map_err(write(first))?;
                }
            }
            Rows::Device(band) => {
                let wanted = rows.start - finished.first..rows.end - finished.first;
                let columns = finished.columns.clone();
                let sums = band.take(finished.until - finished.first, wanted, columns);
                if let Some(sums) = sums {
                    let means = match &mut self.coverage {
                        Some(coverage) => {
                            let weights = divisors(coverage, finished, &sums.device());
                            sums / weights
                        }
                        None => sums,
                    };
                    let first = rows.start - before;
                    sink.write_tensor(first..rows.end - before, means)
                        .map_err(write(first))?;
                }
            }
        }
        Ok(())
    }

    /// Fills the buffer with the weighted means of rows and columns, `[planes, rows, columns]`.
    fn gather(&mut self, rows: Range<usize>, columns: Range<usize>) -> io::Result<()> {
        let Rows::Lines(band) = &mut self.rows else {
            return Ok(());
        };
        let (num_rows, width) = (rows.len(), columns.len());
        self.buffer
            .resize(band.num_planes() * num_rows * width, 0.0);
        for (number, row) in rows.enumerate() {
            let weights = self.coverage.as_mut().map(|coverage| coverage.row(row));
            for plane in 0..band.num_planes() {
                let line = &mut self.buffer[(plane * num_rows + number) * width..][..width];
                band.read([plane, row, columns.start], line)?;
                if let Some(weights) = weights {
                    for (sum, weight) in line.iter_mut().zip(&weights[columns.clone()]) {
                        *sum /= weight;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Adds one channel of a window.
fn add_plane(
    band: &mut Band,
    plane: usize,
    piece: &Piece,
    pixels: &[f32],
    width: usize,
    weights: Option<&[f32]>,
) -> io::Result<()> {
    for (number, pixels) in pixels.chunks(width).enumerate() {
        let row = piece.row + number;
        let old = match row < piece.old_rows {
            true => width,
            false => piece.old_columns.saturating_sub(piece.column),
        };
        let place = [plane, row, piece.column];
        match weights {
            Some(weights) => band.add(place, pixels, &weights[number * width..][..width], old)?,
            None => band.put(place, pixels)?,
        }
    }
    Ok(())
}

/// The sums of weights under finished rows, `[1, 1, rows, columns]`.
fn divisors(coverage: &mut Coverage, finished: Finished, device: &Device) -> Tensor<4> {
    let Finished { rows, columns, .. } = finished;
    let dims = [1, 1, rows.len(), columns.len()];
    let mut weights = Vec::with_capacity(dims.iter().product());
    for row in rows {
        weights.extend_from_slice(&coverage.row(row)[columns.clone()]);
    }
    on_device(weights, dims, device)
}

fn on_device(numbers: Vec<f32>, dims: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(numbers, dims), (device, DType::F32))
}
