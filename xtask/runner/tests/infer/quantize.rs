//! Packed weights: `quantize` makes a run that `infer` and `evaluate` take, and `infer` packs by itself.

use std::fs;
use std::path::Path;
use std::process::Command;

use rstest::rstest;
use serde_json::Value;

use crate::runner::{Run, Workplace, files_in, process};
use crate::{assert_close, counting, event, infer, masking, read_stack, write_stack};

/// A command of the program but `infer`.
fn command(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_burn-memopt"));
    command
        .arg(name)
        .args(args)
        .env("BURN_DEVICE", "flex")
        .env("XDG_RUNTIME_DIR", std::env::temp_dir())
        .env_remove("BURN_MEMOPT_DEVICE");
    command
}

/// Packs the run `model` of the workplace into `packed`.
fn quantize(place: &Workplace, args: &[&str]) -> Run {
    let [model, packed] = ["model", "packed"].map(|name| place.arg(name));
    let fixed = ["--model", &model, "--output", &packed, "--json"];
    Run::new(&mut command("quantize", &[&fixed, args].concat()))
}

#[rstest]
#[case::unet("unet", &[])]
#[case::watermark("watermark", &["--num-images", "4", "--image-size", "40"])]
#[case::decode("decode", &[])]
#[case::flow_completion("flow-completion", &[])]
#[case::gan("gan", &["--field-width", "32"])]
fn a_packed_run_is_a_run_and_leaves_the_original_as_it_was(
    #[case] model: &'static str,
    #[case] flags: &[&str],
    #[values("q8", "q4")] scheme: &str,
) {
    let place = Workplace::of(model);
    let trained = place.train("model", &[flags, &["--steps", "2"]].concat());
    let trained = trained.succeeded();
    let before = files_in(&place.path("model"));
    let run = quantize(&place, &["--scheme", scheme]).succeeded();
    assert!(files_in(&place.path("model")) == before, "the run changed");

    let report = event(&run, "quantized");
    assert_eq!(report["scheme"], scheme);
    assert_eq!(report["metrics_before"], trained.summary()["metrics"]);
    let bytes = |name: &str| report[name].as_u64().expect("a number");
    let [before, after] = ["bytes_before", "bytes_after"].map(bytes);
    assert!(after < before, "{report}");
    let reasons = report["in_float"].as_array().expect("a list").iter();
    let reasons: Vec<_> = reasons.filter_map(|it| it["why"].as_str()).collect();
    assert!(
        reasons.contains(&"head") && reasons.contains(&"bias or norm"),
        "{report}"
    );
    let file = |run: &str| {
        let path = place.path(run).join("checkpoint-2/model.bpk");
        fs::metadata(path).expect("a file").len()
    };
    // The names of tensors and their alignment take the rest of these small files.
    assert!(file("packed") < file("model") + 32 * 1024);

    let packed = place.arg("packed");
    let evaluated = command("evaluate", &["--model", &packed, "--json"]);
    let evaluated = Run::new(&mut { evaluated }).succeeded();
    assert_eq!(
        event(&evaluated, "evaluation")["metrics"],
        report["metrics"]
    );
    let resumed = place.resume("packed", &["--steps", "3"]);
    resumed.failed(2, &["packed and cannot be trained", "resume the run"]);
}

#[test]
fn infer_gives_the_same_with_a_packed_run_and_by_packing_itself() {
    let place = counting(&[]);
    write_stack(&place.path("in.tif"), 2, 40, 40);
    quantize(&place, &["--scheme", "q8"]).succeeded();
    infer(&place, "packed", "in.tif", "packed.tif", &[]).succeeded();
    let run = infer(&place, "model", "in.tif", "own.tif", &["--quantize", "q8"]).succeeded();
    assert!(run.stderr.contains("weights in q8"), "{}", run.stderr);
    infer(&place, "model", "in.tif", "float.tif", &[]).succeeded();
    let [packed, own, float] =
        ["packed.tif", "own.tif", "float.tif"].map(|name| read_stack(&place.path(name)));
    assert_eq!(packed, own);
    assert_ne!(packed, float);
    let largest = float.iter().fold(0.0_f32, |it, value| it.max(value.abs()));
    assert_close(&packed, &float, 0.05 * largest);

    // In half precision too, and not as a continuation of the other result.
    let args = ["--quantize", "q8", "--precision", "f16", "--overwrite"];
    infer(&place, "model", "in.tif", "own.tif", &args).succeeded();
    assert_close(&read_stack(&place.path("own.tif")), &own, 0.05 * largest);
}

fn config(run: &Path) -> Value {
    let text = fs::read_to_string(run.join("config.json")).expect("settings");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn people_get_a_table_and_the_settings_of_the_run_stay() {
    let place = masking();
    let [model, packed] = ["model", "deep/er/packed"].map(|name| place.arg(name));
    let args = ["--model", &model, "--output", &packed, "--keep", "inc"];
    let output = process::output(&mut command("quantize", &args));
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    for words in [
        "weights in q8",
        "before,",
        "in float at a time",
        "kept by name",
        "iou ",
    ] {
        assert!(table.contains(words), "{words:?} is missing in {table}");
    }
    assert_eq!(config(Path::new(&packed)), config(Path::new(&model)));
}

#[test]
fn what_cannot_be_is_named() {
    let place = counting(&[]);
    write_stack(&place.path("in.tif"), 1, 40, 40);
    quantize(&place, &["--scheme", "q5"]).failed(2, &["'q5'", "q8, q4"]);
    quantize(&place, &["--keep", "head"]).failed(2, &["--keep", "\"head\"", "outc.weight"]);
    assert!(!place.path("packed").exists());
    quantize(&place, &[]).succeeded();
    quantize(&place, &[]).failed(2, &["--output", "is there already"]);

    let [packed, again] = ["packed", "again"].map(|name| place.arg(name));
    let args = ["--model", &packed, "--output", &again];
    Run::new(&mut command("quantize", &args)).failed(2, &["--model", "packed already"]);
    let run = |args: &[&str]| infer(&place, "packed", "in.tif", "out.tif", args);
    run(&["--quantize", "q4"]).failed(2, &["--quantize", "packed already"]);
    run(&["--precision", "f16"]).failed(2, &["--precision f16", "packed for f32"]);

    let state = place.path("packed/checkpoint-2");
    fs::write(state.join("quantization.json"), "{\"scheme\":\"q4\"}").expect("a file");
    run(&[]).failed(1, &["packed weights in", "quantize the run again"]);
    fs::write(state.join("quantization.json"), "{\"scheme\":\"q3\"}").expect("a file");
    run(&[]).failed(1, &["quantization.json", "q3"]);
    assert!(!place.path("out.tif").exists());
}
