//! A run that is killed, whenever that is, and resumed until it is done is the run that was not.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rstest::rstest;

use crate::kills::{Kills, assert_same, content};
use crate::runner::{Run, Workplace, tensors};

/// Every file of a run and its content, without the record of its memory, and without the content of
/// what holds numbers of parameters, which every process draws anew.
fn results(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut results = content(folder);
    let name = |path: &Path| path.file_name().unwrap_or_default().display().to_string();
    results.retain(|path, _| !name(path).starts_with("memory"));
    for (path, content) in &mut results {
        if name(path).ends_with(".bpk") {
            content.clear();
        }
        if name(path).ends_with(".safetensors") {
            *content = tensors(std::mem::take(content));
        }
    }
    results
}

/// Near a save, and near the end.
const MARKS: [&str; 6] = [
    ".part-",
    "partial-",
    "checkpoint-1",
    "checkpoint-3",
    "samples",
    "metrics.json",
];

// Twenty-seven in all.
#[rstest]
#[case::unet("unet", "", 6)]
#[case::watermark("watermark", "--num-images 4 --image-size 40", 8)]
#[case::devices("unet", "--devices flex,flex --accumulation-steps 2", 4)]
#[case::gan("gan", "--holdout 0.3", 3)]
#[case::decode("decode", "--threshold 0.01 --precision bf16", 6)]
fn a_run_that_is_killed_again_and_again_is_the_same_run(
    #[case] model: &'static str,
    #[case] flags: &str,
    #[case] num_kills: u64,
) {
    let place = Workplace::of(model);
    let flags: Vec<_> = flags.split_whitespace().collect();
    let args = [&flags[..], &["--steps", "3", "--save-every", "1"]].concat();
    let started = Instant::now();
    let whole = place.train("whole", &args).succeeded();
    let mut kills = Kills::new(7, num_kills, started.elapsed());
    let mut killed = Vec::new();
    while kills.left() > 0 {
        let name = format!("killed-{}", killed.len());
        kills.at_files(place.path(&name), &MARKS);
        let done = kills.until_done(|| match place.path(&name).join("config.json").exists() {
            true => place.resume_command(&name, &[]),
            false => place.train_command(&name, &args),
        });
        let done = Run::of(done).succeeded();
        let [killed_run, whole_run] = [&name, "whole"].map(|name| results(&place.path(name)));
        assert_same(&killed_run, &whole_run);
        for field in ["steps", "loss_first", "loss_last", "metrics"] {
            assert_eq!(done.summary()[field], whole.summary()[field], "{field}");
        }
        killed.push(name);
    }
    // Weights and the optimizer's state show in what is learned next.
    let further = |name: &str| place.resume(name, &["--steps", "5"]).succeeded().losses();
    assert_eq!(further(&killed[killed.len() - 1]), further("whole"));
}
