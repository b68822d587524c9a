//! What is wrong is named, with what to do.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::Path;

use flate2::bufread::GzDecoder;
use image::{GrayImage, RgbImage};

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
fn a_frame_of_another_size_is_named() {
    let place = Workplace::new();
    place.clip("a", 3, 64, 64);
    let path = place.path("a-frames/00001.png");
    RgbImage::new(72, 64).save(&path).expect("a frame");
    place
        .complete("a", "out", &[])
        .failed(1, &["00001.png", "64×72", "64×64"]);
    assert!(!place.path("out.part").exists());
}

#[test]
fn weights_of_another_model_are_refused_with_every_difference() {
    let place = Workplace::new();
    place.clip("a", 2, 64, 64);
    fs::create_dir(place.path("weights")).expect("a folder");
    let root = match std::env::var_os("BURN_MEMOPT_GOLDEN") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tests/golden"),
    };
    let packed = root.join("pth/recurrent_flow_completion.pth.gz");
    let packed = BufReader::new(File::open(packed).expect("a checkpoint"));
    let mut file = File::create(place.path("weights/raft-things.pth")).expect("a file");
    io::copy(&mut GzDecoder::new(packed), &mut file).expect("it unpacks");
    let weights = place.arg("weights");
    place.complete("a", "out", &["--weights", &weights]).failed(
        1,
        &[
            "raft-things.pth: the weights do not fit this network",
            "missing",
            "fnet.conv1.weight",
            "unexpected",
            "mid_dilation.0.weight",
        ],
    );
    assert!(!place.path("out.part").exists());
}

#[test]
fn an_unreadable_frame_in_the_middle_is_named_and_the_run_goes_on_once_it_is_mended() {
    let place = Workplace::new();
    let clip = place.clip("a", 6, 64, 64);
    let path = place.path("a-frames/00004.png");
    let whole = fs::read(&path).expect("a frame");
    // Its header is right, so that only decoding finds the damage.
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 0xff;
    fs::write(&path, damaged).expect("the frame is damaged");
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
        (
            &["--weights", "nowhere"],
            1,
            &["nowhere: neither raft-things.safetensors nor raft-things.pth"],
        ),
        (&["--mode", "outpaint"], 2, &["takes no masks"]),
        (&["--device", "cuda"], 2, &["cuda", "--device"]),
    ];
    for (args, code, words) in cases {
        place.complete("a", "out", args).failed(code, words);
    }
    assert!(!place.path("out.part").exists());
}
