//! What is wrong is named, with what to do.

use std::fs;

use image::GrayImage;

use crate::runner::{Workplace, frames, only_holes_changed};

#[test]
fn masks_that_do_not_fit_the_video_are_refused_before_anything_is_written() {
    let place = Workplace::new();
    place.clip("a", 3, 64, 64);
    let complete = || place.complete("a", "out", &[]);
    fs::rename(place.path("a-masks/00002.png"), place.path("third.png")).expect("moved");
    complete().failed(1, &["2 masks", "3 frames"]);
    GrayImage::new(72, 64)
        .save(place.path("a-masks/00002.png"))
        .expect("a mask");
    complete().failed(1, &["00002.png", "64×72", "64×64"]);
    for index in 0..3 {
        GrayImage::new(64, 64)
            .save(place.path(&format!("a-masks/0000{index}.png")))
            .expect("a mask");
    }
    complete().failed(1, &["a-masks", "all black"]);
    assert!(!place.path("out").exists() && !place.path("out.part").exists());
}

#[test]
fn an_unreadable_frame_in_the_middle_is_named_and_the_run_goes_on_once_it_is_mended() {
    let place = Workplace::new();
    let clip = place.clip("a", 6, 64, 64);
    let path = place.path("a-frames/00004.png");
    let whole = fs::read(&path).expect("a frame");
    fs::write(&path, &whole[..whole.len() / 2]).expect("the frame is cut");
    let run = place
        .complete("a", "out", &[])
        .failed(1, &["frame 4", "00004.png", "--resume"]);
    assert_eq!(run.events("failed").len(), 1);
    fs::write(&path, whole).expect("the frame is mended");
    place.complete("a", "out", &["--resume"]).succeeded();
    only_holes_changed(&clip, &frames(&place.path("out")), 4);
}

#[test]
fn wrong_usage_is_answered_with_what_is_right() {
    let place = Workplace::new();
    place.clip("a", 2, 64, 64);
    let cases: [(&[&str], i32, &[&str]); 4] = [
        (&["--resize-ratio", "0.5"], 2, &["at least 64", "32×32"]),
        (&["--weights", "nowhere"], 1, &["nowhere/raft-things.pth"]),
        (&["--mode", "outpaint"], 2, &["takes no masks"]),
        (&["--device", "cuda"], 2, &["cuda", "--device"]),
    ];
    for (args, code, words) in cases {
        place.complete("a", "out", args).failed(code, words);
    }
    assert!(!place.path("out.part").exists());
}
