use std::convert::Infallible;

use proptest::prelude::*;

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
            Request {
                resident: Bytes::new(resident),
                gradients: Bytes::new(gradients),
                has_batch_statistics: batch_statistics,
                tile: tiles.then_some(TileSize {
                    least: 16,
                    multiple: 8,
                }),
                ..request
            }
        },
    )
}

fn budget() -> impl Strategy<Value = Bytes> {
    (0f64..1.0).prop_map(|share| Bytes::new((share * share * f64::from(1 << 24)) as u64))
}

fn within(budget: Bytes, request: &Request) -> Request {
    Request {
        budget,
        ..request.clone()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_choice_keeps_the_budget_and_the_batch(
        techniques in techniques(), request in requests(), budget in budget(),
    ) {
        let request = within(budget, &request);
        if let Ok(Choice { settings, predicted_peak, .. }) = choose(&request, &techniques) {
            prop_assert!(predicted_peak <= budget);
            let computed = settings.micro_batch_size * settings.accumulation_steps;
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
        let choose = |budget| choose(&within(budget, &request), &techniques);
        let least = choose(Bytes::new(1)).unwrap_err().least;
        prop_assert!(choose(least).is_ok());
        prop_assert!(choose(least - Bytes::new(1)).is_err());
    }

    #[test]
    fn a_larger_budget_never_costs_more(
        techniques in techniques(), request in requests(), budgets in prop::array::uniform2(budget()),
    ) {
        let [less, more] = [budgets[0].min(budgets[1]), budgets[0].max(budgets[1])];
        let choose = |budget| choose(&within(budget, &request), &techniques);
        if let Ok(costly) = choose(less) {
            let cheaper = choose(more).unwrap().settings;
            prop_assert!(cheaper.compare_cost(&costly.settings, &request).is_le());
        }
    }

    #[test]
    fn wrong_predictions_are_corrected_until_the_budget_is_kept(
        techniques in techniques(), request in requests(), budget in budget(),
        errors in prop::array::uniform5(0.5f64..2.0),
    ) {
        let request = within(budget, &request);
        let run = |settings: &StepSettings| {
            Ok::<_, Infallible>(taken(&request, &techniques, errors, settings))
        };
        match verify(&request, techniques.clone(), run) {
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
        let request = Request { trial_limit: Bytes::MAX, ..request };
        let verify = |budget| {
            let request = within(budget, &request);
            let run = |settings: &StepSettings| {
                Ok::<_, Infallible>(taken(&request, &techniques, [error; 5], settings))
            };
            verify(&request, techniques.to_vec(), run)
        };
        let refused = verify(Bytes::new(1));
        let Err(VerifyError::Budget(refusal)) = refused else {
            return Err(TestCaseError::fail("a byte must be too little"));
        };
        let found = verify(refusal.least);
        prop_assert!(found.is_ok(), "{}", found.unwrap_err());
    }
}

/// What settings take above what is resident, where every technique takes a share of its own of
/// what was predicted at first.
fn taken(
    request: &Request,
    before: &[Technique],
    errors: [f64; 5],
    settings: &StepSettings,
) -> Bytes {
    let passes = before[settings.technique].passes(settings.workload());
    let predicted = passes.iter().find(|pass| pass.cut == settings.cut);
    let peak = predicted.unwrap().peak.get() as f64 * errors[settings.technique];
    Bytes::new(peak as u64) + request.waiting(settings.accumulation_steps)
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
    let chosen = |request: &Request| {
        let settings = choose(request, &simple()).unwrap().settings;
        (settings.micro_batch_size, settings.policy)
    };
    assert_eq!(chosen(&request(10)), (2, Policy::None));
    let with_statistics = Request {
        has_batch_statistics: true,
        ..request(10)
    };
    assert_eq!(chosen(&with_statistics), (8, Policy::EveryBlock));
}

#[test]
fn half_precision_comes_last_in_training_and_says_why() {
    let settings = choose(&request(1), &simple()).unwrap().settings;
    assert_eq!(
        (settings.precision, settings.policy),
        (Precision::F32, Policy::EveryBlock)
    );
    let tight = Request::training(Bytes::kib(600), 8, [SIDE, SIDE]);
    let choice = choose(&tight, &simple()).unwrap();
    assert_eq!(
        (choice.settings.precision, choice.settings.micro_batch_size),
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
        let tile = Some(TileSize {
            least: 16,
            multiple: 16,
        });
        Request {
            tile,
            ..Request::inference(Bytes::kib(kib), 5, [SIDE, SIDE])
        }
    };
    let choose = |kib| choose(&request(kib), &techniques).unwrap().settings;
    let choice = choose(12 << 10);
    assert_eq!((choice.micro_batch_size, choice.accumulation_steps), (3, 2));
    let choice = choose(2 << 10);
    assert_eq!((choice.tile, choice.precision), ([32, 32], Precision::F32));
    let choice = choose(128);
    assert_eq!((choice.tile, choice.precision), ([16, 16], Precision::F16));
}

#[test]
fn waiting_gradients_count_only_where_there_are_several_micro_batches() {
    let techniques = simple();
    let chosen = |mib| {
        let request = Request {
            gradients: Bytes::mib(3),
            ..request(mib)
        };
        let choice = choose(&request, &techniques).unwrap();
        (choice.settings.micro_batch_size, choice.predicted_peak)
    };
    assert_eq!(chosen(34), (8, Bytes::mib(32)));
    assert_eq!(chosen(18), (2, Bytes::mib(8 + 3)));
}

#[test]
fn a_peak_far_below_its_prediction_allows_a_cheaper_choice() {
    // Half of the 4 MiB that are predicted for an image.
    let run = |settings: &StepSettings| {
        Ok::<_, Infallible>(Bytes::mib(2) * settings.micro_batch_size as u64)
    };
    let verified = verify(&request(5), simple(), run).unwrap();
    assert_eq!(verified.choice.settings.micro_batch_size, 2);
    assert_eq!(verified.rounds.len(), 2);
}
