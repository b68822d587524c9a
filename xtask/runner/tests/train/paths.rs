//! Paths that are no text: on most systems, a name is bytes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use burn_memopt_datasets::synthetic::emitters::{EmitterConfig, EmitterMovie};

use crate::runner::{Run, TINY, Workplace, command};

#[test]
fn a_run_is_trained_continued_and_copied() {
    let place = Workplace::new();
    let folder = place
        .path("a")
        .with_file_name(OsStr::from_bytes(b"caf\xe9"));
    let config = EmitterConfig::new()
        .with_num_frames(20)
        .with_height(16)
        .with_width(16);
    let movie = EmitterMovie::generate(&config).write(folder.join("movie"));
    let movie = movie.expect("the movie is written");
    let run = |args: &[&OsStr]| Run::new(command(&[]).args(args)).succeeded();
    let flag = OsStr::new;
    let (first, second) = (
        folder.join("first"),
        folder.join(OsStr::from_bytes(b"\xff")),
    );
    let data = [
        flag("--data"),
        movie.frames.as_ref(),
        flag("--targets"),
        movie.localizations.as_ref(),
    ];
    let steps = [flag("--steps"), flag("2")];
    let tiny = TINY.map(flag);
    let to = |run| [flag("--artifact-dir"), run];
    run(&[&data[..], &tiny, &steps, &to(first.as_ref())].concat());
    run(&[flag("--resume"), first.as_ref(), steps[0], flag("3")]);
    let config = first.join("config.json");
    let config = [flag("--config"), config.as_ref()];
    run(&[&config[..], &steps, &to(second.as_ref())].concat());
    let dry = [flag("--dry-run"), flag("--artifact-dir"), folder.as_ref()];
    run(&[&config[..], &dry].concat());
    for run in [first, second] {
        assert!(run.join("samples").read_dir().expect("a folder").count() > 0);
    }
}
