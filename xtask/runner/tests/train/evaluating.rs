//! The evaluation of a run: what was missing of it is made up for, by `--resume` and by `evaluate`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rstest::rstest;
use serde_json::Value;

use crate::runner::{Run, Workplace, command, files_in, process};

fn evaluate(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_burn-memopt"));
    command
        .arg("evaluate")
        .args(args)
        .env("BURN_DEVICE", "flex")
        .env("XDG_RUNTIME_DIR", std::env::temp_dir())
        .env_remove("BURN_MEMOPT_DEVICE");
    command
}

/// Makes a run one that was killed after its last save, in the middle of a file and of a folder.
fn kill_after_last_save(run: &Path) {
    for file in ["metrics.json", "units.json", "localizations.csv"] {
        let _ = fs::remove_file(run.join(file));
    }
    for folder in ["samples", "weights"] {
        let _ = fs::remove_dir_all(run.join(folder));
    }
    fs::write(run.join(".part-7-1-metrics.json"), "{").expect("a file");
    fs::create_dir(run.join("partial-checkpoint-3")).expect("a folder");
    fs::rename(run.join("checkpoint-2"), run.join("replaced-checkpoint-2")).expect("renamed");
}

/// Every file of a run and its content, but for weights, whose names come in any order.
fn results(run: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = files_in(run);
    for (path, content) in &mut files {
        if path.extension().is_some_and(|it| it == "safetensors") {
            content.clear();
        }
    }
    files
}

#[rstest]
#[case::unet("unet", &[], "count_error")]
#[case::watermark("watermark", &["--num-images", "4", "--image-size", "40"], "iou")]
#[case::decode("decode", &[], "jaccard")]
#[case::flow_completion("flow-completion", &[], "epe_px")]
fn what_a_run_lacks_of_its_evaluation_is_made_up_for(
    #[case] model: &'static str,
    #[case] flags: &[&str],
    #[case] metric: &str,
) {
    let place = Workplace::of(model);
    let args = [flags, &["--steps", "2"]].concat();
    let whole = place.train("a", &args).succeeded();
    let metrics = &whole.summary()["metrics"];
    assert!(metrics[metric].is_number(), "{metrics}");
    let dir = place.path("a");
    let before = results(&dir);

    kill_after_last_save(&dir);
    let completed = place.resume("a", &[]).succeeded();
    let said = "all 2 steps are done: only the evaluation is left";
    assert!(completed.stderr.contains(said), "{}", completed.stderr);
    assert_eq!(completed.summary()["metrics"], *metrics);
    assert!(completed.losses().is_empty());
    assert!(results(&dir) == before, "other files");

    let complete = place.resume("a", &[]).succeeded();
    assert!(
        complete.stderr.contains("nothing is left"),
        "{}",
        complete.stderr
    );
    assert_eq!(complete.summary()["metrics"], *metrics);

    fs::remove_file(dir.join("metrics.json")).expect("removed");
    let run = Run::new(&mut evaluate(&["--model", &place.arg("a"), "--json"])).succeeded();
    let event = &run.events[0];
    assert_eq!(
        (&event["event"], &event["step"]),
        (&"evaluation".into(), &2.into())
    );
    assert_eq!(event["metrics"], *metrics);
    assert!(results(&dir) == before, "other files");
}

#[test]
fn a_run_that_saved_nothing_starts_from_the_beginning() {
    let place = Workplace::new();
    let whole = place.train("a", &["--steps", "2"]).succeeded();
    let dir = place.path("a");
    let before = files_in(&dir);
    fs::remove_dir_all(dir.join("checkpoint-2")).expect("removed");
    fs::remove_file(dir.join("latest")).expect("removed");
    evaluation_fails(&place, "saved no state yet");
    let again = place.resume("a", &[]).succeeded();
    assert!(
        again.stderr.contains("from the beginning"),
        "{}",
        again.stderr
    );
    assert_eq!(again.losses(), whole.losses());
    assert!(files_in(&dir).keys().eq(before.keys()));

    // Killed before it had written its settings: the same command again.
    fs::create_dir(place.path("b")).expect("a folder");
    fs::write(place.path("b").join(".part-7-0-config.json"), "{").expect("a file");
    place.train("b", &["--steps", "1"]).succeeded();
}

#[track_caller]
fn evaluation_fails(place: &Workplace, word: &str) {
    Run::new(&mut evaluate(&["--model", &place.arg("a")])).failed(1, &[word]);
}

#[test]
fn people_get_a_table_and_wrong_folders_and_flags_are_named() {
    let place = Workplace::new();
    let run = place.train("a", &["--steps", "1"]).succeeded();
    let folder = place.arg("a");
    let output = process::output(&mut evaluate(&["--model", &folder]));
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = run.summary()["metrics"]["count_error"]
        .as_f64()
        .expect("a number");
    let row = format!("count_error          {error:.4}\n");
    assert!(
        table.starts_with("unet after 1 steps") && table.contains(&row),
        "{table}"
    );

    Run::new(&mut evaluate(&["--model", &place.arg("nowhere")])).failed(1, &["nowhere"]);
    // Its data was generated.
    let args = ["--model", &folder, "--images", "a"];
    Run::new(&mut evaluate(&args)).failed(2, &["was not trained on", "--images"]);
}

/// A stack with its table in the folder `data` of the workplace, and a run on it in `runs/a` that was
/// started in the workplace.
fn train_in_place(place: &Workplace) -> Run {
    place.train("source", &["--steps", "1"]).succeeded();
    let data = place.path("data");
    fs::rename(place.path("source/data"), &data).expect("renamed");
    let args = [
        "--data",
        "data/frames.tif",
        "--targets",
        "./data/localizations.csv",
        "--artifact-dir",
        "runs/a",
        "--steps",
        "2",
    ];
    let mut command = command(&[&crate::runner::TINY[..], &args].concat());
    Run::new(command.current_dir(place.path(""))).succeeded()
}

#[test]
fn a_run_continues_from_any_folder_and_moves_with_its_data() {
    let place = Workplace::new();
    let first = train_in_place(&place);
    let config = fs::read_to_string(place.path("runs/a/config.json")).expect("settings");
    let config: Value = serde_json::from_str(&config).expect("JSON");
    assert_eq!(config["data"], "../../data/frames.tif");

    let elsewhere = place.path("runs");
    let mut resume = command(&[
        "--resume",
        "a",
        "--data",
        "../data/frames.tif",
        "--targets",
        "../data/localizations.csv",
    ]);
    let complete = Run::new(resume.current_dir(&elsewhere)).succeeded();
    assert_eq!(complete.summary()["metrics"], first.summary()["metrics"]);
    assert_eq!(complete.events[0]["settings"]["data"], "../data/frames.tif");

    fs::create_dir(place.path("moved")).expect("a folder");
    for name in ["data", "runs"] {
        fs::rename(place.path(name), place.path("moved").join(name)).expect("renamed");
    }
    let run = place.resume("moved/runs/a", &["--steps", "3"]).succeeded();
    assert_eq!(run.losses().len(), 1);
    // Its settings start another run.
    let file = place.arg("moved/runs/a/config.json");
    place
        .train("b", &["--config", &file, "--steps", "1"])
        .succeeded();

    // Only the data has moved.
    fs::rename(place.path("moved/data"), place.path("data")).expect("renamed");
    let [model, stack, table] =
        ["moved/runs/a", "data/frames.tif", "data/localizations.csv"].map(|name| place.arg(name));
    Run::new(&mut evaluate(&["--model", &model])).failed(1, &["frames.tif"]);
    let args = [
        "--json",
        "--model",
        &model,
        "--data",
        &stack,
        "--targets",
        &table,
    ];
    let evaluated = Run::new(&mut evaluate(&args)).succeeded();
    assert_eq!(evaluated.events[0]["metrics"], run.summary()["metrics"]);
}

#[test]
fn settings_that_older_builds_saved_start_in_the_working_directory() {
    let place = Workplace::new();
    train_in_place(&place);
    let file = place.path("runs/a/config.json");
    let config = fs::read_to_string(&file).expect("settings");
    let mut config: Value = serde_json::from_str(&config).expect("JSON");
    config["data"] = "data/frames.tif".into();
    config["targets"] = "data/localizations.csv".into();
    config
        .as_object_mut()
        .expect("settings")
        .remove("paths_start_in");
    fs::write(&file, config.to_string()).expect("settings");
    let mut resume = command(&["--resume", "runs/a", "--steps", "3"]);
    Run::new(resume.current_dir(place.path(""))).succeeded();
}

#[test]
fn a_gan_is_evaluated_where_its_images_are_now_and_by_given_weights() {
    let place = Workplace::of("gan");
    let whole = place.train("made", &["--steps", "1"]).succeeded();
    let images = place.path("made").join("data/images");
    let names = files_in(&images);
    let row = |path: &PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy();
        let parts: Vec<&str> = name.trim_end_matches(".png").split('_').collect();
        format!("{name},{}\n", parts.join(","))
    };
    let rows: String = names.keys().map(row).collect();
    fs::write(
        place.path("a.csv"),
        format!("file,class,elevation,azimuth\n{rows}"),
    )
    .expect("a table");
    fs::rename(&images, place.path("a")).expect("moved");
    let [data, table] = [place.arg("a"), place.arg("a.csv")];
    let args = ["--steps", "1", "--data", &data, "--table", &table];
    let run = place.train("run", &args).succeeded();
    assert_eq!(run.summary()["metrics"], whole.summary()["metrics"]);

    fs::rename(place.path("a"), place.path("b")).expect("moved");
    fs::rename(place.path("a.csv"), place.path("b.csv")).expect("moved");
    let [model, data, table] = ["run", "b", "b.csv"].map(|name| place.arg(name));
    let args = ["--model", &model, "--data", &data, "--table", &table];
    let json = [&args[..], &["--json"]].concat();
    let evaluated = Run::new(&mut evaluate(&json)).succeeded();
    assert_eq!(evaluated.events[0]["metrics"], run.summary()["metrics"]);

    let weights = place.arg("missing.pth");
    let with_weights = [&args[..], &["--inception", &weights]].concat();
    Run::new(&mut evaluate(&with_weights)).failed(1, &["missing.pth"]);
    let other = Workplace::new();
    other.train("a", &["--steps", "1"]).succeeded();
    let args = ["--model", &other.arg("a"), "--inception", &weights];
    Run::new(&mut evaluate(&args)).failed(2, &["inception"]);
}
