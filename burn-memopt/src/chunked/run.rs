//! Runs a model on the windows of images, row of windows by row of windows.

use std::iter::Peekable;
use std::ops::{ControlFlow, Range};

use burn::tensor::{Device, Tensor};

use super::grid::{Axis, Tile};
use super::rows::{Accumulator, Pixels, Rows};
use super::source::read_window;
use super::{Blend, BoxError, ChunkedError, ImageSource, Padding, RowSink, TensorSink};
use crate::batch::BatchRunner;
use crate::memory::to_host;

/// Windows of one size that a model is to run on.
#[derive(Debug, Clone)]
pub struct Windows {
    /// `[windows, channels, window height, window width]`.
    pub pixels: Tensor<4>,
    /// Where each is.
    pub places: Vec<WindowPlace>,
    /// Height and width of the images.
    pub image_size: [usize; 2],
}

impl Windows {
    /// The same windows in `parts` of almost one size, or in fewer where there are fewer windows.
    ///
    /// # Panics
    /// If `parts` is zero.
    pub fn chunk(self, parts: usize) -> Vec<Self> {
        let pixels = self.pixels.chunk(parts, 0);
        let mut places = self.places.into_iter();
        let part = |pixels: Tensor<4>| Self {
            places: places.by_ref().take(pixels.dims()[0]).collect(),
            pixels,
            image_size: self.image_size,
        };
        pixels.into_iter().map(part).collect()
    }
}

/// Where a window is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowPlace {
    /// Number of the image in its batch.
    pub image: usize,
    /// Row of the image that it starts with; below zero where the image is padded.
    pub row: isize,
    /// Column of the image that it starts with; below zero where the image is padded.
    pub column: isize,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Windows that are done, those of an interrupted run that is resumed included.
    pub done: usize,
    /// Windows in all.
    pub total: usize,
}

/// Where windows and their sums are, and how many windows run at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Placement {
    /// `None` for the device of the images.
    pub device: Option<Device>,
    pub accumulator: Accumulator,
    /// Windows at once, at most. `None` is one, or as many as memory allows.
    pub batch_size: Option<usize>,
}

/// A model's way over images of one size.
#[derive(Debug)]
pub(super) struct Run<'a> {
    /// The windows from top to bottom and from left to right.
    pub axes: [Axis; 2],
    pub padding: Padding,
    /// How windows are put together that overlap in what they keep. `None` if they do not; then
    /// results must have the size of their windows.
    pub blend: Option<&'a Blend>,
    pub placement: &'a Placement,
}

/// Windows of one size that are next to each other in one row of windows, and were read.
struct Batch {
    row: usize,
    /// Images and columns of windows, of those that were not run.
    places: Vec<(usize, usize)>,
    /// `[windows, channels, height, width]`; `None` if all were run.
    pixels: Option<Tensor<4>>,
}

/// Places and results of windows that were run.
type Done = (Vec<(usize, usize)>, Vec<Pixels>);

impl Run<'_> {
    /// Runs on images in memory.
    ///
    /// # Panics
    /// If the device fails.
    pub(super) fn infer<const N: usize>(
        &self,
        images: &Tensor<4>,
        mut model: impl FnMut(Windows) -> [Tensor<4>; N],
    ) -> [Tensor<4>; N] {
        let device = images.device();
        let accumulator = &self.placement.accumulator;
        let mut sinks: [TensorSink; N] =
            std::array::from_fn(|_| TensorSink::for_accumulator(accumulator, &device));
        let to = sinks.each_mut().map(|sink| sink as &mut dyn RowSink);
        let go_on = |_| ControlFlow::Continue(());
        self.stream(images, to, None, go_on, |windows| Ok(model(windows)))
            .unwrap_or_else(|error| error.panic());
        sinks.map(|sink| sink.into_tensor(&device))
    }

    /// Runs from a source to sinks, in batches of a fixed size or as `runner` finds them to fit.
    pub(super) fn stream<const N: usize>(
        &self,
        source: &impl ImageSource,
        mut sinks: [&mut dyn RowSink; N],
        mut runner: Option<&mut BatchRunner>,
        mut progress: impl FnMut(Progress) -> ControlFlow<()>,
        mut model: impl FnMut(Windows) -> Result<[Tensor<4>; N], BoxError>,
    ) -> Result<(), ChunkedError> {
        let num_images = source.dims()[0];
        let [num_rows, num_columns] = self.axes.each_ref().map(|axis| axis.windows.len());
        let total = num_rows * num_images * num_columns;
        let mut outputs: Vec<Rows> = Vec::new();
        let (mut first, mut row) = (0, 0);
        'rows: while row < num_rows {
            let mut done = row * num_images * num_columns;
            let mut places = (0..num_images)
                .flat_map(|image| (0..num_columns).map(move |column| (image, column)))
                .peekable();
            while places.peek().is_some() {
                let batch_size = self.placement.batch_size;
                let most = match &runner {
                    Some(runner) => runner.next_size().min(batch_size.unwrap_or(usize::MAX)),
                    None => batch_size.unwrap_or(1),
                };
                let mut batch = self.read(source, row, &mut places, most)?;
                while !batch.places.is_empty() {
                    let (ran, results) = self.run(&mut batch, &mut runner, &mut model)?;
                    if outputs.is_empty() {
                        outputs = self.begin(num_images, &results, &mut sinks)?;
                        let missing = outputs.iter().map(Rows::first_missing);
                        first = missing.min().unwrap_or(0);
                        if first > 0 {
                            row = first;
                            continue 'rows;
                        }
                    }
                    for (output, results) in outputs.iter_mut().zip(results) {
                        output.add([first, row], &ran, results)?;
                    }
                    done += ran.len();
                    if progress(Progress { done, total }).is_break() && done < total {
                        return Err(ChunkedError::Cancelled { done, total });
                    }
                }
            }
            for (output, sink) in outputs.iter_mut().zip(&mut sinks) {
                output.finish(row, *sink)?;
            }
            row += 1;
        }
        Ok(())
    }

    /// Reads the next windows of a row of windows: of one size, and of which the same part is kept.
    fn read(
        &self,
        source: &impl ImageSource,
        row: usize,
        places: &mut Peekable<impl Iterator<Item = (usize, usize)>>,
        most: usize,
    ) -> Result<Batch, ChunkedError> {
        let axes = self.axes.each_ref();
        let columns = &axes[1].windows;
        let shape = |column: usize| (columns[column].read.len(), kept(&columns[column]));
        let (mut batch, mut pixels) = (Vec::new(), Vec::new());
        while batch.len() < most {
            let is_alike = |&(_, column): &(usize, usize)| match batch.first() {
                Some(&(_, first)) => shape(column) == shape(first),
                None => true,
            };
            let Some((image, column)) = places.next_if(is_alike) else {
                break;
            };
            let window = [&axes[0].windows[row].read, &columns[column].read];
            let start = window.map(|window| window.start);
            let window = read_window(source, image, axes, window, self.padding)
                .map_err(|error| ChunkedError::read(image, start, error))?;
            pixels.push(window);
            batch.push((image, column));
        }
        let pixels = match pixels.len() {
            1 => pixels.swap_remove(0),
            _ => Tensor::cat(pixels, 0),
        };
        let pixels = match &self.placement.device {
            Some(device) => pixels.to_device(device),
            None => pixels,
        };
        Ok(Batch {
            row,
            places: batch,
            pixels: Some(pixels),
        })
    }

    /// Runs the first windows of a batch, as many as fit. Returns their places and results.
    fn run<const N: usize>(
        &self,
        batch: &mut Batch,
        runner: &mut Option<&mut BatchRunner>,
        model: &mut impl FnMut(Windows) -> Result<[Tensor<4>; N], BoxError>,
    ) -> Result<Done, ChunkedError> {
        let (row, num_windows, is_adaptive) = (batch.row, batch.places.len(), runner.is_some());
        let first = self.place(row, batch.places[0]);
        let tile = [(0, row), (1, batch.places[0].1)];
        let tile = tile.map(|(side, number)| &self.axes[side].windows[number]);
        let mut run = |count: usize| -> Result<Vec<Pixels>, BoxError> {
            // What does not run again is moved, so that the model may use its memory.
            let pixels = if count == num_windows && (count == 1 || !is_adaptive) {
                batch.pixels.take()
            } else {
                batch.pixels.clone()
            };
            let pixels = pixels.expect("invariant: a batch of one window runs once");
            let windows = Windows {
                pixels: narrowed(pixels, 0, count),
                places: batch.places[..count]
                    .iter()
                    .map(|&place| self.place(row, place))
                    .collect(),
                image_size: self.axes.each_ref().map(|axis| axis.len),
            };
            let results = model(windows)?.into_iter();
            results
                .map(|results| self.fetch(results, tile, is_adaptive))
                .collect()
        };
        let (count, results) = match runner {
            Some(runner) => runner
                .run_first(num_windows, run)
                .map_err(|error| ChunkedError::model(first, error.into()))?,
            None => (
                num_windows,
                run(num_windows).map_err(|error| ChunkedError::model(first, error))?,
            ),
        };
        let pixels = batch.pixels.take().filter(|_| count < num_windows);
        batch.pixels = pixels.map(|pixels| narrowed(pixels, count, num_windows - count));
        Ok((batch.places.drain(..count).collect(), results))
    }

    /// Takes what is kept of results of windows, `tile` in height and width, to where their sums are.
    fn fetch(
        &self,
        results: Tensor<4>,
        tile: [&Tile; 2],
        is_adaptive: bool,
    ) -> Result<Pixels, BoxError> {
        let results = if self.blend.is_some() {
            results
        } else {
            let [windows, channels, height, width] = results.dims();
            assert_eq!(
                [height, width],
                tile.map(|tile| tile.read.len()),
                "the output of exact tiles must have the height and width of its input"
            );
            let [rows, columns] = tile.map(kept);
            results.slice([0..windows, 0..channels, rows, columns])
        };
        let accumulator = &self.placement.accumulator;
        if is_adaptive && *accumulator == Accumulator::Device {
            // Lack of memory shows only where a result is read: one number is enough.
            let number = results.clone().slice([0..1, 0..1, 0..1, 0..1]);
            to_host(number)?;
        }
        accumulator.fetch(results)
    }

    fn place(&self, row: usize, (image, column): (usize, usize)) -> WindowPlace {
        let start = |axis: &Axis, number: usize| {
            axis.windows[number].read.start as isize - axis.before as isize
        };
        WindowPlace {
            image,
            row: start(&self.axes[0], row),
            column: start(&self.axes[1], column),
        }
    }

    /// Begins the result of every sink.
    fn begin<const N: usize>(
        &self,
        num_images: usize,
        results: &[Pixels],
        sinks: &mut [&mut dyn RowSink; N],
    ) -> Result<Vec<Rows>, ChunkedError> {
        let outputs = results.iter().zip(sinks).enumerate();
        outputs
            .map(|(output, (results, sink))| Rows::begin(output, results, num_images, self, *sink))
            .collect()
    }
}

/// What is kept of a window, in pixels of the window.
fn kept(tile: &Tile) -> Range<usize> {
    let start = tile.keep.start - tile.read.start;
    start..start + tile.keep.len()
}

/// Windows from number `first` on.
fn narrowed(windows: Tensor<4>, first: usize, count: usize) -> Tensor<4> {
    if windows.dims()[0] == count {
        windows
    } else {
        windows.narrow(0, first, count)
    }
}
