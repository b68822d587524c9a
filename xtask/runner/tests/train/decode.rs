//! `train decode`: what differs from `train unet`.

use std::fs;

use burn_memopt_datasets::localizations::{Localization, read_csv, write_csv};
use burn_memopt_datasets::synthetic::emitters::{EmitterConfig, EmitterMovie};
use rstest::rstest;

use crate::runner::{Run, Workplace, files_in};

/// A stack of 20 frames whose sides no network halves, and the table of its emitters after
/// `change`.
fn write_movie(place: &Workplace, change: fn(&mut Localization)) -> [String; 2] {
    write_movie_of(place, [20, 15, 17], change)
}

/// A stack of frames, their number, height and width, and the table of its emitters after `change`.
fn write_movie_of(
    place: &Workplace,
    [num_frames, height, width]: [usize; 3],
    change: fn(&mut Localization),
) -> [String; 2] {
    let config = EmitterConfig::new()
        .with_num_frames(num_frames)
        .with_height(height)
        .with_width(width);
    let files = EmitterMovie::generate(&config)
        .write(place.path("movie"))
        .expect("the movie is written");
    let mut rows = read_csv(&files.localizations).expect("a table");
    rows.iter_mut().for_each(change);
    write_csv(&files.localizations, &rows).expect("the table is written");
    [files.frames, files.localizations].map(|path| path.display().to_string())
}

fn train_on(place: &Workplace, movie: &[String; 2], args: &[&str]) -> Run {
    train_as(place, "a", movie, args)
}

fn train_as(place: &Workplace, name: &str, [stack, table]: &[String; 2], args: &[&str]) -> Run {
    let data = ["--data", stack, "--targets", table];
    place.train(name, &[&data, args].concat())
}

/// The table of what a run found.
fn found(place: &Workplace) -> Vec<Localization> {
    read_csv(place.path("a").join("localizations.csv")).expect("a table")
}

#[test]
fn a_run_without_data_learns_from_a_generated_stack_and_localizes_the_rest_of_it() {
    let place = Workplace::of("decode");
    // At the default rate so small a network loses or finds its emitters by rounding.
    let flags = "--steps 60 --base-channels 8 --batch-size 4 --lr 0.004";
    let flags: Vec<_> = flags.split_whitespace().collect();
    let run = place.train("a", &flags).succeeded();
    let data = place.path("a").join("data");
    let mut names: Vec<_> = files_in(&data).into_keys().collect();
    names.sort();
    let expected = ["frames.tif", "localizations.csv"].map(|name| data.join(name));
    assert_eq!(names, expected);

    let summary = run.summary();
    let number = |key: &str| summary[key].as_f64().expect("a number");
    assert!(
        number("loss_last") < 0.5 * number("loss_first"),
        "{summary}"
    );
    let metric = |key: &str| summary["metrics"][key].as_f64().expect("a number");
    assert!(metric("jaccard") > 0.2, "{summary}");
    assert!(metric("rmse_px") < 1.2, "{summary}");

    let rows = found(&place);
    assert!(rows.iter().all(|row| (400..500).contains(&row.frame)));
    assert!(rows.iter().all(|row| row.prob >= Some(0.3)));
    assert!(
        rows.iter()
            .all(|row| row.photons.is_some() && row.bg.is_some())
    );
    assert!(rows.iter().all(|row| row.lpx.is_some() && row.z.is_none()));
}

#[rstest]
#[case::plain("")]
#[case::recomputing_in_ragged_groups(
    "--grad-checkpoint block --batch-size 3 --accumulation-steps 4"
)]
#[case::half_precision("--precision f16 --depth 2")]
fn a_resumed_run_gives_the_losses_of_an_uninterrupted_one(#[case] flags: &str) {
    let place = Workplace::of("decode");
    // 16 frames to learn from.
    let [stack, table] = write_movie(&place, |_| ());
    let data = ["--data", &stack, "--targets", &table];
    let flags: Vec<_> = flags.split_whitespace().collect();
    let with = |steps| [&data[..], &flags, &["--steps", steps]].concat();
    let whole = place.train("whole", &with("4")).succeeded();
    let first = place.train("parts", &with("2")).succeeded();
    let second = place.resume("parts", &["--steps", "4"]).succeeded();
    let mut losses = first.losses();
    losses.extend(second.losses());
    assert_eq!(losses.len(), 4);
    assert_eq!(losses, whole.losses());
    assert_eq!(second.summary()["metrics"], whole.summary()["metrics"]);
}

#[test]
fn recomputing_and_budgets_change_no_loss() {
    let place = Workplace::of("decode");
    let flags = "--steps 2 --batch-size 8 --holdout 0.02 --grad-checkpoint";
    let flags: Vec<_> = flags.split_whitespace().collect();
    let train = |policy| {
        let args = [&flags[..], &[policy]].concat();
        place.train(policy, &args).succeeded()
    };
    let plain = train("none");
    for policy in ["block", "segments=2", "budget=12MiB"] {
        let run = train(policy);
        assert_eq!(run.losses(), plain.losses(), "{policy}");
        assert!(run.summary()["peak_bytes"].as_u64() < plain.summary()["peak_bytes"].as_u64());
    }
}

#[rstest]
#[case::plain("")]
#[case::recomputed("--grad-checkpoint block")]
#[case::two_devices("--devices flex,flex --accumulation-steps 2")]
fn tiles_have_the_losses_of_whole_frames(#[case] flags: &str) {
    let place = Workplace::of("decode");
    let movie = write_movie_of(&place, [8, 93, 101], |_| ());
    let flags: Vec<_> = flags.split_whitespace().collect();
    let common = ["--norm-groups", "0", "--steps", "3"];
    let whole = [&common[..], &flags].concat();
    let tiles = [&whole[..], &["--use-chunking", "--chunk-size", "44"]].concat();
    let whole = train_as(&place, "whole", &movie, &whole).succeeded();
    let tiled = train_as(&place, "tiles", &movie, &tiles).succeeded();
    assert!(
        tiled
            .stderr
            .contains("tiles of 44×44 pixels with a margin of 18"),
        "{}",
        tiled.stderr
    );
    let (whole_losses, tiled_losses) = (whole.losses(), tiled.losses());
    assert_eq!(whole_losses.len(), 3);
    for (whole, tiled) in whole_losses.values().zip(tiled_losses.values()) {
        let [whole, tiled] = [whole, tiled].map(|loss| loss.parse::<f64>().expect("a number"));
        assert!(
            (whole - tiled).abs() <= 1e-4 * whole.abs(),
            "{whole_losses:?} {tiled_losses:?}"
        );
    }
    assert_eq!(tiled.summary()["metrics"], whole.summary()["metrics"]);
}

#[test]
fn tiles_with_norms_of_their_own_are_allowed_by_name() {
    let place = Workplace::of("decode");
    let movie = write_movie_of(&place, [4, 93, 101], |_| ());
    let flags = "--use-chunking --approximate-chunks --steps 2 --chunk-size";
    let flags: Vec<_> = flags.split_whitespace().collect();
    for size in ["auto", "32"] {
        let run = train_as(&place, size, &movie, &[&flags[..], &[size]].concat()).succeeded();
        assert_eq!(run.losses().len(), 2);
    }
}

#[test]
fn a_given_stack_of_odd_sides_is_learned_and_localized() {
    let place = Workplace::of("decode");
    let movie = write_movie(&place, |_| ());
    // Every pixel in which the network believes a little.
    let run = train_on(&place, &movie, &["--steps", "2", "--threshold", "0.000001"]).succeeded();
    assert!(run.summary()["metrics"]["jaccard"].is_number());
    assert!(!place.path("a").join("data").exists());
    for row in found(&place) {
        assert!((16..20).contains(&row.frame));
        assert!((-1.0..18.0).contains(&row.x) && (-1.0..16.0).contains(&row.y));
    }
}

#[test]
fn what_the_table_lacks_is_neither_learned_nor_found() {
    let place = Workplace::of("decode");
    let movie = write_movie(&place, |row| {
        (row.photons, row.bg) = (None, None);
        row.z = Some(100.0 * row.x);
    });
    train_on(&place, &movie, &["--steps", "40", "--threshold", "0.05"]).succeeded();
    let rows = found(&place);
    assert!(!rows.is_empty());
    assert!(
        rows.iter()
            .all(|row| row.photons.is_none() && row.bg.is_none())
    );
    assert!(rows.iter().all(|row| row.z.is_some() && row.lpz.is_some()));
    let units = fs::read_to_string(place.path("a").join("units.json")).expect("units");
    assert!(units.contains("\"knows_z\": true"), "{units}");
}

#[test]
fn where_nothing_is_held_out_the_training_frames_are_localized_and_not_judged() {
    let place = Workplace::of("decode");
    let movie = write_movie(&place, |_| ());
    let run = train_on(&place, &movie, &["--steps", "2", "--holdout", "0"]).succeeded();
    assert_eq!(run.summary()["metrics"], serde_json::json!({}));
    assert!(place.path("a").join("localizations.csv").exists());
}

#[rstest]
#[case::a_table_alone(&["--targets", "a.csv"], 2, &["--data"])]
#[case::a_flag_of_another_model(&["--masks", "a"], 2, &["--masks"])]
#[case::too_deep(&["--depth", "9"], 2, &["--depth", "9"])]
#[case::more_than_certain(&["--threshold", "1.5"], 2, &["threshold", "at most 1", "1.5"])]
#[case::weights_of_another_kind(&["--weights", "a.txt"], 2, &["--weights", ".safetensors"])]
#[case::a_norm_of_whole_frames(
    &["--use-chunking"], 2,
    &["which tiles do not have with --norm-groups 4", "use --norm-groups 0", "--approximate-chunks"]
)]
#[case::small_tiles(
    &["--use-chunking", "--norm-groups", "0", "--chunk-size", "16"], 2,
    &["--chunk-size", "a tile must keep at least twice its margin"]
)]
#[case::no_such_stack(&["--data", "no.tif", "--targets", "no.csv"], 1, &["no.tif", "check that"])]
#[case::no_cut_fits(&["--grad-checkpoint", "budget=10KiB"], 1, &["budget=10KiB", "the least"])]
fn what_cannot_be_is_refused_before_anything_is_written(
    #[case] args: &[&str],
    #[case] code: i32,
    #[case] words: &[&str],
) {
    let place = Workplace::of("decode");
    place.train("refused", args).failed(code, words);
    assert!(!place.path("refused").exists());
}

#[test]
fn only_the_same_network_is_gone_on_with() {
    let place = Workplace::of("decode");
    place.train("a", &["--steps", "1"]).succeeded();
    place
        .resume("a", &["--base-channels", "6"])
        .failed(2, &["keeps its base_channels", "4", "6"]);
    let unet = Workplace::new();
    unet.resume(&place.arg("a"), &["--steps", "2"])
        .failed(1, &["the model decode", "the model unet"]);
}

#[test]
fn the_number_of_devices_changes_neither_losses_nor_what_is_found() {
    let place = Workplace::of("decode");
    let args = [
        "--steps",
        "3",
        "--accumulation-steps",
        "3",
        "--threshold",
        "0.01",
        "--devices",
    ];
    let train = |name: &str, devices: &'static str| {
        let run = place
            .train(name, &[&args[..], &[devices]].concat())
            .succeeded();
        let found = fs::read(place.path(name).join("localizations.csv")).expect("a table");
        (run.losses(), run.summary()["metrics"].clone(), found)
    };
    let one = train("one", "flex");
    assert_eq!(train("two", "flex,flex"), one);
    assert_eq!(train("three", "flex,flex,flex"), one);
}
