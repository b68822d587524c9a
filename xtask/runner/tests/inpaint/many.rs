//! Many videos side by side.

use std::fs;

use burn_memopt_datasets::video::VideoFile;

use crate::runner::{SHORT, Workplace, frames, has_ffmpeg, only_holes_changed, run};

#[test]
fn one_video_that_fails_does_not_stop_the_others() {
    if !has_ffmpeg() {
        return;
    }
    let place = Workplace::new();
    fs::create_dir_all(place.path("videos")).expect("a folder");
    fs::create_dir_all(place.path("masks")).expect("a folder");
    let clip = place.clip("a", 3, 64, 64);
    for name in ["a", "b", "c"] {
        if name != "a" {
            place.clip(name, 2, 64, 64);
        }
        for kind in ["frames", "masks"] {
            let to = if kind == "frames" { "videos" } else { "masks" };
            let from = place.path(&format!("{name}-{kind}"));
            fs::rename(from, place.path(to).join(name)).expect("moved");
        }
    }
    fs::remove_file(place.path("masks/b/00001.png")).expect("removed");
    let (videos, masks, output) = (place.arg("videos"), place.arg("masks"), place.arg("out"));
    let flags = [
        "--video-dir",
        &videos,
        "--mask-dir",
        &masks,
        "--output",
        &output,
    ];
    let more = [
        "--batch-size",
        "2",
        "--save-frames",
        "--save-masked-input",
        "--save-fps",
        "12",
    ];
    let done = run(flags.into_iter().chain(more).chain(SHORT));
    let done = done.failed(1, &["1 of 3 videos", "b: ", "1 masks", "2 frames"]);
    assert_eq!(
        (done.events("summary").len(), done.events("failed").len()),
        (2, 1)
    );

    let video = VideoFile::open(place.path("out/a.mp4")).expect("a video");
    assert_eq!(
        video.info().frame_rate.map(|rate| rate.per_second()),
        Some(12.0)
    );
    assert_eq!(video.count_frames().expect("its frames"), 3);
    only_holes_changed(&clip, &frames(&place.path("out/a-frames")), 4);
    assert!(place.path("out/c-masked.mp4").exists() && !place.path("out/b.mp4").exists());
}
