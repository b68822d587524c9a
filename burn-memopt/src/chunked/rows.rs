//! The rows of a result that windows still touch, wherever they are kept.

use std::ops::Range;
use std::path::PathBuf;

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::band::{Band, Piece};
use super::blend::Coverage;
use super::buffer::FloatFile;
use super::grid::Axis;
use super::run::Run;
use super::{BoxError, ChunkedError, RowSink};
use crate::memory::to_host;

/// Numbers that a sink gets at once, so that they fit into a processor's cache; at least a row.
const NUM_WRITTEN: usize = 1 << 16;

/// Where the rows of a result are kept that windows still touch: as many as a window has, over the
/// whole width of the image.
///
/// # Exactness
/// Sums are the same in host memory and in a file. A device may round otherwise in the last digit.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::chunked::{Accumulator, SlidingWindow};
///
/// let image = Tensor::<4>::ones([1, 1, 40, 30], &Device::flex());
/// let windows = SlidingWindow::new([16, 16]);
/// let in_file = Accumulator::File(std::env::temp_dir());
/// let kept = windows.clone().with_accumulator(in_file);
/// assert_eq!(
///     kept.infer(image.clone(), |window| window * 2.0).into_data(),
///     windows.infer(image, |window| window * 2.0).into_data(),
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Accumulator {
    /// In host memory: every window is read from its device when it is done.
    #[default]
    Host,
    /// On the device of the model's results: only finished rows leave it, and it waits once for
    /// each row of windows instead of once for each batch of them.
    Device,
    /// In a nameless file in this folder, so that memory does not grow with the width of the
    /// image either. It is read and written by position: the pages of a memory map would count
    /// as memory of the process.
    File(PathBuf),
}

impl Accumulator {
    /// The name that the file of [`File`](Self::File) has for a moment, as a temporary file of
    /// [`files`](crate::files): `files::remove_leftovers(folder.join(FILE_NAME))` removes what a process
    /// leaves that is killed in this moment.
    pub const FILE_NAME: &str = "window-sums";
}

/// What came out of a batch of windows, where its sums are kept: `[windows, channels, height,
/// width]` in f32.
#[derive(Debug)]
pub(super) enum Pixels {
    Host(TensorData),
    Device(Box<Tensor<4>>),
}

impl Accumulator {
    /// Brings results of windows to where they are added up.
    pub(super) fn fetch(&self, results: Tensor<4>) -> Result<Pixels, BoxError> {
        let results = results.cast(DType::F32);
        Ok(match self {
            Self::Device => Pixels::Device(Box::new(results)),
            Self::Host | Self::File(_) => Pixels::Host(to_host(results)?),
        })
    }
}

impl Pixels {
    fn dims(&self) -> [usize; 4] {
        match self {
            Self::Host(data) => data.shape().dims(),
            Self::Device(tensor) => tensor.dims(),
        }
    }
}

/// One output of a model: the rows that are not written yet.
#[derive(Debug)]
pub(super) struct Rows {
    output: usize,
    /// The windows in pixels of the result.
    axes: [Axis; 2],
    channels: usize,
    /// Rows of the result that the sink had when the run began.
    done: usize,
    /// What divides sums; `None` if no pixel is in two windows.
    coverage: Option<Coverage>,
    sums: Sums,
    buffer: Vec<f32>,
}

#[derive(Debug)]
enum Sums {
    Band(Band),
    Device(Box<DeviceBand>),
}

impl Rows {
    /// Begins with the first results of windows, and begins the sink's result.
    ///
    /// # Errors
    /// If the sink refuses, or a file cannot be made.
    ///
    /// # Panics
    /// If windows start between two pixels of the result.
    pub(super) fn begin(
        output: usize,
        results: &Pixels,
        num_images: usize,
        run: &Run,
        sink: &mut dyn RowSink,
    ) -> Result<Self, ChunkedError> {
        let [_, channels, out_height, out_width] = results.dims();
        let window = run.axes.each_ref().map(Axis::window);
        let axes = [(0, out_height), (1, out_width)].map(|(side, out)| {
            run.axes[side].scaled(out).unwrap_or_else(|odd| {
                panic!(
                    "windows must start on pixels of each output: output {output} has {out} pixels \
                     for {} of the window, and one starts at {odd}; choose another window or overlap",
                    window[side]
                )
            })
        });
        let done = sink
            .begin([num_images, channels, axes[0].len, axes[1].len])
            .map_err(|source| ChunkedError::write(output, 0, source))?;
        let coverage = run.blend.map(|blend| Coverage::new(blend, window, &axes));
        let (height, width) = (out_height, axes[1].padded());
        let size = [num_images * channels, height, width];
        let sums = match (&run.placement.accumulator, results) {
            (Accumulator::File(folder), _) => {
                let file = FloatFile::nameless(&folder.join(Accumulator::FILE_NAME))
                    .map_err(|error| ChunkedError::accumulator(output, error))?;
                Sums::Band(Band::in_file(file, size))
            }
            (_, Pixels::Host(_)) => Sums::Band(Band::on_host(size)),
            (_, Pixels::Device(results)) => {
                let device = results.device();
                let weights = coverage.as_ref().map(|coverage| {
                    let dims = [1, 1, out_height, out_width];
                    on_device(coverage.weights().to_vec(), dims, &device)
                });
                let dims = [num_images, channels, height, width];
                Sums::Device(Box::new(DeviceBand::new(dims, weights, &device)))
            }
        };
        Ok(Self {
            output,
            axes,
            channels,
            done,
            coverage,
            sums,
            buffer: Vec::new(),
        })
    }

    /// The first row of windows that touches a row which the sink does not have.
    pub(super) fn first_missing(&self) -> usize {
        let rows = &self.axes[0];
        if self.done >= rows.len {
            return rows.windows.len();
        }
        let wanted = rows.before + self.done;
        rows.windows
            .partition_point(|window| window.keep.end <= wanted)
    }

    /// Adds what came out of windows at these images and columns of windows, in row `row` of a run
    /// that began with row `first`.
    pub(super) fn add(
        &mut self,
        [first, row]: [usize; 2],
        places: &[(usize, usize)],
        results: Pixels,
    ) -> Result<(), ChunkedError> {
        let [num_results, channels, height, width] = results.dims();
        assert_eq!(
            num_results,
            places.len(),
            "a batch must have one result for each of its windows"
        );
        let [rows, columns] = &self.axes;
        match (&mut self.sums, results) {
            (Sums::Band(band), Pixels::Host(data)) => {
                let pixels = data.as_slice::<f32>().expect("invariant: cast to f32");
                let weights = self.coverage.as_ref().and_then(Coverage::unequal_weights);
                let windows = pixels.chunks(channels * height * width);
                for (&(image, column), pixels) in places.iter().zip(windows) {
                    let piece = Piece {
                        pixels,
                        height,
                        width,
                        weights,
                        plane: image * self.channels,
                        row: rows.windows[row].keep.start,
                        column: columns.windows[column].keep.start,
                        old_rows: rows.covered_end(row, first),
                        old_columns: columns.covered_end(column, 0),
                    };
                    band.add(&piece)
                        .map_err(|error| ChunkedError::accumulator(self.output, error))?;
                }
            }
            (Sums::Device(band), Pixels::Device(results)) => {
                for (number, &(image, column)) in places.iter().enumerate() {
                    let column = columns.windows[column].keep.start;
                    band.add(image, column, results.clone().narrow(0, number, 1));
                }
            }
            _ => unreachable!("invariant: results are where the sums are"),
        }
        Ok(())
    }

    /// Writes the rows that no row of windows after number `row` touches.
    pub(super) fn finish(
        &mut self,
        row: usize,
        sink: &mut dyn RowSink,
    ) -> Result<(), ChunkedError> {
        let (output, before) = (self.output, self.axes[0].before);
        let [left, width] = [self.axes[1].before, self.axes[1].len];
        // In rows of the padded result.
        let first = self.axes[0].windows[row].keep.start;
        let until = self.axes[0].final_end(row);
        let end = until.min(before + self.axes[0].len);
        let rows = first.max(before + self.done).min(end)..end;
        let written = |rows: &Range<usize>| rows.start - before..rows.end - before;
        let write = |row: usize| move |error| ChunkedError::write(output, row, error);
        match &mut self.sums {
            Sums::Band(band) => {
                let num_planes = band.num_planes();
                let mut read = |rows: Range<usize>, planes: Vec<&mut [f32]>| {
                    let weights = self.coverage.as_mut();
                    let weights =
                        weights.map(|coverage| coverage.rows(rows.clone(), left..left + width));
                    let lines = planes.into_iter().flat_map(|plane| plane.chunks_mut(width));
                    band.read(rows, left, weights, lines.collect())
                        .map_err(|error| ChunkedError::accumulator(output, error))
                };
                if let Some(planes) = sink.lend(written(&rows)) {
                    return read(rows, planes);
                }
                let at_once = (NUM_WRITTEN / (num_planes * width)).max(1);
                for start in rows.clone().step_by(at_once) {
                    let some = start..rows.end.min(start + at_once);
                    self.buffer.resize(num_planes * some.len() * width, 0.0);
                    read(some.clone(), vec![&mut self.buffer])?;
                    let some = written(&some);
                    sink.write(some.clone(), &self.buffer)
                        .map_err(write(some.start))?;
                }
            }
            Sums::Device(band) => {
                let taken = rows.start - first..rows.end - first;
                let sums = band.take(until - first, taken, left..left + width);
                let Some(sums) = sums else { return Ok(()) };
                let means = match &mut self.coverage {
                    Some(coverage) => {
                        let weights = coverage.rows(rows.clone(), left..left + width).to_vec();
                        let device = sums.device();
                        sums / on_device(weights, [1, 1, rows.len(), width], &device)
                    }
                    None => sums,
                };
                let rows = written(&rows);
                sink.write_tensor(rows.clone(), means)
                    .map_err(write(rows.start))?;
            }
        }
        Ok(())
    }
}

/// Sums of windows for the rows of one row of windows, on a device.
#[derive(Debug)]
struct DeviceBand {
    /// `[num_images, channels, height, width]`; `None` only while they are replaced.
    sums: Option<Tensor<4>>,
    /// Of a window, `[1, 1, height, width]`.
    weights: Option<Tensor<4>>,
}

impl DeviceBand {
    fn new(dims: [usize; 4], weights: Option<Tensor<4>>, device: &Device) -> Self {
        Self {
            sums: Some(Tensor::zeros(dims, (device, DType::F32))),
            weights,
        }
    }

    /// Adds a window's pixels, `[1, channels, height, width]`, times its weights, from the first row
    /// on.
    fn add(&mut self, image: usize, column: usize, pixels: Tensor<4>) {
        let [_, channels, rows, columns] = pixels.dims();
        let place = [
            image..image + 1,
            0..channels,
            0..rows,
            column..column + columns,
        ];
        let pixels = match &self.weights {
            Some(weights) => pixels * weights.clone(),
            None => pixels,
        };
        self.sums = self.sums.take().map(|sums| {
            let pixels = pixels + sums.clone().slice(place.clone());
            sums.slice_assign(place, pixels)
        });
    }

    /// Returns the sums of rows and columns, if there are any, and drops the first `num_dropped` rows.
    fn take(
        &mut self,
        num_dropped: usize,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Option<Tensor<4>> {
        let sums = self.sums.take()?;
        let [images, channels, height, width] = sums.dims();
        let taken =
            (!rows.is_empty()).then(|| sums.clone().slice([0..images, 0..channels, rows, columns]));
        let zeros = Tensor::zeros(
            [images, channels, num_dropped, width],
            (&sums.device(), DType::F32),
        );
        let rest = sums.slice([0..images, 0..channels, num_dropped..height, 0..width]);
        // burn leaves empty tensors out.
        self.sums = Some(Tensor::cat(vec![rest, zeros], 2));
        taken
    }
}

fn on_device(numbers: Vec<f32>, dims: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(numbers, dims), (device, DType::F32))
}
