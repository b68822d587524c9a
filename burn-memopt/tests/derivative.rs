//! Gradients of models with random numbers, judged by the directional derivative.
//!
//! For parameters θ and the gradient g of a loss f, the quotient
//! `(f(θ+εg) − f(θ−εg)) / (2ε|g|²)` is 1 where g belongs to the forward pass that ran,
//! and something else where the recomputation drew other numbers. The forward pass
//! records what it drew; f is computed from that, without segments.
//!
//! Alone in its process: the random stream is global, and some tests disturb it.

mod blocks;

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blocks::{initialised, test_device};
use burn::module::{Module, ModuleMapper, Param};
use burn::nn::{BatchNorm, BatchNormConfig, Dropout, DropoutConfig, Linear, LinearConfig};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, FloatDType, Tensor, TensorData, activation};
use burn_memopt::grad_checkpoint::{
    Chain, Cut, Policy, Segment, Span, grad_checkpoint, hold_random_stream, share_seed,
};
use burn_memopt::memory::to_host;
use burn_memopt::precision::{Autocast, Precision, batch_norm, full_precision};

/// One test at a time: each is about the stream that all share.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Nesting {
    Plain,
    Segment,
    Nested2,
    Nested3,
    /// An inner segment that draws nothing, between two draws of the outer one.
    InnerDeterministic,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Draws {
    Dropout,
    DropoutAndBatchNorm,
    InFullPrecision,
    Noise,
}

const NESTINGS: [Nesting; 5] = [
    Nesting::Plain,
    Nesting::Segment,
    Nesting::Nested2,
    Nesting::Nested3,
    Nesting::InnerDeterministic,
];
const DRAWS: [Draws; 4] = [
    Draws::Dropout,
    Draws::DropoutAndBatchNorm,
    Draws::InFullPrecision,
    Draws::Noise,
];

/// What a model drew, in order.
#[derive(Clone, Debug, Default)]
struct Record(Arc<Mutex<Mode>>);

#[derive(Debug, Default)]
enum Mode {
    /// Draw and forget: the recomputation.
    #[default]
    Draw,
    /// Draw and write down: the forward pass.
    Write(Vec<TensorData>),
    /// Take what was written down.
    Read(VecDeque<TensorData>),
}

impl Record {
    fn mode(&self) -> MutexGuard<'_, Mode> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, mode: Mode) {
        *self.mode() = mode;
    }

    fn written(&self) -> Vec<TensorData> {
        match std::mem::take(&mut *self.mode()) {
            Mode::Write(drawn) => drawn,
            _ => panic!("nothing was written"),
        }
    }

    /// Random numbers like `x`: drawn, or those of before.
    fn numbers(&self, x: &Tensor<2>, draw: impl FnOnce() -> Tensor<2>) -> Tensor<2> {
        match &mut *self.mode() {
            Mode::Draw => draw(),
            Mode::Write(drawn) => {
                let numbers = draw();
                drawn.push(to_host(numbers.clone()).expect("numbers"));
                numbers
            }
            Mode::Read(drawn) => {
                let data = drawn.pop_front().expect("as many draws as before");
                let numbers = Tensor::<2>::from_data(data.convert::<f32>(), &x.device());
                numbers.cast(x.dtype())
            }
        }
    }
}

#[derive(Module, Debug)]
struct Block {
    first: Linear,
    norm: BatchNorm,
    second: Linear,
    dropout: Dropout,
    #[module(skip)]
    draws: Draws,
    #[module(skip)]
    record: Record,
}

impl Block {
    fn new(draws: Draws, device: &Device) -> Self {
        Self {
            first: LinearConfig::new(8, 8).init(device),
            norm: BatchNormConfig::new(8).init(device),
            second: LinearConfig::new(8, 8).init(device),
            dropout: DropoutConfig::new(0.3).init(),
            draws,
            record: Record::default(),
        }
    }

    fn draw(&self, x: Tensor<2>) -> Tensor<2> {
        let like = x.clone().detach();
        let numbers = self.record.numbers(&x, || match self.draws {
            Draws::Noise => like.random_like(Distribution::Normal(0.0, 0.5)),
            _ => self.dropout.forward(like.ones_like()),
        });
        match self.draws {
            Draws::Noise => x + numbers,
            _ => x * numbers,
        }
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let y = self.first.forward(self.draw(x.clone()));
        let y = match self.draws {
            Draws::DropoutAndBatchNorm => batch_norm(&self.norm, y),
            _ => y,
        };
        let y = self.draw(activation::tanh(y));
        match self.draws {
            Draws::InFullPrecision => {
                x + full_precision(self, y, |block, y| block.draw(block.second.forward(y)))
            }
            _ => x + self.second.forward(y),
        }
    }

    fn nested(&self, x: Tensor<2>, depth: usize) -> Tensor<2> {
        if depth == 0 {
            return self.forward(x);
        }
        grad_checkpoint(self, x, move |block: &Self, x| {
            block.draw(block.nested(block.draw(x), depth - 1))
        })
    }

    fn run(&self, nesting: Nesting, x: Tensor<2>) -> Tensor<2> {
        match nesting {
            Nesting::Plain => self.nested(x, 0),
            Nesting::Segment => self.nested(x, 1),
            Nesting::Nested2 => self.nested(x, 2),
            Nesting::Nested3 => self.nested(x, 3),
            Nesting::InnerDeterministic => grad_checkpoint(self, x, |block: &Self, x| {
                let x = block.draw(x);
                let inner = |layer: &Linear, x: Tensor<2>| layer.forward(x);
                block.forward(grad_checkpoint(&block.first, x, inner))
            }),
        }
    }

    /// The same computation without a segment.
    fn oracle(&self, nesting: Nesting, x: Tensor<2>) -> Tensor<2> {
        let depth = match nesting {
            Nesting::Plain => 0,
            Nesting::Segment => 1,
            Nesting::Nested2 => 2,
            Nesting::Nested3 => 3,
            Nesting::InnerDeterministic => {
                let x = self.first.forward(self.draw(x));
                return self.forward(x);
            }
        };
        let x = (0..depth).fold(x, |x, _| self.draw(x));
        (0..depth).fold(self.forward(x), |x, _| self.draw(x))
    }
}

#[derive(Clone, Copy, Debug)]
struct Case {
    nesting: Nesting,
    draws: Draws,
    precision: Precision,
}

/// A model of two blocks, and what is needed to judge its gradients.
struct Judge {
    blocks: Vec<Block>,
    record: Record,
    x: Tensor<2>,
    case: Case,
}

struct Step<'a>(&'a GradientsParams, f64);

impl ModuleMapper for Step<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let grad: Option<Tensor<D>> = self.0.get(param.id);
        let Some(grad) = grad else { return param };
        param.map(|value| {
            let grad = grad.to_device(&value.device().without_autodiff());
            let value = value.without_autodiff() + grad * self.1;
            value.autodiff().require_grad()
        })
    }
}

struct SquaredNorm<'a>(&'a GradientsParams, f64);

impl burn::module::ModuleVisitor for SquaredNorm<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let grad: Option<Tensor<D>> = self.0.get(param.id);
        if let Some(grad) = grad {
            self.1 += grad.square().sum().into_scalar::<f64>();
        }
    }
}

impl Judge {
    fn new(case: Case, device: &Device) -> Self {
        let record = Record::default();
        let blocks = (0..2).map(|_| {
            let block = initialised(Block::new(case.draws, device));
            Block {
                record: record.clone(),
                ..block
            }
        });
        let numbers = (0..32 * 8).map(|i| ((i * 7) as f32).sin()).collect();
        Self {
            blocks: blocks.collect(),
            record,
            x: Tensor::from_data(TensorData::new(numbers, [32, 8]), device),
            case,
        }
    }

    /// f at the parameters, moved by some multiple of the gradients, from recorded draws. On
    /// the CPU: a GPU may round what it multiplies to fewer bits than the step needs.
    fn loss_at(&self, grads: &GradientsParams, distance: f64, drawn: &[TensorData]) -> f64 {
        self.record.set(Mode::Read(drawn.to_vec().into()));
        let blocks = self.blocks.clone().fork(&test_device());
        let blocks = blocks.map(&mut Step(grads, distance));
        let x = Tensor::from_data(self.x.to_data(), &test_device());
        let output = blocks
            .iter()
            .fold(x, |x, block| block.oracle(self.case.nesting, x));
        let loss = output.square().mean().into_scalar::<f64>();
        self.record.set(Mode::Draw);
        loss
    }

    /// The quotient of a training step: 1 where its gradients are right.
    fn quotient(&self) -> f64 {
        let nesting = self.case.nesting;
        self.record.set(Mode::Write(Vec::new()));
        let autocast = Autocast::new(self.case.precision);
        let output = share_seed(|| {
            autocast.run(&self.blocks, self.x.clone(), |blocks, x| {
                blocks.iter().fold(x, |x, block| block.run(nesting, x))
            })
        });
        let loss = output.square().mean();
        let drawn = self.record.written();
        let grads = GradientsParams::from_grads(loss.backward(), &self.blocks);

        let mut norm = SquaredNorm(&grads, 0.0);
        self.blocks.visit(&mut norm);
        let slope = |epsilon: f64| {
            let sides = [epsilon, -epsilon].map(|epsilon| self.loss_at(&grads, epsilon, &drawn));
            (sides[0] - sides[1]) / (2.0 * epsilon * norm.1)
        };
        // A step of this length is less than a percent of the parameters. With half of it, the
        // error of second order cancels (Richardson).
        let epsilon = 0.008 / norm.1.sqrt();
        (4.0 * slope(epsilon / 2.0) - slope(epsilon)) / 3.0
    }

    fn is_right(&self, quotient: f64) -> bool {
        let tolerance = match self.case.precision {
            Precision::F32 => 0.02,
            _ => 0.05,
        };
        (quotient - 1.0).abs() <= tolerance
    }

    /// What is wrong with a step, if anything is.
    fn wrong(&self) -> Option<String> {
        let quotient = self.quotient();
        (!self.is_right(quotient)).then(|| format!("{:?}: {quotient}", self.case))
    }
}

fn cases(precisions: &[Precision]) -> impl Iterator<Item = Case> {
    let cases = NESTINGS.into_iter().flat_map(move |nesting| {
        let precisions = precisions.iter();
        precisions.flat_map(move |&precision| {
            DRAWS.map(|draws| Case {
                nesting,
                draws,
                precision,
            })
        })
    });
    cases.collect::<Vec<_>>().into_iter()
}

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::F16];

#[track_caller]
fn assert_none_wrong(wrong: impl IntoIterator<Item = String>) {
    let wrong: Vec<_> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "not 1:\n{}", wrong.join("\n"));
}

fn one_thread(device: &Device) {
    let wrong = cases(&PRECISIONS).filter_map(|case| Judge::new(case, device).wrong());
    assert_none_wrong(wrong);
}

/// Two threads train models of their own at the same time. What the plain path draws outside
/// of segments may disturb the f32 island of the other thread, which is a segment.
fn two_training_threads(device: &Device, steps: usize) {
    let wrong = cases(&PRECISIONS).flat_map(|case| {
        let judges = [(); 2].map(|()| Judge::new(case, device));
        let may_refuse = case.nesting == Nesting::Plain;
        let run = |judge: &Judge| -> Vec<String> {
            let steps = (0..steps).filter_map(|_| refused_or_wrong(judge, may_refuse));
            steps.collect()
        };
        std::thread::scope(|scope| {
            let threads = judges.each_ref().map(|judge| scope.spawn(|| run(judge)));
            let wrong = threads.map(|thread| thread.join().expect("panics are caught"));
            wrong.concat()
        })
    });
    assert_none_wrong(wrong);
}

/// Steps while another thread draws, which holds the stream or does not.
fn beside_a_drawing_thread(device: &Device, holds: bool, steps: usize) {
    let done = AtomicBool::new(false);
    let loader_device = device.clone().without_autodiff();
    let wrong = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let _stream = holds.then(hold_random_stream);
                let noise = Tensor::<1>::random([8], Distribution::Default, &loader_device);
                noise.into_data();
            }
        });
        let wrong = catch_unwind(AssertUnwindSafe(|| {
            let judged = cases(&PRECISIONS).flat_map(|case| {
                let judge = Judge::new(case, device);
                (0..steps).filter_map(move |_| refused_or_wrong(&judge, !holds))
            });
            judged.collect::<Vec<_>>()
        }));
        done.store(true, Ordering::Relaxed);
        wrong
    });
    assert_none_wrong(wrong.expect("no step fails but by a refusal"));
}

fn refused_or_wrong(judge: &Judge, may_refuse: bool) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(|| judge.wrong())) {
        Ok(wrong) => wrong,
        Err(panic) => {
            let message = panic.downcast_ref::<String>().expect("a message");
            let refused = message.contains("hold_random_stream");
            (!refused || !may_refuse).then(|| format!("{:?}: {message}", judge.case))
        }
    }
}

#[test]
fn gradients_belong_to_the_forward_pass_that_ran() {
    let _alone = alone();
    one_thread(&test_device());
}

#[test]
fn gradients_of_two_training_threads_belong_to_their_forward_passes() {
    let _alone = alone();
    two_training_threads(&test_device(), 5);
}

#[test]
fn gradients_beside_a_thread_that_draws_are_right_or_refused() {
    let _alone = alone();
    beside_a_drawing_thread(&test_device(), false, 5);
}

#[test]
fn gradients_beside_a_thread_that_holds_the_stream_are_right() {
    let _alone = alone();
    beside_a_drawing_thread(&test_device(), true, 5);
}

#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "cuda"))]
mod on_a_gpu {
    use super::*;

    #[test]
    fn gradients_belong_to_the_forward_pass_that_ran() {
        let _alone = alone();
        if let Some(device) = blocks::gpu_device() {
            one_thread(&device);
        }
    }

    #[test]
    fn gradients_of_two_training_threads_belong_to_their_forward_passes() {
        let _alone = alone();
        if let Some(device) = blocks::gpu_device() {
            two_training_threads(&device, 1);
        }
    }

    #[test]
    fn gradients_beside_a_thread_that_draws_are_right_or_refused() {
        let _alone = alone();
        if let Some(device) = blocks::gpu_device() {
            beside_a_drawing_thread(&device, false, 1);
            beside_a_drawing_thread(&device, true, 1);
        }
    }
}

/// Draws in another thread, at a moment of the test's choice.
fn draw_elsewhere(shape: [usize; 2]) {
    let draw = move || Tensor::<2>::random(shape, Distribution::Default, &Device::flex());
    std::thread::spawn(draw)
        .join()
        .expect("a thread that draws");
}

/// The message of a backward pass whose closure runs `run`, which is told how often it
/// ran before.
fn refusal(
    segment: Segment,
    run: impl Fn(usize, Tensor<2>) -> Tensor<2> + Send + 'static,
) -> Option<String> {
    let device = test_device();
    let module = initialised(LinearConfig::new(8, 8).init(&device));
    let x = Tensor::<2>::ones([4, 8], &device).require_grad();
    let runs = Mutex::new(0);
    let y = segment.run(&module, x, move |layer: &Linear, x: Tensor<2>| {
        let mut runs = runs.lock().unwrap_or_else(PoisonError::into_inner);
        *runs += 1;
        run(*runs - 1, layer.forward(x))
    });
    let backward = catch_unwind(AssertUnwindSafe(|| drop(y.sum().backward())));
    backward
        .err()
        .map(|panic| panic.downcast_ref::<String>().cloned().expect("a message"))
}

fn dropout(x: Tensor<2>) -> Tensor<2> {
    DropoutConfig::new(0.5).init().forward(x)
}

#[test]
fn a_draw_of_another_thread_in_one_run_is_refused_with_its_cause() {
    let _alone = alone();
    let message = refusal(Segment::new(), |run, x| {
        if run == 1 {
            draw_elsewhere([4, 8]);
        }
        dropout(x)
    });
    let message = message.expect("a refusal");
    assert!(message.contains("drew other random numbers"), "{message}");
    assert!(message.contains("hold_random_stream"), "{message}");
    assert!(message.contains("Linear"), "{message}");
}

/// Both runs leave the stream at the same place: only their outputs differ.
#[test]
fn as_many_draws_of_another_thread_at_another_moment_are_refused() {
    let _alone = alone();
    let message = refusal(Segment::new(), |run, x| {
        if run == 0 {
            draw_elsewhere([4, 8]);
        }
        let y = dropout(x);
        if run == 1 {
            draw_elsewhere([4, 8]);
        }
        y
    });
    let message = message.expect("a refusal");
    assert!(message.contains("output 0"), "{message}");
    assert!(message.contains("hold_random_stream"), "{message}");
}

#[test]
fn draws_of_another_thread_between_the_runs_change_nothing() {
    let _alone = alone();
    let device = test_device();
    let dropout = DropoutConfig::new(0.5).init();
    let x = Tensor::<2>::ones([16, 64], &device).require_grad();
    let forward = |dropout: &Dropout, x: Tensor<2>| dropout.forward(x);
    let y = grad_checkpoint(&dropout, x.clone(), forward);
    draw_elsewhere([3, 3]);
    let grad = x.grad(&y.clone().sum().backward());
    assert_eq!(y.into_data(), grad.expect("a gradient").into_data());
}

#[test]
fn dropout_in_nested_segments_repeats_its_masks() {
    let _alone = alone();
    let device = test_device();
    let dropout = DropoutConfig::new(0.5).init();
    for _ in 0..50 {
        let f = |dropout: &Dropout, x: Tensor<2>| dropout.forward(x);
        let x = Tensor::<2>::ones([16, 64], &device).require_grad();
        let y = grad_checkpoint(&dropout, x.clone(), move |d: &Dropout, x: Tensor<2>| {
            grad_checkpoint(d, x, f)
        });
        let grad = x.grad(&y.clone().sum().backward());
        assert_eq!(y.into_data(), grad.expect("a gradient").into_data());
    }
}

/// The outer segment promised to draw nothing; the inner one draws and replays by itself.
#[test]
fn a_segment_with_random_numbers_in_one_without_repeats_its_masks() {
    let _alone = alone();
    let device = test_device();
    let dropout = DropoutConfig::new(0.5).init();
    let outer = Segment::new().without_randomness();
    let x = Tensor::<2>::ones([16, 64], &device).require_grad();
    let y = outer.run(&dropout, x.clone(), |dropout: &Dropout, x: Tensor<2>| {
        let inner = |dropout: &Dropout, x: Tensor<2>| dropout.forward(x);
        grad_checkpoint(dropout, grad_checkpoint(dropout, x, inner), inner)
    });
    let grad = x.grad(&y.clone().sum().backward());
    assert_eq!(y.into_data(), grad.expect("a gradient").into_data());
}

#[test]
fn chains_in_segments_and_cuts_in_cuts_repeat_their_masks() {
    let _alone = alone();
    let device = test_device();
    let blocks: Vec<_> = (0..6).map(|_| DropoutConfig::new(0.2).init()).collect();
    let forward = |dropout: &Dropout, x: Tensor<2>| dropout.forward(x);
    let deepest = vec![Span::recomputed(0..2), Span::plain(2..3)];
    let inner = vec![
        Span::recomputed(0..3).with_inner(deepest),
        Span::plain(3..5),
    ];
    let spans = [Span::recomputed(0..5).with_inner(inner), Span::plain(5..6)];
    let cuts: [Cut; 4] = [
        Policy::None.into(),
        Policy::EveryBlock.into(),
        Policy::Segments(2).into(),
        spans[..].into(),
    ];
    for cut in cuts {
        let chain = move |blocks: &Vec<Dropout>, x: Tensor<2>, cut: &Cut| {
            Chain::new(blocks, forward).run(cut.clone(), x)
        };
        let outer = |blocks: &Vec<Dropout>, x, cut: Cut| {
            grad_checkpoint(blocks, x, move |blocks: &Vec<Dropout>, x| {
                chain(blocks, x, &cut)
            })
        };
        for nested in [false, true] {
            let x = Tensor::<2>::ones([16, 64], &device).require_grad();
            let y = match nested {
                true => outer(&blocks, x.clone(), cut.clone()),
                false => chain(&blocks, x.clone(), &cut),
            };
            let grad = x.grad(&y.clone().sum().backward());
            assert_eq!(y.into_data(), grad.expect("a gradient").into_data());
        }
    }
}

#[test]
fn an_output_that_differs_is_named_where_outputs_are_compared() {
    let _alone = alone();
    let checked = || Segment::new().without_randomness().with_output_check();
    let changing = |run: usize, x: Tensor<2>| x * (1.0 + run as f64 * 1e-3);
    let message = refusal(checked(), changing).expect("a refusal");
    assert!(message.contains("output 0"), "{message}");
    assert!(message.contains("pass that as an input"), "{message}");
    assert_eq!(refusal(checked(), |_, x| x.exp()), None);
    assert_eq!(refusal(checked(), |_, x| x.log()), None, "NaN repeats too");

    let half = move |run, x: Tensor<2>| changing(run, x).cast(FloatDType::F16);
    let widened = move |run, x| half(run, x).cast(FloatDType::F32);
    assert!(refusal(checked(), widened).is_some());
}

#[test]
fn a_refused_backward_pass_leaves_everything_ready_for_the_next() {
    let _alone = alone();
    let disturbed = |run, x| {
        if run == 1 {
            draw_elsewhere([2, 2]);
        }
        dropout(x)
    };
    for _ in 0..3 {
        assert!(refusal(Segment::new(), disturbed).is_some());
        assert_eq!(refusal(Segment::new(), |_, x| dropout(x)), None);
        let panicking = |run, x| {
            assert!(run == 0, "in the second run");
            dropout(x)
        };
        let message = catch_unwind(|| refusal(Segment::new(), panicking));
        assert!(message.is_err() || message.unwrap().is_some());
        assert_eq!(refusal(Segment::new(), |_, x| dropout(x)), None);
    }
}

/// Where a segment draws nothing, draws of others are nothing to it.
#[test]
fn a_segment_that_draws_nothing_is_not_refused_for_the_draws_of_others() {
    let _alone = alone();
    for disturbed in [0, 1] {
        let message = refusal(Segment::new(), move |run, x| {
            if run == disturbed {
                draw_elsewhere([4, 8]);
            }
            x.exp()
        });
        assert_eq!(message, None);
    }
}

/// The device draws initial parameters when they are first used: not while the segment of
/// another thread runs on its seed.
#[cfg(any(feature = "wgpu", feature = "vulkan", feature = "cuda"))]
#[test]
fn parameters_that_another_thread_drew_are_computed_before_a_segment_runs() {
    let _alone = alone();
    let Some(device) = blocks::gpu_device() else {
        return;
    };
    for _ in 0..3 {
        let case = Case {
            nesting: Nesting::Segment,
            draws: Draws::Dropout,
            precision: Precision::F32,
        };
        let judge = Judge::new(case, &device);
        let wrong = std::thread::scope(|scope| scope.spawn(|| judge.wrong()).join());
        assert_eq!(wrong.expect("no refusal"), None);
    }
}
