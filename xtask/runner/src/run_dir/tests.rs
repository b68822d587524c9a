use anyhow::anyhow;
use serde_json::json;

use super::*;

fn new_run(root: &Path) -> RunDir {
    RunDir::create(root, "unet", &json!({"lr": 0.5})).unwrap()
}

fn save(run: &RunDir, step: u64) -> SavedState {
    run.save(step, |dir| {
        Ok(fs::write(dir.join("model"), step.to_string())?)
    })
    .unwrap()
}

fn entries(root: &Path) -> Vec<String> {
    let names = root
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn the_last_two_states_are_kept_and_the_newest_is_resumed() {
    let root = tempfile::tempdir().unwrap();
    let run = new_run(root.path());
    assert_eq!(run.latest().unwrap(), None);
    for step in [9, 10, 200] {
        let saved = save(&run, step);
        assert_eq!(run.latest().unwrap(), Some(saved));
    }
    assert_eq!(
        entries(root.path()),
        ["checkpoint-10", "checkpoint-200", "config.json", "latest"]
    );
}

#[test]
fn a_failed_save_leaves_the_states_before_it_whole() {
    let root = tempfile::tempdir().unwrap();
    let run = new_run(root.path());
    let saved = save(&run, 1);
    for step in [1, 2] {
        let error = run.save(step, |dir| {
            fs::write(dir.join("model"), "half")?;
            Err(anyhow!("the disk is full"))
        });
        let message = format!("{:#}", error.unwrap_err());
        assert!(
            message.contains(&format!("step {step}")) && message.contains("the disk is full"),
            "{message}"
        );
    }
    assert_eq!(run.latest().unwrap(), Some(saved.clone()));
    assert_eq!(fs::read_to_string(saved.dir.join("model")).unwrap(), "1");
    assert_eq!(
        entries(root.path()),
        ["checkpoint-1", "config.json", "latest"]
    );
}

#[test]
fn what_an_interruption_left_behind_does_not_disturb() {
    let root = tempfile::tempdir().unwrap();
    let run = new_run(root.path());
    save(&run, 1);
    fs::create_dir(root.path().join("partial-checkpoint-2")).unwrap();
    fs::write(root.path().join("partial-checkpoint-2/model"), "half").unwrap();
    assert_eq!(run.latest().unwrap().unwrap().step, 1);
    let saved = save(&run, 2);
    assert_eq!(fs::read_to_string(saved.dir.join("model")).unwrap(), "2");
    assert_eq!(
        entries(root.path()),
        ["checkpoint-1", "checkpoint-2", "config.json", "latest"]
    );
    fs::write(root.path().join("latest"), "checkpoint-99\n").unwrap();
    assert_eq!(run.latest().unwrap(), Some(saved.clone()));
    fs::remove_file(root.path().join("latest")).unwrap();
    assert_eq!(run.latest().unwrap(), Some(saved));
}

#[test]
fn the_same_step_can_be_saved_again() {
    let root = tempfile::tempdir().unwrap();
    let run = new_run(root.path());
    save(&run, 3);
    let again = run
        .save(3, |dir| Ok(fs::write(dir.join("model"), "new")?))
        .unwrap();
    assert_eq!(fs::read_to_string(again.dir.join("model")).unwrap(), "new");
    assert_eq!(
        entries(root.path()),
        ["checkpoint-3", "config.json", "latest"]
    );
}

#[test]
fn a_failed_file_leaves_the_earlier_one() {
    let root = tempfile::tempdir().unwrap();
    let run = new_run(root.path());
    run.replace_file("samples/a.png", |path| Ok(fs::write(path, "old")?))
        .unwrap();
    run.replace_file("samples/a.png", |path| {
        assert_eq!(path.extension().unwrap(), "png");
        fs::write(path, "half")?;
        Err(anyhow!("stopped"))
    })
    .unwrap_err();
    assert_eq!(
        fs::read_to_string(root.path().join("samples/a.png")).unwrap(),
        "old"
    );
    assert_eq!(entries(&root.path().join("samples")), ["a.png"]);
}

#[test]
fn a_folder_that_holds_a_run_is_refused_and_left_whole() {
    let root = tempfile::tempdir().unwrap();
    let run = new_run(root.path());
    save(&run, 1);
    let before = entries(root.path());
    let error = RunDir::create(root.path(), "unet", &json!({}))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("--resume") && error.contains("--artifact-dir"),
        "{error}"
    );
    assert_eq!(entries(root.path()), before);
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("thesis.tex"), "").unwrap();
    let error = RunDir::create(other.path(), "unet", &json!({}))
        .unwrap_err()
        .to_string();
    assert!(error.contains("not empty"), "{error}");
}

#[test]
fn a_run_is_opened_with_its_settings() {
    let root = tempfile::tempdir().unwrap();
    let run = new_run(root.path());
    let (opened, settings) = RunDir::open(root.path(), "unet").unwrap();
    assert_eq!((opened, settings), (run.clone(), json!({"lr": 0.5})));
    let error = run.latest_or_error().unwrap_err().to_string();
    assert!(error.contains("saved no state"), "{error}");
}

#[test]
fn runs_of_other_models_and_versions_are_refused_naming_both() {
    let root = tempfile::tempdir().unwrap();
    new_run(root.path());
    let error = RunDir::open(root.path(), "gan").unwrap_err().to_string();
    assert!(error.contains("unet") && error.contains("gan"), "{error}");
    let config = json!({"model": "unet", "version": "99.0.0", "lr": 0.5});
    fs::write(root.path().join("config.json"), config.to_string()).unwrap();
    let error = RunDir::open(root.path(), "unet").unwrap_err().to_string();
    assert!(
        error.contains("99.0.0") && error.contains(env!("CARGO_PKG_VERSION")),
        "{error}"
    );
    assert_eq!(artifact_version("0.1.7"), artifact_version("0.1.0"));
    assert_ne!(artifact_version("0.1.7"), artifact_version("0.2.0"));
}

#[test]
fn a_folder_without_a_run_cannot_be_resumed() {
    let root = tempfile::tempdir().unwrap();
    let error = RunDir::open(root.path(), "unet").unwrap_err().to_string();
    assert!(error.contains("holds no run"), "{error}");
    fs::write(root.path().join("config.json"), "{}").unwrap();
    let error = RunDir::open(root.path(), "unet").unwrap_err().to_string();
    assert!(error.contains("does not name its model"), "{error}");
}

#[test]
fn default_folders_are_named_by_model_and_time() {
    let root = RunDir::default_root("unet");
    let name = root.file_name().unwrap().to_string_lossy().into_owned();
    let parts: Vec<_> = name.split('-').collect();
    assert_eq!(
        (parts[0], parts[1].len(), parts[2].len()),
        ("unet", 8, 6),
        "{name}"
    );
    assert!(
        parts[1..3]
            .iter()
            .all(|part| part.chars().all(|c| c.is_ascii_digit())),
        "{name}"
    );
}
