use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::budget::{Verified, VerifyError};

/// A fixed amount, and bytes for each pixel read and kept, of each policy.
fn policies() -> impl Strategy<Value = Vec<TilePolicy>> {
    let cost = (0_u64..1 << 20, 0.0..500.0_f64, 0.0..500.0_f64);
    let costs = (cost.clone(), cost, any::<bool>());
    costs.prop_map(|(whole, cut, has_both)| {
        let policy = |policy, (fixed, per_read, per_kept)| {
            TilePolicy::new(policy, TileCost::new(Bytes::new(fixed), per_read, per_kept))
        };
        let mut policies = vec![policy(Policy::None, whole)];
        if has_both {
            policies.push(policy(Policy::EveryBlock, cut));
        }
        policies
    })
}

fn planners() -> impl Strategy<Value = TilePlanner> {
    let size = prop::array::uniform2(1_usize..1500);
    (1_usize..5, size, 0_usize..60, 0_u32..5)
        .prop_map(|(images, size, halo, log)| TilePlanner::new(images, size, halo, 1 << log))
}

fn budget() -> impl Strategy<Value = Bytes> {
    (10.0..31.0_f64).prop_map(|log| Bytes::new(log.exp2() as u64))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_plan_keeps_the_budget_and_none_that_fits_is_faster(
        planner in planners(), policies in policies(), budget in budget(),
    ) {
        let plans = planner.plans(&policies);
        let fits = |plan: &TilePlan| planner.bytes(plan, &policies) <= budget;
        match planner.plan(budget, &policies) {
            Ok(Choice { settings, predicted_peak, .. }) => {
                prop_assert!(predicted_peak <= budget && fits(&settings));
                let fitting = plans.iter().filter(|plan| fits(plan));
                prop_assert!(fitting.into_iter().all(|plan| settings.time() <= plan.time()));
                let least = 2 * planner.margin();
                prop_assert!(settings.core.iter().all(|side| *side >= least));
            }
            Err(error) => {
                prop_assert!(!plans.iter().any(fits));
                prop_assert!(planner.plan(error.least, &policies).is_ok());
                prop_assert!(planner.plan(error.least - Bytes::new(1), &policies).is_err());
            }
        }
    }

    #[test]
    fn a_larger_budget_is_never_slower(
        planner in planners(), policies in policies(), budgets in prop::array::uniform2(budget()),
    ) {
        let [less, more] = [budgets[0].min(budgets[1]), budgets[0].max(budgets[1])];
        if let Ok(slow) = planner.plan(less, &policies) {
            let fast = planner.plan(more, &policies).unwrap();
            prop_assert!(fast.settings.time() <= slow.settings.time());
        }
    }

    #[test]
    fn wrong_predictions_are_corrected_until_the_budget_is_kept(
        planner in planners(), policies in policies(), budget in budget(),
        errors in prop::array::uniform2(0.5..2.0_f64),
    ) {
        let taken = |plan: &TilePlan| {
            let error = errors[usize::from(plan.policy != Policy::None)];
            Bytes::new((planner.bytes(plan, &policies).get() as f64 * error) as u64)
        };
        let mut num_runs = 0;
        let verified = planner.verify(budget, policies.clone(), |plan| {
            num_runs += 1;
            Ok::<_, Infallible>(taken(plan))
        });
        // The least of an error is enough.
        if let Err(VerifyError::Budget(error)) = &verified {
            let run = |plan: &TilePlan| Ok::<_, Infallible>(taken(plan));
            prop_assert!(error.least > budget);
            prop_assert!(planner.verify(error.least, policies.clone(), run).is_ok());
        }
        if let Ok(Verified { choice, measured_peak, rounds }) = verified {
            prop_assert_eq!(measured_peak, taken(&choice.settings));
            prop_assert!(measured_peak <= budget && rounds.len() == num_runs);
            prop_assert!(choice.predicted_peak <= budget);
        }
    }

    #[test]
    fn no_batch_takes_more_than_the_shape_of_its_plan(
        planner in planners(), policies in policies(), budget in budget(), size in prop::array::uniform2(1_usize..1500),
    ) {
        if let Ok(choice) = planner.plan(budget, &policies) {
            let size = [0, 1].map(|side| size[side].min(planner.size[side]));
            let smaller = TilePlanner { size, ..planner.clone() };
            let largest = planner.shape(&choice.settings);
            let [read, kept] = [largest.read(), largest.kept()];
            for (side, axis) in smaller.axes(choice.settings.core).iter().enumerate() {
                for tile in axis {
                    prop_assert!(tile.read.len() <= read[side] && tile.keep.len() <= kept[side]);
                }
            }
        }
    }
}

fn two() -> [TilePolicy; 2] {
    let cost = |bytes: f64| TileCost::new(Bytes::mib(1), bytes, 0.0);
    [
        TilePolicy::new(Policy::None, cost(600.0)),
        TilePolicy::new(Policy::EveryBlock, cost(300.0)),
    ]
}

#[test]
fn reasons_say_what_else_would_cost() {
    let planner = TilePlanner::new(1, [2048, 2048], 44, 8);
    let why = |mib: u64| {
        let choice = planner.plan(Bytes::mib(mib), &two()).unwrap();
        choice
            .reasons
            .into_iter()
            .map(|reason| reason.why)
            .collect::<Vec<_>>()
    };
    let [tile, batch, policy] = &why(48)[..] else {
        panic!()
    };
    assert!(tile.contains("a margin of 48 reads 1.6"), "{tile}");
    assert!(
        tile.contains("would read 1.5") && tile.contains("but need 5"),
        "{tile}"
    );
    assert!(batch.contains("enough to keep a device busy"), "{batch}");
    assert!(
        policy.starts_with("100 % of the forward pass again; --grad-checkpoint none has room for")
    );
    assert!(policy.ends_with("1.05 of the time"), "{policy}");
    let policy = &why(512)[2];
    assert!(
        policy.contains("--grad-checkpoint block has room for 1024×1024"),
        "{policy}"
    );
    let error = planner.plan(Bytes::mib(2), &two()).unwrap_err().to_string();
    assert!(
        error.contains("with tiles of 96×96 pixels, 1 at once, --grad-checkpoint block: allow"),
        "{error}"
    );
}

#[test]
fn small_tiles_run_together_where_memory_allows() {
    let planner = TilePlanner::new(8, [64, 64], 8, 2);
    let choice = planner.plan(Bytes::mib(512), &two()).unwrap();
    assert_eq!(
        (choice.settings.core, choice.settings.batch_size),
        ([64, 64], 8)
    );
    let choice = planner.plan(Bytes::mib(11), &two()).unwrap();
    assert_eq!(
        (choice.settings.core, choice.settings.batch_size),
        ([64, 64], 4)
    );
    assert_eq!(choice.reasons[1].why, "8 at once would need 19.8 MiB");
}

#[test]
fn a_given_tile_is_kept() {
    let planner = TilePlanner::new(1, [512, 512], 8, 2).with_core([32, 32]);
    let choice = planner.plan(Bytes::mib(512), &two()).unwrap();
    assert_eq!(
        (choice.settings.core, choice.settings.policy),
        ([32, 32], Policy::None)
    );
    assert!(choice.reasons[0].why.starts_with("given; "));
}
