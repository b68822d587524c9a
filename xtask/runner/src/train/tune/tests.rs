use super::*;
use crate::settings::{UNetSettings, settings_of};

fn settings(given: &[(&str, &str)]) -> Settings<UNetSettings> {
    let given = given
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    settings_of(&given.collect()).unwrap()
}

fn machine() -> Machine {
    Machine {
        cores: 2,
        device: "flex".into(),
        precision: "f32".into(),
    }
}

/// The record of a run of 4 items a step, `[micro-batch, policy, MiB, seconds]` each.
fn record(costs: &[(usize, &str, u64, f64)]) -> Record {
    let settings = settings(&[]);
    let cost = |&(size, policy, peak, seconds_per_step): &(usize, &str, u64, f64)| {
        let mut run = settings.run.clone();
        (run.batch_size, run.accumulation_steps) = (size, 4 / size);
        run.grad_checkpoint = policy.into();
        let peak_bytes = Bytes::mib(peak).get();
        Cost::new(
            &run,
            StepCost {
                peak_bytes,
                seconds_per_step,
            },
        )
    };
    Record::new(machine(), &settings, costs.iter().map(cost).collect())
}

/// What is chosen with these records and free memory in MiB: micro-batch, policy, and the reason for it.
fn chosen(
    records: &[Record],
    free: u64,
    given: &[(&str, &str)],
    measure: impl FnMut(&RunSettings) -> Result<Option<Bytes>>,
) -> Result<(usize, String, String)> {
    let folder = tempfile::tempdir().unwrap();
    for (number, record) in records.iter().enumerate() {
        let dir = folder.path().join(number.to_string());
        let dir = RunDir::create(&dir, "unet", &serde_json::json!({})).unwrap();
        record.write(&dir).unwrap();
    }
    let mut settings = settings(given);
    let given = given
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    let tuning = Tuning::choose(
        &mut settings,
        &given.collect(),
        machine(),
        Some(Bytes::mib(free)),
        folder.path(),
        measure,
    )?;
    assert_eq!(tuning.choices.len(), 1 + TUNED.len());
    assert_eq!(settings.run.batch_size * settings.run.accumulation_steps, 4);
    let reason = tuning.choices[1].reason.clone();
    Ok((
        settings.run.batch_size,
        settings.run.grad_checkpoint,
        reason,
    ))
}

fn unmeasured(_: &RunSettings) -> Result<Option<Bytes>> {
    panic!("records say it")
}

#[test]
fn a_way_that_was_much_faster_is_taken_and_one_that_was_not_is_not() {
    let much = record(&[(4, "none", 100, 1.0), (1, "none", 40, 0.8)]);
    let (size, _, reason) = chosen(&[much], 2000, &[], unmeasured).unwrap();
    assert_eq!(size, 1);
    assert_eq!(reason, "0.80 of the default's time in earlier runs");

    let little = record(&[(4, "none", 100, 1.0), (1, "none", 40, 0.95)]);
    assert_eq!(chosen(&[little], 2000, &[], unmeasured).unwrap().0, 4);
}

#[test]
fn several_runs_are_summed_up_by_their_median() {
    let runs =
        [0.5, 1.0, 1.1].map(|seconds| record(&[(4, "none", 100, 1.0), (2, "none", 60, seconds)]));
    assert_eq!(chosen(&runs, 2000, &[], unmeasured).unwrap().0, 4);
}

#[test]
fn what_does_not_fit_is_not_taken() {
    let costs = [
        (4, "none", 3000, 0.5),
        (4, "block", 900, 0.7),
        (1, "block", 300, 1.0),
    ];
    let (size, policy, reason) = chosen(&[record(&costs)], 2000, &[], unmeasured).unwrap();
    assert_eq!((size, policy.as_str()), (4, "block"));
    assert!(reason.contains("the default took 2.9 GiB"), "{reason}");
}

#[test]
fn what_is_given_stays() {
    let costs = [
        (4, "none", 100, 1.0),
        (4, "block", 50, 0.9),
        (1, "none", 40, 0.2),
    ];
    let given = [("batch_size", "4")];
    let (size, ..) = chosen(&[record(&costs)], 2000, &given, unmeasured).unwrap();
    assert_eq!(size, 4);
    // Statistics of batch normalization depend on the micro-batch, and so does Dice.
    for setting in [("norm", "batch"), ("loss", "bce-dice")] {
        let measure = |_: &RunSettings| Ok(Some(Bytes::mib(10)));
        let (size, ..) = chosen(&[record(&costs)], 2000, &[setting], measure).unwrap();
        assert_eq!(size, 4, "{setting:?}");
    }
}

#[test]
fn without_a_record_steps_are_measured_until_one_fits() {
    let measure = |run: &RunSettings| {
        let share = if run.grad_checkpoint == "none" {
            1000
        } else {
            500
        };
        Ok(Some(Bytes::mib(share * run.batch_size as u64)))
    };
    let taken = |free| chosen(&[], free, &[], measure).map(|(size, policy, _)| (size, policy));
    assert_eq!(taken(5000).unwrap(), (4, "none".into()));
    assert_eq!(taken(2300).unwrap(), (4, "block".into()));
    assert_eq!(taken(1200).unwrap(), (2, "block".into()));
    let error = taken(400).unwrap_err().to_string();
    assert!(
        error.contains("no way fits; the last one takes 500.0 MiB"),
        "{error}"
    );
}

#[test]
fn a_model_without_blocks_to_recompute_gets_smaller_parts_at_once() {
    let default = Way::of(&settings(&[]).run);
    let chooser = Chooser {
        default: default.clone(),
        given: &Words::new(),
        keeps_parts: false,
        recomputes: false,
        free: Some(Bytes::mib(3000)),
        costs: Vec::new(),
    };
    let measure = |run: &RunSettings| {
        assert_eq!(run.grad_checkpoint, "none");
        Ok(Some(Bytes::mib(1000 * run.batch_size as u64)))
    };
    let (way, _) = chooser.choose(&settings(&[]).run, measure).unwrap();
    assert_eq!((way.batch_size, way.accumulation_steps), (2, 2));
    assert_eq!(way.grad_checkpoint, default.grad_checkpoint);
}

#[test]
fn records_of_other_machines_and_other_work_are_left_out() {
    let mut other = record(&[(4, "none", 100, 1.0), (1, "none", 40, 0.2)]);
    other.machine.cores = 64;
    let mut deeper = record(&[(4, "none", 100, 1.0), (1, "none", 40, 0.2)]);
    deeper.work.insert("depth".into(), "5".into());
    let measure = |_: &RunSettings| Ok(Some(Bytes::mib(10)));
    assert_eq!(chosen(&[other, deeper], 2000, &[], measure).unwrap().0, 4);
}

#[test]
fn fewer_items_wait_where_little_memory_is_free() {
    let measure = |run: &RunSettings| {
        assert_eq!(run.prefetch, "26214400B");
        Ok(Some(Bytes::mib(10)))
    };
    chosen(&[], 100, &[], measure).unwrap();
}
