use std::convert::Infallible;

use proptest::prelude::*;

use super::way::Price;
use super::*;
use crate::grad_checkpoint::{BlockCost, Policy};
use crate::memory::Bytes;
use crate::memory::estimate::{BlockFit, PeakFit, Workload};
use crate::precision::Precision;

const SIDE: usize = 64;

fn workloads() -> [Workload; 2] {
    [Workload::new(1, [16, 16]), Workload::new(2, [32, 32])]
}

/// `fixed` bytes whatever the workload, and `each` a pixel.
fn whole(precision: Precision, policy: Policy, fixed: u64, each: u64) -> Technique {
    let peak = |workload: Workload| Bytes::new(fixed + each * workload.pixels());
    let fit = PeakFit::new(workloads().map(|workload| (workload, peak(workload))));
    Technique::whole(precision, policy, fit)
}

/// A chain whose blocks keep `kept` bytes a pixel beside an output of 4.
fn cut(kept: &[u64], rest: u64) -> Technique {
    let costs = |workload: Workload| {
        let pixels = workload.pixels();
        let cost = |(index, kept): (usize, &u64)| BlockCost {
            output: Bytes::new(4 * pixels),
            last_use: index + 1,
            joins_previous: false,
            kept: Bytes::new((4 + kept) * pixels),
            forward_peak: Bytes::new(8 * pixels),
            backward_peak: Bytes::new(500 + 8 * pixels),
            param_grads: Bytes::new(500),
            nodes: Bytes::ZERO,
            recorded_peak: Bytes::new((4 + kept) * pixels),
            work: pixels * (1 + kept),
        };
        (
            workload,
            kept.iter().enumerate().map(cost).collect::<Vec<_>>(),
        )
    };
    let blocks = BlockFit::new(&workloads().map(costs));
    let every_block = workloads().map(|workload| {
        let costs = blocks.at(workload);
        let chain = Policy::EveryBlock.plan(&costs).unwrap().predicted_peak;
        (workload, chain + Bytes::new(rest))
    });
    Technique::cut(Precision::F32, blocks.clone(), every_block)
}

fn techniques() -> impl Strategy<Value = Vec<Technique>> {
    let chain = prop::collection::vec(0u64..60, 2..6);
    (0u64..1 << 16, 20u64..400, 1u64..100, chain).prop_map(|(fixed, each, share, kept)| {
        let block = each * share / 100;
        vec![
            whole(Precision::F32, Policy::None, fixed, each),
            whole(Precision::F32, Policy::EveryBlock, fixed, block),
            cut(&kept, fixed),
            whole(Precision::F16, Policy::None, fixed, each / 2),
            whole(Precision::F16, Policy::EveryBlock, fixed, block / 2),
        ]
    })
}

fn requests() -> impl Strategy<Value = Request> {
    (1usize..13, any::<[bool; 3]>(), 0u64..1 << 18, 0u64..1 << 16).prop_map(
        |(batch_size, [trains, tiles, batch_statistics], resident, gradients)| {
            let request = match trains {
                true => Request::training(Bytes::ZERO, batch_size, [SIDE, SIDE / 2]),
                false => Request::inference(Bytes::ZERO, batch_size, [SIDE, SIDE / 2]),
            };
            let request = request
                .with_resident(Bytes::new(resident))
                .with_gradients(Bytes::new(gradients))
                .with_batch_statistics(batch_statistics);
            match tiles {
                true => request.with_tiles(TileSize {
                    least: 16,
                    multiple: 8,
                }),
                false => request,
            }
        },
    )
}

fn budget() -> impl Strategy<Value = Bytes> {
    (0f64..1.0).prop_map(|share| Bytes::new((share * share * f64::from(1 << 24)) as u64))
}

fn price(request: &Request, techniques: &[Technique]) -> Option<Price> {
    decide(request, techniques).ok().map(|choice| choice.price)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_choice_keeps_the_budget_and_the_batch(
        techniques in techniques(), request in requests(), budget in budget(),
    ) {
        let request = request.with_budget(budget);
        if let Ok(choice) = decide(&request, &techniques) {
            prop_assert!(choice.predicted_peak <= budget);
            let computed = choice.micro_batch_size * choice.accumulation_steps;
            prop_assert!(computed >= request.batch_size);
            if request.is_training {
                prop_assert_eq!(computed, request.batch_size);
            }
        }
    }

    #[test]
    fn the_least_of_an_error_would_do_and_no_less(
        techniques in techniques(), request in requests(),
    ) {
        let error = decide(&request.clone().with_budget(Bytes::new(1)), &techniques).unwrap_err();
        let least = error.least;
        prop_assert!(decide(&request.clone().with_budget(least), &techniques).is_ok());
        prop_assert!(decide(&request.with_budget(least - Bytes::new(1)), &techniques).is_err());
    }

    #[test]
    fn a_larger_budget_never_costs_more(
        techniques in techniques(), request in requests(), budgets in prop::array::uniform2(budget()),
    ) {
        let [less, more] = [budgets[0].min(budgets[1]), budgets[0].max(budgets[1])];
        let price = |budget| price(&request.clone().with_budget(budget), &techniques);
        if let Some(dear) = price(less) {
            prop_assert!(price(more).unwrap() <= dear);
        }
    }

    #[test]
    fn wrong_predictions_are_corrected_until_the_budget_is_kept(
        techniques in techniques(), request in requests(), budget in budget(),
        errors in prop::array::uniform5(0.5f64..2.0),
    ) {
        let request = request.with_budget(budget);
        let run = |choice: &Choice| Ok::<_, Infallible>(taken(&request, &techniques, errors, choice));
        match verified(&request, techniques.clone(), run) {
            Ok(Verified { choice, measured_peak, rounds }) => {
                prop_assert!(measured_peak <= budget);
                let off = measured_peak.get().abs_diff(choice.predicted_peak.get());
                prop_assert!(off as f64 <= 0.1 * choice.predicted_peak.get() as f64);
                prop_assert!(rounds.iter().any(|round| round.measured == measured_peak));
            }
            Err(VerifyError::Budget(error)) => prop_assert!(error.least > budget),
            Err(VerifyError::Unsettled { .. }) => {}
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    #[test]
    fn the_least_that_was_tried_would_do(
        techniques in techniques(), index in 0usize..5, request in requests(), error in 0.5f64..2.0,
    ) {
        let techniques = [techniques[index].clone()];
        let request = request.with_budget(Bytes::new(1)).with_trial_limit(Bytes::MAX);
        let verified = |request: &Request| {
            let run = |choice: &Choice| {
                Ok::<_, Infallible>(taken(request, &techniques, [error; 5], choice))
            };
            verified(request, techniques.to_vec(), run)
        };
        let refused = verified(&request);
        let Err(VerifyError::Budget(refusal)) = refused else {
            return Err(TestCaseError::fail("a byte must be too little"));
        };
        let found = verified(&request.with_budget(refusal.least));
        prop_assert!(found.is_ok(), "{}", found.unwrap_err());
    }
}

/// What a choice takes above what is resident, where every technique takes a share of its own of
/// what was predicted at first.
fn taken(request: &Request, before: &[Technique], errors: [f64; 5], choice: &Choice) -> Bytes {
    let technique = &before[choice.technique];
    let waits = choice.accumulation_steps > 1 && request.is_training;
    let beside = if waits {
        request.gradients
    } else {
        Bytes::ZERO
    };
    let raw = match &choice.cut {
        Some(cut) => cut.predicted_peak + technique.rest_of(choice.workload()),
        None => technique.least(choice.workload()),
    };
    let peak = raw.get() as f64 * errors[choice.technique];
    Bytes::new(peak as u64) + beside
}

fn request(mib: u64) -> Request {
    Request::training(Bytes::mib(mib), 8, [SIDE, SIDE])
}

/// 1 KiB a pixel and image, that is 4 MiB an image, and a quarter of it where blocks are recomputed.
fn simple() -> Vec<Technique> {
    vec![
        whole(Precision::F32, Policy::None, 0, 1024),
        whole(Precision::F32, Policy::EveryBlock, 0, 256),
        whole(Precision::F16, Policy::None, 0, 512),
        whole(Precision::F16, Policy::EveryBlock, 0, 128),
    ]
}

#[test]
fn micro_batches_come_before_recomputation_unless_they_change_the_statistics() {
    let choice = decide(&request(10), &simple()).unwrap();
    assert_eq!((choice.micro_batch_size, choice.policy), (2, Policy::None));
    let with_statistics = request(10).with_batch_statistics(true);
    let choice = decide(&with_statistics, &simple()).unwrap();
    assert_eq!(
        (choice.micro_batch_size, choice.policy),
        (8, Policy::EveryBlock)
    );
}

#[test]
fn half_precision_comes_last_in_training_and_says_why() {
    let choice = decide(&request(1), &simple()).unwrap();
    assert_eq!(
        (choice.precision, choice.policy),
        (Precision::F32, Policy::EveryBlock)
    );
    let techniques = [simple(), vec![]].concat();
    let tight = Request::training(Bytes::kib(600), 8, [SIDE, SIDE]);
    let choice = decide(&tight, &techniques).unwrap();
    assert_eq!(
        (choice.precision, choice.micro_batch_size),
        (Precision::F16, 1)
    );
    let shown = choice.to_string();
    assert!(shown.contains("f32 would need at least 1.0 MiB"), "{shown}");
    assert!(shown.contains("512.0 KiB"), "{shown}");
}

#[test]
fn inference_takes_fewer_images_then_tiles_then_half_precision() {
    let techniques = [
        whole(Precision::F32, Policy::None, 0, 1024),
        whole(Precision::F16, Policy::None, 0, 512),
    ];
    let request = |kib| {
        let tile = TileSize {
            least: 16,
            multiple: 16,
        };
        Request::inference(Bytes::kib(kib), 5, [SIDE, SIDE]).with_tiles(tile)
    };
    let decide = |kib| decide(&request(kib), &techniques).unwrap();
    let choice = decide(12 << 10);
    assert_eq!((choice.micro_batch_size, choice.accumulation_steps), (3, 2));
    let choice = decide(2 << 10);
    assert_eq!((choice.tile, choice.precision), ([32, 32], Precision::F32));
    let choice = decide(128);
    assert_eq!((choice.tile, choice.precision), ([16, 16], Precision::F16));
}

#[test]
fn waiting_gradients_count_only_where_there_are_several_micro_batches() {
    let techniques = simple();
    let request = request(34).with_gradients(Bytes::mib(3));
    let choice = decide(&request, &techniques).unwrap();
    assert_eq!(
        (choice.micro_batch_size, choice.predicted_peak),
        (8, Bytes::mib(32))
    );
    let choice = decide(&request.with_budget(Bytes::mib(18)), &techniques).unwrap();
    assert_eq!(
        (choice.micro_batch_size, choice.predicted_peak),
        (2, Bytes::mib(8 + 3))
    );
}

#[test]
fn a_peak_far_below_its_prediction_allows_a_cheaper_choice() {
    let run = |choice: &Choice| {
        let exact = choice.predicted_peak.get();
        let first = choice.micro_batch_size == 1;
        Ok::<_, Infallible>(Bytes::new(if first { exact / 2 } else { exact }))
    };
    let verified = verified(&request(5), simple(), run).unwrap();
    assert_eq!(verified.choice.micro_batch_size, 2);
    assert_eq!(verified.rounds.len(), 2);
}
