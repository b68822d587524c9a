//! Whether the second run of a segment did the same as the first.
//!
//! Both runs leave a few numbers on the device: what they would have drawn next from
//! the random stream, and samples or sums of their outputs. They are compared at the
//! end of the backward pass, all of them with one read. What differs is an error: the
//! gradients of that pass would belong to another forward pass than the one that ran.

use core::cell::{Cell, RefCell};

use burn::tensor::{DType, DispatchTensor, FloatDType, Shape, Slice, Tensor};
use burn_backend::{TensorMetadata, ops::FloatTensorOps};
use burn_dispatch::Dispatch;

use super::SegmentSeed;
use super::randomness::StreamPlace;
use super::tape::is_autodiff_float;
use crate::memory::on_host;

/// Values of an output that are sampled, at most.
const SAMPLES: usize = 1024;
/// Parts of an output that are summed one by one.
const SUMS: usize = 64;

/// What one run left to be compared.
pub(super) struct Trace {
    /// Where the random stream was left, if random numbers are replayed.
    stream: Option<StreamPlace>,
    /// Numbers made of each output that can carry a gradient.
    outputs: Vec<Output>,
}

struct Output {
    index: usize,
    /// How far the numbers of two runs may differ, as a share of the largest.
    tolerance: f32,
    numbers: Tensor<1>,
}

/// How much of the outputs is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputCheck {
    /// Nothing: the segment is known to repeat.
    Nothing,
    /// A sample: other random numbers change nearly every value.
    Sample,
    /// Sums over all values.
    Everything,
}

impl Trace {
    pub(super) fn new(
        stream: Option<StreamPlace>,
        outputs: &[DispatchTensor],
        compared: OutputCheck,
    ) -> Self {
        let floats = outputs.iter().enumerate();
        let floats = floats.filter(|(_, output)| is_autodiff_float(output));
        let numbers = |(index, output): (usize, &DispatchTensor)| {
            let output = Tensor::<1>::from_dispatch(output.clone()).without_autodiff();
            let tolerance = tolerance(&output);
            let numbers = match compared {
                OutputCheck::Nothing => return None,
                OutputCheck::Sample => sample(output.into_dispatch()),
                OutputCheck::Everything => sums(output.into_dispatch()),
            };
            Some(Output {
                index,
                tolerance,
                numbers,
            })
        };
        Self {
            stream,
            outputs: floats.filter_map(numbers).collect(),
        }
    }

    /// Queues the traces of both runs of a segment over a module of type `module`, whose outputs
    /// may differ by `tolerance` of the largest value where that is more than the device's own.
    pub(super) fn compare(self, again: Self, module: &'static str, tolerance: f32) {
        let stream = self.stream.zip(again.stream);
        let stream = stream.map(|(first, second)| Pair {
            module,
            subject: Subject::Stream(first.seed),
            tolerance: 0.0,
            first: first.next,
            second: second.next,
        });
        let outputs = self.outputs.into_iter().zip(again.outputs);
        let outputs = outputs.map(|(first, second)| Pair {
            module,
            subject: Subject::Output(first.index),
            tolerance: first.tolerance.max(tolerance),
            first: first.numbers,
            second: second.numbers,
        });
        PENDING.with_borrow_mut(|pending| pending.extend(stream.into_iter().chain(outputs)));
    }
}

/// How far an output of one computation may differ: not at all on the host, by rounding
/// on a GPU, which may choose another kernel for the second run.
fn tolerance(output: &Tensor<1>) -> f32 {
    match output.dtype() {
        _ if on_host(&output.device()) => 0.0,
        DType::F16 => 1e-2,
        DType::BF16 => 5e-2,
        _ => 1e-3,
    }
}

/// Values at regular distances, copied, so that they do not keep the output alive.
fn sample(output: DispatchTensor) -> Tensor<1> {
    let dims = output.shape();
    let mut steps = vec![1; dims.num_dims()];
    let len = |steps: &[usize], dim: usize| dims[dim].div_ceil(steps[dim]);
    loop {
        let lens: Vec<_> = (0..steps.len()).map(|dim| len(&steps, dim)).collect();
        if lens.iter().product::<usize>() <= SAMPLES {
            break;
        }
        let widest = (0..lens.len()).max_by_key(|&dim| lens[dim]);
        // Odd steps pass through columns, channels and blocks of any even size.
        let step = &mut steps[widest.expect("invariant: more than one value")];
        *step = 2 * *step + 1;
    }
    let slices: Vec<_> = steps
        .iter()
        .map(|&step| Slice::new(0, None, step as isize))
        .collect();
    flat(Dispatch::float_slice(output, &slices)).mul_scalar(1.0)
}

/// Sums of values and of their magnitudes over parts of the output.
fn sums(output: DispatchTensor) -> Tensor<1> {
    let values = flat(output);
    let num_values = values.dims()[0];
    let parts = SUMS.min(num_values.max(1));
    let even = num_values / parts * parts;
    let rows = values
        .clone()
        .narrow(0, 0, even)
        .reshape([parts, even / parts]);
    let mut sums = vec![
        rows.clone().sum_dim(1).reshape([parts]),
        rows.abs().sum_dim(1).reshape([parts]),
    ];
    if num_values > even {
        let rest = values.narrow(0, even, num_values - even);
        sums.extend([rest.clone().sum(), rest.abs().sum()]);
    }
    Tensor::cat(sums, 0)
}

fn flat(tensor: DispatchTensor) -> Tensor<1> {
    let num_values = tensor.shape().num_elements();
    let flat = Dispatch::float_reshape(tensor, Shape::new([num_values]));
    Tensor::<1>::from_dispatch(flat).cast(FloatDType::F32)
}

/// The same numbers of two runs.
struct Pair {
    module: &'static str,
    subject: Subject,
    tolerance: f32,
    first: Tensor<1>,
    second: Tensor<1>,
}

/// What the numbers of a pair were made of.
enum Subject {
    /// The random stream, after a run from this seed.
    Stream(SegmentSeed),
    /// The output with this index.
    Output(usize),
}

thread_local! {
    /// What the backward pass of this thread has to compare when it ends.
    static PENDING: RefCell<Vec<Pair>> = const { RefCell::new(Vec::new()) };
    /// Recomputations of this thread that contain the present one.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Runs a recomputation. What inner backward passes have to compare waits for the outermost.
pub(super) fn nested<T>(recompute: impl FnOnce() -> T) -> T {
    struct Leave;
    impl Drop for Leave {
        fn drop(&mut self) {
            let depth = DEPTH.get() - 1;
            DEPTH.set(depth);
            if std::thread::panicking() && depth == 0 {
                PENDING.with_borrow_mut(Vec::clear);
            }
        }
    }
    DEPTH.set(DEPTH.get() + 1);
    let _leave = Leave;
    recompute()
}

/// Compares what is pending, with one read a device, if this is the end of the
/// outermost backward pass.
///
/// # Panics
/// If a segment did not repeat, or its numbers cannot be read.
pub(super) fn compare_pending() {
    if DEPTH.get() > 0 {
        return;
    }
    let mut pending = PENDING.take();
    while let Some(device) = pending.last().map(|pair| pair.first.device()) {
        let (here, rest) = pending
            .into_iter()
            .partition(|pair| pair.first.device() == device);
        pending = rest;
        compare(here);
    }
}

fn compare(pairs: Vec<Pair>) {
    let sides = |pair: &Pair| [pair.first.clone(), pair.second.clone()];
    let numbers = Tensor::cat(pairs.iter().flat_map(sides).collect(), 0);
    let numbers: Vec<f32> = match numbers.try_into_data() {
        Ok(data) => data.iter().collect(),
        Err(error) => panic!("the recomputation of checkpointed segments failed: {error}"),
    };
    let mut numbers = numbers.as_slice();
    for pair in pairs {
        let (first, rest) = numbers.split_at(pair.first.dims()[0]);
        let (second, rest) = rest.split_at(first.len());
        numbers = rest;
        if let Some(difference) = difference(first, second, pair.tolerance)
            && !pair.is_harmless([first, second])
        {
            panic!("{}", pair.message(difference));
        }
    }
}

/// The largest difference, if it is beyond the tolerance.
fn difference(first: &[f32], second: &[f32], tolerance: f32) -> Option<f32> {
    let same = |a: f32, b: f32| a == b || (a.is_nan() && b.is_nan());
    let finite = first.iter().filter(|value| value.is_finite());
    let largest = finite.fold(0.0f32, |largest, value| largest.max(value.abs()));
    let pairs = first.iter().zip(second);
    let differing = pairs.filter(|&(&a, &b)| !same(a, b));
    // A difference to what is not finite is beyond any tolerance.
    let sizes = differing.map(|(a, b)| (a - b).abs());
    let sizes = sizes.map(|size| if size.is_nan() { f32::INFINITY } else { size });
    sizes
        .reduce(f32::max)
        .filter(|&size| size > tolerance * largest)
}

impl Pair {
    /// Whether a difference has no consequence: where one run left the stream untouched,
    /// the segment draws nothing, and draws of others do not matter.
    fn is_harmless(&self, runs: [&[f32]; 2]) -> bool {
        let Subject::Stream(seed) = self.subject else {
            return false;
        };
        let untouched = seed.untouched(&self.first.device()).into_data();
        let untouched: Vec<f32> = untouched.iter().collect();
        runs.contains(&untouched.as_slice())
    }

    fn message(&self, difference: f32) -> String {
        let module = self.module;
        let other_draw = "Another thread drew from burn's random stream, which the whole process \
             shares, while the segment ran. Let that thread hold the stream while it draws \
             (`burn_memopt::grad_checkpoint::hold_random_stream`), or draw its numbers from a \
             generator of its own";
        match self.subject {
            Subject::Stream(_) => format!(
                "a checkpointed segment of {module} drew other random numbers when it was \
                 recomputed, so its gradients would belong to another forward pass. {other_draw}; \
                 or, if the segment draws nothing, promise that with \
                 `Segment::without_randomness`"
            ),
            Subject::Output(index) => format!(
                "output {index} of a checkpointed segment of {module} differed when it was \
                 recomputed (by up to {difference:e}), so its gradients would belong to another \
                 forward pass. {other_draw}; or the closure depends on something that changed \
                 between its two runs: pass that as an input"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn tensor<const D: usize>(shape: [usize; D]) -> DispatchTensor {
        let len = shape.iter().product::<usize>() as i64;
        let numbers = Tensor::<1, burn::tensor::Int>::arange(0..len, &Device::flex());
        numbers.float().reshape(shape).into_dispatch()
    }

    #[test]
    fn samples_are_few_and_spread_over_the_output() {
        for shape in [[1, 1, 1, 1], [2, 16, 96, 96], [8, 3, 5, 7], [1, 1, 1, 5000]] {
            let values: Vec<f32> = sample(tensor(shape)).into_data().iter().collect();
            let len = shape.iter().product::<usize>();
            assert!(values.len() <= SAMPLES && values.len() * 8 >= len.min(SAMPLES));
            assert!(
                values[values.len() - 1] as usize * 2 >= len - 1,
                "{shape:?}"
            );
        }
    }

    #[test]
    fn sums_see_every_value() {
        for len in [1usize, 63, 64, 65, 1000] {
            let plain = sums(tensor([len])).into_data();
            for changed in [0, len / 2, len - 1] {
                let values = Tensor::<1>::from_dispatch(tensor([len]));
                let values = values.slice_fill(changed..changed + 1, 12_345.0);
                assert_ne!(sums(values.into_dispatch()).into_data(), plain);
            }
        }
    }

    #[test]
    fn only_differences_beyond_the_tolerance_count() {
        assert_eq!(difference(&[1.0, 2.0], &[1.0, 2.0], 0.0), None);
        assert_eq!(difference(&[1.0, 2.0], &[1.0, 2.5], 0.0), Some(0.5));
        assert_eq!(difference(&[1.0, 200.0], &[1.5, 200.0], 1e-2), None);
        assert_eq!(difference(&[f32::NAN], &[f32::NAN], 0.0), None);
        let infinite = difference(&[1.0], &[f32::NAN], 1e-2);
        assert_eq!(infinite, Some(f32::INFINITY));
    }
}
