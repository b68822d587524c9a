//! Products of a weight with *columns*, what the kernel sees at each output pixel, on the host.
//!
//! A convolution is a matrix product (Chellapilla et al. 2006, "High Performance Convolutional
//! Neural Networks for Document Processing", section 4.2). The columns of a whole image would be
//! many times as large as the image, so they exist for one *band* of output pixels a thread at a
//! time. The cut into bands depends on sizes alone, so that a result does not depend on the
//! number of threads.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// Values of a band's columns: 256 KiB, which stay in a core's cache.
const BAND_VALUES: usize = 1 << 16;
/// A product of fewer pixels spends its time on reading the weight.
const LEAST_BAND: usize = 128;
const MOST_BAND: usize = 2048;
/// Work is cut into at least as many tasks, where its sizes allow, so that there is some for
/// every core.
const LEAST_TASKS: usize = 8;
/// Enough values for the widest registers.
const LANES: usize = 64;
/// Output channels of a task, at least, where a band is shared by several.
const LEAST_CHANNELS: usize = 64;

/// The sizes of a product for a batch of images.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub batch_size: usize,
    /// Images of an item that are convolved each for itself: a channel of an item is all of its
    /// frames.
    pub frames: usize,
    /// Groups of channels, each with a weight of its own.
    pub groups: usize,
    /// Output channels of a group.
    pub channels_out: usize,
    /// Input channels of a group.
    pub channels_in: usize,
    /// Values of a column for each input channel: pixels of the kernel.
    pub taps: usize,
    /// Output height and width.
    pub output: [usize; 2],
}

impl Sizes {
    fn pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Images with a weight each.
    fn images(&self) -> usize {
        self.batch_size * self.frames * self.groups
    }

    /// Item, frame and group of an image.
    fn image(&self, number: usize) -> [usize; 3] {
        let (number, group) = (number / self.groups, number % self.groups);
        [number / self.frames, number % self.frames, group]
    }

    /// Where an output channel of an image begins.
    fn start(&self, [item, frame, group]: [usize; 3], channel: usize) -> usize {
        let channel = (item * self.groups + group) * self.channels_out + channel;
        (channel * self.frames + frame) * self.pixels()
    }

    /// Distance of output channels.
    fn channel(&self) -> usize {
        self.frames * self.pixels()
    }

    fn column(&self) -> usize {
        self.channels_in * self.taps
    }

    /// Ranges of output pixels for columns of so many values: whole rows, or a part of one.
    fn bands(&self, column: usize) -> Vec<Range<usize>> {
        let [height, width] = self.output;
        let most = (BAND_VALUES / column).clamp(LEAST_BAND, MOST_BAND);
        if width > most {
            let parts = pieces(width, width.div_ceil(most));
            let shifted = |y| {
                let parts = parts.iter();
                parts.map(move |part| y * width + part.start..y * width + part.end)
            };
            (0..height).flat_map(shifted).collect()
        } else {
            let rows = pieces(height, height.div_ceil(most / width));
            let band = |rows: &Range<usize>| rows.start * width..rows.end * width;
            rows.iter().map(band).collect()
        }
    }
}

/// Cuts `0..len` into `count` ranges, as equally long as can be.
fn pieces(len: usize, count: usize) -> Vec<Range<usize>> {
    let start = |at| at * len / count;
    (0..count).map(|at| start(at)..start(at + 1)).collect()
}

/// Columns of a band: a row for each value of a column, a value for each pixel.
#[derive(Clone, Copy)]
pub(super) struct Columns<'a> {
    /// Begins with the first row and ends with or after the last one.
    pub values: &'a [f32],
    /// Distance between rows.
    pub stride: usize,
}

/// Columns that a task asks for.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Item, frame and group.
    pub image: [usize; 3],
    /// Input channels of the group.
    pub channels: Range<usize>,
    /// Output pixels.
    pub band: Range<usize>,
}

/// What has columns.
pub(super) trait Source: Sync {
    /// Returns columns, in the scratch memory if they are nowhere else. It has room for them.
    fn columns<'a>(&'a self, place: &Place, scratch: &'a mut [f32]) -> Columns<'a>;

    /// Whether any columns need scratch memory.
    fn needs_scratch(&self) -> bool {
        true
    }
}

/// Runs tasks on all threads, each with scratch memory of its thread.
///
/// All of it is there from the beginning, so that the peak does not depend on which tasks happen
/// to run at the same time.
///
/// The same goes for what the matrix product keeps for each thread.
fn run_tasks(num_tasks: usize, scratch_len: usize, run: impl Fn(&mut [f32], usize) + Sync) {
    prepare_threads();
    let threads = rayon::current_num_threads().min(num_tasks);
    let mut scratches = vec![vec![0.0; scratch_len]; threads];
    // As many loops as threads take tasks one by one.
    let next = AtomicUsize::new(0);
    // In the pool, also if there is one task: `gemm` keeps memory for every thread that calls it.
    rayon::scope(|scope| {
        for scratch in &mut scratches {
            scope.spawn(|_| {
                let tasks = std::iter::repeat_with(|| next.fetch_add(1, Relaxed));
                for task in tasks.take_while(|&task| task < num_tasks) {
                    run(scratch, task);
                }
            });
        }
    });
}

/// Lets every thread compute once, so that it has what `gemm` keeps for it (the size of its cache) from
/// the first convolution on, and peaks that are measured later are those of other runs too.
fn prepare_threads() {
    static PREPARED: AtomicBool = AtomicBool::new(false);
    // Nobody waits for it: a thread that did could not take part.
    if !PREPARED.swap(true, Relaxed) {
        rayon::broadcast(|_| {
            // Whole registers of neighbours, for which nothing is copied: then it takes that memory.
            let factor = vec![1.0; LANES * LANES];
            let mut output = vec![0.0; LANES * LANES];
            let shared = SharedOutput::new(&mut output);
            let factor = (&factor[..], LANES, 1);
            shared.add_product((0, LANES), factor, factor, [LANES; 3]);
        });
    }
}

/// Values of the columns of the longest band.
fn scratch_len(source: &impl Source, bands: &[Range<usize>], column: usize) -> usize {
    if source.needs_scratch() {
        column * bands.iter().map(ExactSizeIterator::len).max().unwrap_or(0)
    } else {
        0
    }
}

/// Computes `weight · columns + bias`: `[batch_size, groups * channels_out, frames, height, width]`.
///
/// # Shapes
/// - weight: `[groups, channels_out, channels_in * taps]`
/// - bias: `[groups * channels_out]`
pub(super) fn product(
    sizes: &Sizes,
    weight: &[f32],
    bias: Option<&[f32]>,
    source: &impl Source,
) -> Vec<f32> {
    let (channels_out, column) = (sizes.channels_out, sizes.column());
    let bands = sizes.bands(column);
    let images = sizes.images();
    let mut blocks = 1;
    while images * bands.len() * blocks < LEAST_TASKS && channels_out >= 2 * LEAST_CHANNELS * blocks
    {
        blocks *= 2;
    }
    let blocks = pieces(channels_out, blocks);

    let mut output = vec![0.0; images * channels_out * sizes.pixels()];
    let shared = SharedOutput::new(&mut output);
    let run = |scratch: &mut [f32], task: usize| {
        let (task, block) = (task / blocks.len(), &blocks[task % blocks.len()]);
        let (image, band) = (task / bands.len(), &bands[task % bands.len()]);
        let place = Place {
            image: sizes.image(image),
            channels: 0..sizes.channels_in,
            band: band.clone(),
        };
        let first = place.image[2] * channels_out + block.start;
        let at = sizes.start(place.image, block.start) + band.start;
        if let Some(bias) = bias {
            for (channel, &value) in bias[first..][..block.len()].iter().enumerate() {
                shared.fill(at + channel * sizes.channel(), band.len(), value);
            }
        }
        let columns = source.columns(&place, scratch);
        shared.add_product(
            (at, sizes.channel()),
            (&weight[first * column..], column, 1),
            (columns.values, columns.stride, 1),
            [block.len(), column, band.len()],
        );
    };
    let num_tasks = images * bands.len() * blocks.len();
    run_tasks(num_tasks, scratch_len(source, &bands, column), run);
    output
}

/// Computes the gradient of the weight from that of the output: the sum of `grad · columnsᵀ` over
/// all bands, `[groups, channels_out, channels_in * taps]`.
///
/// Threads share the input channels among them, so that none has a sum of its own.
pub(super) fn weight_gradient(sizes: &Sizes, grad: &[f32], source: &impl Source) -> Vec<f32> {
    let (channels_out, column) = (sizes.channels_out, sizes.column());
    let slices = pieces(sizes.channels_in, sizes.channels_in.min(LEAST_TASKS));
    let bands = sizes.bands(column.div_ceil(slices.len()));

    let mut output = vec![0.0; sizes.groups * channels_out * column];
    let shared = SharedOutput::new(&mut output);
    let run = |scratch: &mut [f32], task: usize| {
        let (group, slice) = (task / slices.len(), &slices[task % slices.len()]);
        let at = group * channels_out * column + slice.start * sizes.taps;
        let images = (0..sizes.images()).map(|number| sizes.image(number));
        let images = images.filter(|image| image[2] == group);
        for (image, band) in images.flat_map(|image| bands.iter().map(move |band| (image, band))) {
            let place = Place {
                image,
                channels: slice.clone(),
                band: band.clone(),
            };
            let columns = source.columns(&place, scratch);
            let grad = &grad[sizes.start(image, 0) + band.start..];
            shared.add_product(
                (at, column),
                (grad, sizes.channel(), 1),
                (columns.values, 1, columns.stride),
                [channels_out, band.len(), slice.len() * sizes.taps],
            );
        }
    };
    let widest = slices.iter().map(ExactSizeIterator::len).max().unwrap_or(0);
    let scratch_len = scratch_len(source, &bands, widest * sizes.taps);
    run_tasks(sizes.groups * slices.len(), scratch_len, run);
    output
}

/// A result that tasks write at the same time, each in places of its own.
#[derive(Clone, Copy)]
struct SharedOutput {
    values: *mut f32,
    len: usize,
}

// SAFETY: callers of the methods write to disjoint places, as each says.
unsafe impl Send for SharedOutput {}
unsafe impl Sync for SharedOutput {}

impl SharedOutput {
    fn new(output: &mut [f32]) -> Self {
        Self {
            values: output.as_mut_ptr(),
            len: output.len(),
        }
    }

    /// Fills `len` values from `at` on, which no other task touches.
    fn fill(self, at: usize, len: usize, value: f32) {
        assert!(at + len <= self.len);
        // SAFETY: the range is within the output (checked), which outlives the tasks, and belongs
        // to this task: its item, channels and band.
        unsafe { std::slice::from_raw_parts_mut(self.values.add(at), len) }.fill(value);
    }

    /// Adds the product of a left `[m, k]` and a right `[k, n]` matrix to the `[m, n]` matrix at
    /// `to`, given with the distance of its rows. No other task touches it. Left and right are given with
    /// the distance of their rows and of their columns.
    fn add_product(
        self,
        (at, to_row): (usize, usize),
        (left, left_row, left_column): (&[f32], usize, usize),
        (right, right_row, right_column): (&[f32], usize, usize),
        [m, k, n]: [usize; 3],
    ) {
        let last = |rows: usize, row: usize, columns: usize, column: usize| {
            (rows - 1) * row + (columns - 1) * column
        };
        assert!(m > 0 && k > 0 && n > 0, "empty product");
        assert!(at + last(m, to_row, n, 1) < self.len);
        assert!(last(m, left_row, k, left_column) < left.len());
        assert!(last(k, right_row, n, right_column) < right.len());
        // SAFETY: all places are within their slices (checked); the output outlives the tasks, and
        // its rows, channels of one group, and columns, pixels of one band or values of one slice,
        // belong to this task.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                self.values.add(at),
                1,
                to_row as isize,
                true,
                left.as_ptr(),
                left_column as isize,
                left_row as isize,
                right.as_ptr(),
                right_column as isize,
                right_row as isize,
                1.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::None,
            );
        }
    }
}
