use clap::{CommandFactory, Parser};

use super::*;
use crate::cli::{Cli, Command};

fn flags(line: &str) -> UNetFlags {
    let words = ["xtask", "train"]
        .into_iter()
        .chain(line.split_whitespace());
    match Cli::try_parse_from(words).unwrap().command {
        Command::Train(args) => args.unet().clone(),
        other => panic!("{other:?}"),
    }
}

fn resolve(line: &str) -> Result<TrainSettings> {
    TrainSettings::resolve(&flags(line), None)
}

/// Resolves a file of this name and content, with flags beside it.
fn resolve_file(name: &str, content: &str, line: &str) -> Result<TrainSettings> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    resolve(&format!("--config {} {line}", path.display()))
}

/// The message of a usage error.
fn refused(result: Result<TrainSettings>) -> String {
    let error = result.unwrap_err();
    assert!(
        error.chain().any(|cause| cause.is::<UsageError>()),
        "not a usage error: {error:#}"
    );
    format!("{error:#}")
}

#[test]
fn nothing_given_means_the_defaults() {
    assert_eq!(resolve("").unwrap(), TrainSettings::default());
}

#[test]
fn flags_win_over_the_file_and_the_file_over_the_defaults() {
    let settings =
        resolve_file("run.toml", "lr = 0.5\nbatch_size = 7\n", "--batch-size 2").unwrap();
    assert_eq!(
        (settings.lr, settings.batch_size, settings.depth),
        (0.5, 2, 3)
    );
}

#[test]
fn the_three_formats_say_the_same() {
    let toml = "lr = 1\nnorm = \"group\"\ngrad_checkpoint = \"segments=3\"\ndevice = \"cuda:1\"";
    let yaml = "lr: 1\nnorm: group\ngrad_checkpoint: segments=3\ndevice: cuda:1\n";
    let json = r#"{"lr": 1, "norm": "group", "grad_checkpoint": "segments=3", "device": "cuda:1"}"#;
    let settings = resolve_file("run.toml", toml, "").unwrap();
    assert_eq!(settings.lr, 1.0);
    assert_eq!(settings.norm, NormChoice::Group);
    assert_eq!(settings.grad_checkpoint.as_str(), "segments=3");
    assert_eq!(resolve_file("run.yaml", yaml, "").unwrap(), settings);
    assert_eq!(resolve_file("run.yml", yaml, "").unwrap(), settings);
    assert_eq!(resolve_file("run.json", json, "").unwrap(), settings);
}

#[test]
fn an_unknown_key_is_named_with_the_known_ones_and_the_file() {
    for (name, content) in [
        ("a.toml", "stepz = 3"),
        ("a.yaml", "stepz: 3"),
        ("a.json", r#"{"stepz": 3}"#),
    ] {
        let message = refused(resolve_file(name, content, ""));
        assert!(
            message.contains("\"stepz\"") && message.contains(name),
            "{message}"
        );
        assert!(
            message.contains("batch_size") && message.contains("grad_checkpoint"),
            "{message}"
        );
    }
}

#[test]
fn wrong_values_in_a_file_name_the_key_and_the_file() {
    for (content, key) in [
        ("steps = 0", "steps"),
        ("steps = \"many\"", "steps"),
        ("batch_size = 0", "batch_size"),
        ("batch_size = -1", "batch_size"),
        ("lr = 0.0", "lr"),
        ("precision = \"f8\"", "precision"),
        ("grad_checkpoint = \"all\"", "grad_checkpoint"),
        ("depth = 9", "depth"),
        ("holdout = 1.0", "holdout"),
        ("clip_norm = 0", "clip_norm"),
        ("base_channels = 0", "base_channels"),
        ("steps = 1\nepochs = 1", "epochs"),
        ("this is not TOML", "run.toml"),
    ] {
        let message = refused(resolve_file("run.toml", content, ""));
        assert!(
            message.contains(key) && message.contains("run.toml"),
            "{content}: {message}"
        );
    }
}

#[test]
fn a_missing_or_nameless_file_is_said_to_be() {
    let error = resolve("--config /nowhere/run.toml").unwrap_err();
    assert!(error.to_string().contains("/nowhere/run.toml"), "{error}");
    assert!(refused(resolve_file("run.ini", "", "")).contains(".toml"));
}

#[test]
fn naming_one_alternative_takes_the_other_back() {
    let settings = resolve_file("run.toml", "steps = 5", "--epochs 2").unwrap();
    assert_eq!((settings.steps, settings.epochs), (None, Some(2)));
    let settings = resolve_file(
        "a.toml",
        "data = \"a\"\ntargets = \"b\"",
        "--images c --masks d",
    )
    .unwrap();
    assert_eq!((settings.data, settings.images), (None, Some("c".into())));
}

#[test]
fn the_loss_follows_the_data_unless_it_is_given() {
    assert_eq!(
        resolve("--data a --targets b").unwrap().loss,
        LossChoice::Count
    );
    assert_eq!(
        resolve("--images a --masks b").unwrap().loss,
        LossChoice::BceDice
    );
    assert_eq!(
        resolve("--images a --masks b --loss count").unwrap().loss,
        LossChoice::Count
    );
}

#[test]
fn half_of_a_pair_in_a_file_is_refused() {
    assert!(refused(resolve_file("run.toml", "data = \"a\"", "")).contains("targets"));
}

#[test]
fn amp_flags_choose_the_precision() {
    let precision = |line| resolve(line).unwrap().precision;
    assert_eq!(precision("--use-amp"), PrecisionChoice::F16);
    assert_eq!(
        precision("--use-amp --precision bf16"),
        PrecisionChoice::Bf16
    );
    assert_eq!(precision("--no-amp"), PrecisionChoice::F32);
    let half = resolve_file("run.toml", "precision = \"bf16\"", "--no-amp").unwrap();
    assert_eq!(half.precision, PrecisionChoice::F32);
    assert!(refused(resolve("--use-amp --precision f32")).contains("--use-amp"));
    assert!(refused(resolve("--no-amp --precision f16")).contains("--no-amp"));
}

#[test]
fn a_resumed_run_keeps_its_settings_unless_flags_change_them() {
    let saved = resolve("--lr 0.5 --epochs 3 --base-channels 8").unwrap();
    let resumed =
        TrainSettings::resolve(&flags("--steps 9 --grad-checkpoint block"), Some(&saved)).unwrap();
    assert_eq!((resumed.lr, resumed.base_channels), (0.5, 8));
    assert_eq!((resumed.steps, resumed.epochs), (Some(9), None));
    let message = refused(TrainSettings::resolve(
        &flags("--base-channels 16"),
        Some(&saved),
    ));
    assert!(
        message.contains("base_channels") && message.contains("it is 8, got 16"),
        "{message}"
    );
}

#[test]
fn saved_settings_can_start_another_run_of_the_same_model() {
    let saved = resolve("--steps 7 --artifact-dir old").unwrap();
    let mut json = serde_json::to_value(&saved).unwrap();
    json["model"] = "unet".into();
    json["version"] = "0.0.1".into();
    let again = resolve_file("config.json", &json.to_string(), "").unwrap();
    assert_eq!(
        again,
        TrainSettings {
            artifact_dir: None,
            ..saved
        }
    );
    json["model"] = "gan".into();
    let message = refused(resolve_file("config.json", &json.to_string(), ""));
    assert!(
        message.contains("gan") && message.contains("unet"),
        "{message}"
    );
}

#[test]
fn every_setting_is_shown_in_the_order_of_the_fields() {
    let table = TrainSettings::default().to_string();
    assert!(table.starts_with("data                 -\n"), "{table}");
    assert!(table.contains("\ngrad_checkpoint      none\n"), "{table}");
    assert!(table.contains("\nlr                   0.001\n"), "{table}");
    assert_eq!(table.lines().count(), 25);
}

#[test]
fn the_help_gives_the_defaults_that_hold() {
    let mut command = Cli::command();
    let train = command.find_subcommand_mut("train").unwrap();
    let defaults = to_dict(&TrainSettings::default()).unwrap();
    for (key, value) in defaults {
        let argument = train
            .get_arguments()
            .find(|argument| argument.get_id() == key.as_str());
        let help = argument
            .unwrap_or_else(|| panic!("{key} is no flag"))
            .get_help()
            .unwrap()
            .to_string();
        let default = format!("The default is {}", shown(Some(&value)));
        assert!(
            help.contains(&default),
            "--{key}: {help:?} lacks {default:?}"
        );
    }
}
