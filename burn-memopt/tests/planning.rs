//! A budget is met by real steps, and no other cut meets it in less time.

mod blocks;

use std::sync::{Mutex, MutexGuard, PoisonError};

use blocks::{Block, initialised, test_device};
use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt::grad_checkpoint::{
    Chain, Plan, PlanError, Policy, Segment, Sequence, Span, plan, profile, run_chain,
};
use burn_memopt::memory::{Bytes, CountingAllocator, PeakMeter};
use rstest::rstest;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

/// The counts are the process's, so tests take turns.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn chain(num_blocks: usize) -> (Vec<Block>, Tensor<4>) {
    let device = test_device();
    let blocks = (0..num_blocks).map(|_| initialised(Block::new(8, false, 0.0, &device)));
    let x = Tensor::random([2, 8, 48, 48], Distribution::Default, &device);
    (blocks.collect(), x)
}

fn forward(block: &Block, x: Tensor<4>) -> Tensor<4> {
    block.forward(x)
}

fn measured_peak(blocks: &[Block], spans: &[Span], x: &Tensor<4>) -> Bytes {
    let step = || {
        let chain = Sequence::new(blocks, forward);
        run_chain(&chain, &Segment::new(), spans, x.clone())
            .mean()
            .backward()
    };
    drop(step());
    let meter = PeakMeter::start(&Device::flex());
    let grads = step();
    let peak = meter.finish().peak.expect("the allocator is installed");
    drop(grads);
    peak
}

#[rstest]
#[case::forty_percent(40)]
#[case::sixty_percent(60)]
#[case::eighty_percent(80)]
fn a_budget_is_met_and_its_peak_predicted(#[case] percent: u64) {
    let _turn = turn();
    let (blocks, x) = chain(16);
    let plain = measured_peak(&blocks, &Policy::None.spans(16).unwrap(), &x);
    let budget = Bytes::new(plain.get() * percent / 100);
    let plan = plan(
        Policy::Budget(budget),
        &Sequence::new(&blocks, forward),
        x.clone(),
    )
    .unwrap();

    let measured = measured_peak(&blocks, &plan.spans, &x);
    assert!(measured <= budget, "{measured} exceeds {budget}");
    let error = plan.predicted_peak.get() as f64 / measured.get() as f64 - 1.0;
    assert!(
        error.abs() <= 0.1,
        "predicted {}, measured {measured}",
        plan.predicted_peak
    );
}

/// Every cut of `len` blocks into spans, recomputed or not.
fn all_cuts(len: usize) -> Vec<Vec<Span>> {
    if len == 0 {
        return vec![Vec::new()];
    }
    let with_last = |start: usize| {
        let heads = all_cuts(start).into_iter();
        heads.flat_map(move |head| {
            [false, true].map(|recompute| {
                let last = Span {
                    blocks: start..len,
                    recompute,
                };
                [head.as_slice(), &[last]].concat()
            })
        })
    };
    (0..len).flat_map(with_last).collect()
}

#[test]
fn no_cut_of_eight_measured_blocks_needs_less_recomputation() {
    let _turn = turn();
    let (blocks, x) = chain(8);
    let chain = Sequence::new(&blocks, forward);
    let costs = profile(&chain, x).unwrap();
    assert_eq!(costs.len(), chain.num_blocks());

    let plain = Plan::predict(Policy::None.spans(8).unwrap(), &costs).predicted_peak;
    let cuts: Vec<_> = all_cuts(8)
        .into_iter()
        .map(|s| Plan::predict(s, &costs))
        .collect();
    for percent in [40, 60, 80] {
        let budget = Bytes::new(plain.get() * percent / 100);
        let fitting = cuts.iter().filter(|cut| cut.predicted_peak <= budget);
        let best = fitting.map(|cut| cut.extra_time).min().unwrap();
        assert_eq!(Plan::within(budget, &costs).unwrap().extra_time, best);
    }
}

#[test]
fn an_impossible_budget_says_the_least_that_would_do() {
    let _turn = turn();
    let (blocks, x) = chain(4);
    let chain = Sequence::new(&blocks, forward);
    let try_budget = |budget| plan(Policy::Budget(budget), &chain, x.clone());
    let Err(PlanError::Budget(error)) = try_budget(Bytes::kib(1)) else {
        panic!("a budget of 1 KiB must be refused");
    };
    // Following the advice, as it reads, is enough.
    let shown = error.minimum.to_string();
    assert!(error.to_string().contains(&format!("allow {shown}")));
    assert!(try_budget(shown.parse().unwrap()).is_ok());
}
