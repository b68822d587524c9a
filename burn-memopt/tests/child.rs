//! Batches in a real child process, which dies. Each test starts its own executable again: the
//! child comes to the same test and serves instead.
#![cfg(unix)]

use std::env;
use std::error::Error;
use std::process::{self, Command};

use burn::tensor::{Device, TensorData};
use burn_memopt::batch::{AdaptiveBatches, BatchError, BatchRunner, BatchSizeConfig, Child, serve};
use burn_memopt::chunked::BoxError;

const ROLE: &str = "BURN_MEMOPT_TEST_CHILD";
/// Items that the child of these tests has memory for.
const FITS: usize = 3;

/// What the child does with a batch that is too large.
fn fail(role: &str) -> BoxError {
    match role {
        "aborts" => process::abort(),
        "is killed" => {
            let id = process::id().to_string();
            let _ = Command::new("kill").args(["-9", &id]).status();
            unreachable!("it was killed");
        }
        "exits" => process::exit(3),
        "panics" => panic!("can't allocate buffer of size: 64"),
        "has a lost device" => "The device is poisoned\nCaused by:\n  an illegal access".into(),
        "has a bug" => "shapes differ".into(),
        _ => "can't allocate buffer of size: 64".into(),
    }
}

/// The child named `role`, which doubles items; in the child itself, serves and never returns.
fn child(test: &'static str, role: &'static str) -> Child {
    if env::var_os(ROLE).is_some() {
        println!("what is printed between results is passed over");
        let served = serve(&Device::flex(), |items| {
            println!("{} items", items.len());
            match items.len() {
                ..=FITS => Ok(items.iter().map(doubled).collect()),
                _ => Err(fail(role)),
            }
        });
        process::exit(i32::from(served.is_err()));
    }
    let program = env::current_exe().expect("a path");
    Child::new(move || {
        let mut command = Command::new(&program);
        command
            .args(["--exact", test, "--nocapture"])
            .env(ROLE, role);
        command
    })
}

fn doubled(item: &TensorData) -> TensorData {
    let values: Vec<f32> = item.iter::<f32>().map(|value| 2.0 * value).collect();
    TensorData::new(values, item.shape().to_vec())
}

fn items() -> Vec<TensorData> {
    (0..20)
        .map(|item| TensorData::new(vec![item as f32; 5000], [50, 100]))
        .collect()
}

fn runner(floor: usize) -> BatchRunner {
    BatchRunner::new(BatchSizeConfig {
        start: 16,
        floor,
        ..BatchSizeConfig::default()
    })
}

#[track_caller]
fn check_survival(child: &mut Child, num_started: usize) {
    let mut batches = AdaptiveBatches::new(runner(1), items(), |items| child.run(items));
    let results: Vec<_> = batches.by_ref().collect::<Result<_, _>>().unwrap();
    assert_eq!(results, items().iter().map(doubled).collect::<Vec<_>>());
    assert_eq!(batches.report().failed_sizes, [16, 8, 4]);
    drop(batches);
    assert_eq!(child.num_started(), num_started);
}

#[test]
fn the_results_of_a_child_that_aborts_are_complete() {
    let mut child = child("the_results_of_a_child_that_aborts_are_complete", "aborts");
    check_survival(&mut child, 4);
}

#[test]
fn the_results_of_a_child_that_is_killed_are_complete() {
    let name = "the_results_of_a_child_that_is_killed_are_complete";
    check_survival(&mut child(name, "is killed"), 4);
}

#[test]
fn a_child_with_a_lost_device_is_replaced() {
    let name = "a_child_with_a_lost_device_is_replaced";
    check_survival(&mut child(name, "has a lost device"), 4);
}

#[test]
fn a_child_that_only_lacks_memory_goes_on() {
    let name = "a_child_that_only_lacks_memory_goes_on";
    check_survival(&mut child(name, "lacks memory"), 1);
}

#[test]
fn a_child_that_panics_for_lack_of_memory_goes_on() {
    let name = "a_child_that_panics_for_lack_of_memory_goes_on";
    check_survival(&mut child(name, "panics"), 1);
}

#[test]
fn an_item_that_kills_every_child_ends_the_run() {
    let name = "an_item_that_kills_every_child_ends_the_run";
    let mut child = child(name, "aborts");
    let mut batches = AdaptiveBatches::new(runner(4), items(), |items| child.run(items));
    let error = batches.next().unwrap().unwrap_err();
    assert!(
        error.to_string().contains("for batches of 16, 8, 4"),
        "{error}"
    );
    let why = error.source().expect("how it died").to_string();
    assert!(why.contains("signal"), "{why}");
    drop(batches);
    assert_eq!(child.num_started(), 3);
}

#[test]
fn what_is_no_lack_of_memory_is_passed_on_at_once() {
    let name = "what_is_no_lack_of_memory_is_passed_on_at_once";
    let mut child = child(name, "has a bug");
    check_failure(&mut child, "the child process answered: shapes differ");
}

#[test]
fn a_child_that_ends_by_itself_is_not_started_again() {
    let name = "a_child_that_ends_by_itself_is_not_started_again";
    let mut child = child(name, "exits");
    check_failure(&mut child, "exit status: 3");
}

#[test]
fn a_program_that_does_not_serve_is_refused() {
    let mut child = Child::new(|| {
        let mut command = Command::new("echo");
        command.arg("hello");
        command
    });
    check_failure(&mut child, "exit status: 0");
    let mut child = Child::new(|| Command::new("/no/such/program"));
    let error = child.run(&items()).unwrap_err();
    assert_eq!(error.to_string(), "cannot start a child process");
}

#[track_caller]
fn check_failure(child: &mut Child, why: &str) {
    let mut batches = AdaptiveBatches::new(runner(1), items(), |items| child.run(items));
    let error = batches.next().unwrap().unwrap_err();
    let BatchError::Failed {
        item: 0,
        size,
        source,
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(size, 16);
    assert!(source.to_string().contains(why), "{source}");
    drop(batches);
    assert_eq!(child.num_started(), 1);
}
