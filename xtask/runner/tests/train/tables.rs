//! Tables of emitters in the forms that programs write.

use rstest::rstest;

use crate::runner::{Run, Workplace};

const FOLDER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../datasets/tests/cases/tables"
);

/// Trains on the stack with the table `name`.
fn train_on(place: &Workplace, name: &str, args: &[&str]) -> Run {
    let [stack, table] = ["frames.tif", name].map(|name| format!("{FOLDER}/{name}"));
    let data = ["--data", &stack, "--targets", &table, "--steps", "2"];
    place.train(name, &[&data, args].concat())
}

fn losses(run: &Run) -> Vec<f64> {
    let losses = run.losses().into_values();
    losses.map(|loss| loss.parse().expect("a number")).collect()
}

#[rstest]
// ThunderSTORM's table of nanometres knows more than positions, which DECODE learns.
#[case::counting("unet", 9)]
#[case::localizing("decode", 8)]
fn every_form_teaches_the_same(#[case] model: &'static str, #[case] num_forms: usize) {
    let place = Workplace::of(model);
    let plain = losses(&train_on(&place, "plain.csv", &[]).succeeded());
    assert_eq!(plain.len(), 2);
    let forms = [
        ("semicolons.csv", &[][..]),
        ("decimal_commas.csv", &[]),
        ("tabs.csv", &[]),
        ("trailing_commas.csv", &[]),
        ("nan_in_unused_column.csv", &[]),
        ("decode_emitters.csv", &[]),
        ("thunderstorm_px.csv", &[]),
        ("thunderstorm_nm.csv", &["--pixel-size", "100"]),
    ];
    for (name, args) in forms.into_iter().take(num_forms - 1) {
        let found = losses(&train_on(&place, name, args).succeeded());
        for (found, plain) in found.iter().zip(&plain) {
            assert!(
                (found - plain).abs() < 1e-4 * plain,
                "{name}: {found} and not {plain}"
            );
        }
    }
}

#[test]
fn what_cannot_be_used_is_said() {
    let place = Workplace::new();
    let words = ["thunderstorm_nm.csv", "x [nm]", "--pixel-size"];
    train_on(&place, "thunderstorm_nm.csv", &[]).failed(1, &words);
    train_on(&place, "header_only.csv", &[]).failed(1, &["the table has no rows"]);
    for (name, words) in [
        (
            "frames_from_one.csv",
            ["frame 0 is never named", "frame 12 is behind"],
        ),
        (
            "one_emitter_outside.csv",
            ["left out 1 of 25 rows", "line 26"],
        ),
    ] {
        let run = train_on(&place, name, &[]).succeeded();
        for word in words {
            assert!(
                run.stderr.contains(word),
                "{word} is missing in {}",
                run.stderr
            );
        }
    }
}
