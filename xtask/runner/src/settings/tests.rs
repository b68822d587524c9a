use clap::{CommandFactory, Parser};

use super::*;
use crate::choices::{LossChoice, NormChoice};
use crate::cli::{Cli, Command, Program, TrainModel};

type UNetRun = Settings<UNetSettings>;

fn flags(line: &str) -> Box<TrainFlags<UNetSettings>> {
    let words = ["xtask", "train"]
        .into_iter()
        .chain(line.split_whitespace());
    match Cli::try_parse_from(words).unwrap().command {
        Command::Program(Program::Train(args)) => match args.into_model() {
            TrainModel::Unet(flags) => flags,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn defaults() -> UNetRun {
    settings_of(&Words::new()).unwrap()
}

fn resolve(line: &str) -> Result<UNetRun> {
    super::resolve(&flags(line), None).map(|(settings, _)| settings)
}

/// Resolves a file of this name and content, with flags beside it.
fn resolve_file(name: &str, content: &str, line: &str) -> Result<UNetRun> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    resolve(&format!("--config {} {line}", path.display()))
}

/// The message of a usage error.
fn refused(result: Result<UNetRun>) -> String {
    let error = result.unwrap_err();
    assert!(
        error.chain().any(|cause| cause.is::<UsageError>()),
        "not a usage error: {error:#}"
    );
    format!("{error:#}")
}

#[test]
fn nothing_given_means_the_defaults() {
    assert_eq!(resolve("").unwrap(), defaults());
}

#[test]
fn flags_win_over_the_file_and_the_file_over_the_defaults() {
    let settings =
        resolve_file("run.toml", "lr = 0.5\nbatch_size = 7\n", "--batch-size 2").unwrap();
    let depth = settings.model.image.network.depth;
    assert_eq!(
        (settings.run.lr, settings.run.batch_size, depth),
        (0.5, 2, 3)
    );
}

#[test]
fn the_three_formats_say_the_same() {
    let toml = "lr = 1\nnorm = \"group\"\ngrad_checkpoint = \"segments=3\"\ndevice = \"cuda:1\"";
    let yaml = "lr: 1\nnorm: group\ngrad_checkpoint: segments=3\ndevice: cuda:1\n";
    let json = r#"{"lr": 1, "norm": "group", "grad_checkpoint": "segments=3", "device": "cuda:1"}"#;
    let settings = resolve_file("run.toml", toml, "").unwrap();
    assert_eq!(settings.run.lr, 1.0);
    assert_eq!(settings.model.image.network.norm, NormChoice::Group);
    assert_eq!(settings.run.grad_checkpoint.as_str(), "segments=3");
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
    assert_eq!((settings.run.steps, settings.run.epochs), (None, Some(2)));
    let settings = resolve_file(
        "a.toml",
        "data = \"a\"\ntargets = \"b\"",
        "--images c --masks d",
    )
    .unwrap();
    let data = settings.model.data;
    assert_eq!((data.data, data.images), (None, Some("c".into())));
}

#[test]
fn the_loss_follows_the_data_unless_it_is_given() {
    let loss = |line| resolve(line).unwrap().model.data.loss;
    assert_eq!(loss("--data a --targets b"), LossChoice::Count);
    assert_eq!(loss("--images a --masks b"), LossChoice::BceDice);
    assert_eq!(loss("--images a --masks b --loss count"), LossChoice::Count);
}

#[test]
fn half_of_a_pair_in_a_file_is_refused() {
    assert!(refused(resolve_file("run.toml", "data = \"a\"", "")).contains("targets"));
}

#[test]
fn amp_flags_choose_the_precision() {
    let precision = |line| resolve(line).unwrap().run.precision;
    assert_eq!(precision("--use-amp"), TrainPrecisionChoice::F16);
    assert_eq!(
        precision("--use-amp --precision bf16"),
        TrainPrecisionChoice::Bf16
    );
    assert_eq!(precision("--no-amp"), TrainPrecisionChoice::F32);
    let half = resolve_file("run.toml", "precision = \"bf16\"", "--no-amp").unwrap();
    assert_eq!(half.run.precision, TrainPrecisionChoice::F32);
    assert!(refused(resolve("--use-amp --precision f32")).contains("--use-amp"));
    assert!(refused(resolve("--no-amp --precision f16")).contains("--no-amp"));
}

#[test]
fn a_resumed_run_keeps_its_settings_unless_flags_change_them() {
    let saved = resolve("--lr 0.5 --epochs 3 --base-channels 8").unwrap();
    let (resumed, _) =
        super::resolve(&flags("--steps 9 --grad-checkpoint block"), Some(&saved)).unwrap();
    let base_channels = resumed.model.image.network.base_channels;
    assert_eq!((resumed.run.lr, base_channels), (0.5, 8));
    assert_eq!((resumed.run.steps, resumed.run.epochs), (Some(9), None));
    let other = super::resolve(&flags("--base-channels 16"), Some(&saved));
    let message = refused(other.map(|(settings, _)| settings));
    assert!(
        message.contains("base_channels") && message.contains("it is 8, got 16"),
        "{message}"
    );
}

#[test]
fn saved_settings_can_start_another_run_of_the_same_model() {
    let mut saved = resolve("--steps 7 --artifact-dir old").unwrap();
    let mut json = serde_json::to_value(&saved).unwrap();
    json["model"] = "unet".into();
    json["version"] = "0.0.1".into();
    let again = resolve_file("config.json", &json.to_string(), "").unwrap();
    saved.run.artifact_dir = None;
    assert_eq!(again, saved);
    json["model"] = "gan".into();
    let message = refused(resolve_file("config.json", &json.to_string(), ""));
    assert!(
        message.contains("gan") && message.contains("unet"),
        "{message}"
    );
}

#[test]
fn every_setting_is_shown_in_the_order_of_the_fields() {
    let table = defaults().to_string();
    assert!(table.starts_with("data                 -\n"), "{table}");
    assert!(table.contains("\ngrad_checkpoint      none\n"), "{table}");
    assert!(table.contains("\nlr                   0.001\n"), "{table}");
    assert_eq!(table.lines().count(), 41);
}

#[test]
fn the_help_gives_the_defaults_that_hold() {
    check_help::<DecodeSettings>();
    check_help::<UNetSettings>();
    check_help::<WatermarkSettings>();
}

fn check_help<M: ModelSettings>() {
    let mut command = crate::cli::with_defaults(Cli::command());
    let train = command.find_subcommand_mut("train").unwrap();
    let model = train.find_subcommand_mut(M::MODEL).unwrap();
    for (key, value) in words(&settings_of::<M>(&Words::new()).unwrap()) {
        let mut flags = model.get_arguments();
        let flag = flags.find(|flag| flag.get_id() == key.as_str());
        let flag = flag.unwrap_or_else(|| panic!("{key} is no flag"));
        let help = flag.get_help().unwrap().to_string();
        let default = format!("The default is {value}");
        assert!(
            help.contains(&default),
            "{} --{key}: {help:?} lacks {default:?}",
            M::MODEL
        );
    }
}

#[test]
fn saved_settings_are_read_again_and_with_a_key_too_many_refused() {
    let saved = resolve("--epochs 7 --images a --masks b").unwrap();
    let mut json = serde_json::to_value(&saved).unwrap();
    assert_eq!(json["masks"], "b");
    let again: UNetRun = settings_of(&words(&json)).unwrap();
    assert_eq!(again, saved);
    json["stepz"] = 3.into();
    let error = settings_of::<UNetSettings>(&words(&json)).unwrap_err();
    assert!(error.to_string().contains("\"stepz\""), "{error}");
}
