use std::ops::Range;

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::band::{Band, Piece, Window};
use super::coverage::Coverage;
use super::device_band::DeviceBand;
use super::float_file::FloatFile;
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
                let file = FloatFile::nameless(folder)
                    .map_err(|error| ChunkedError::accumulator(output, error))?;
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
        let windows = pixels.chunks(self.channels * height * width);
        for (piece, pixels) in pieces.iter().zip(windows) {
            let window = Window {
                pixels,
                height,
                width,
                weights: self.coverage.as_ref().and_then(Coverage::unequal_weights),
            };
            band.add(piece.image * self.channels, piece, &window)
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
                let (num_planes, width) = (band.num_planes(), finished.columns.len());
                let mut read = |rows: Range<usize>, planes: Vec<&mut [f32]>| {
                    let weights = self.coverage.as_mut();
                    let weights = weights
                        .map(|coverage| coverage.rows(rows.clone(), finished.columns.clone()));
                    let lines = planes.into_iter().flat_map(|plane| plane.chunks_mut(width));
                    band.read(rows, finished.columns.start, weights, lines.collect())
                        .map_err(|error| ChunkedError::accumulator(output, error))
                };
                if let Some(planes) = sink.lend(rows.start - before..rows.end - before) {
                    return read(rows, planes);
                }
                let at_once = (NUM_HANDED / (num_planes * width)).max(1);
                for start in rows.clone().step_by(at_once) {
                    let some = start..rows.end.min(start + at_once);
                    self.buffer.resize(num_planes * some.len() * width, 0.0);
                    read(some.clone(), vec![&mut self.buffer])?;
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
}

/// The sums of weights under finished rows, `[1, 1, rows, columns]`.
fn divisors(coverage: &mut Coverage, finished: Finished, device: &Device) -> Tensor<4> {
    let Finished { rows, columns, .. } = finished;
    let dims = [1, 1, rows.len(), columns.len()];
    on_device(coverage.rows(rows, columns).to_vec(), dims, device)
}

fn on_device(numbers: Vec<f32>, dims: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(numbers, dims), (device, DType::F32))
}
