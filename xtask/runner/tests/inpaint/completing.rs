//! Videos are completed, and only where something is missing.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use burn_memopt_datasets::video::VideoFile;
use burn_memopt_models::propainter::raft::Raft;
use burn_memopt_models::propainter::{FlowCompletion, InpaintGenerator, Published};

use crate::runner::{Workplace, frames, has_ffmpeg, only_holes_changed, run};

#[test]
fn a_folder_of_frames_of_any_size_is_completed_and_known_pixels_are_untouched() {
    let place = Workplace::new();
    // Not multiples of 8: the networks see 64×72.
    let clip = place.clip("a", 5, 68, 76);
    let done = place
        .complete("a", "out", &["--mask-dilation", "2"])
        .succeeded();
    assert!(
        done.stderr.contains("patterns that mean nothing"),
        "{}",
        done.stderr
    );
    let completed = frames(&place.path("out"));
    assert_eq!(completed.len(), 5);
    only_holes_changed(&clip, &completed, 2);
    assert!(!place.path("out.part").exists());
    let summary = done.events("summary")[0];
    assert_eq!(
        (&summary["frames"], &summary["device"]),
        (&5.into(), &"flex".into())
    );
    assert_eq!(summary["stages"].as_array().map(Vec::len), Some(4));
    assert!(
        summary["peak_bytes"]
            .as_u64()
            .is_some_and(|bytes| bytes > 1 << 20)
    );
    if has_ffmpeg() {
        let video = VideoFile::open(place.path("out/inpainted.mp4")).expect("a video");
        assert_eq!(video.count_frames().expect("its frames"), 5);
    }
    place
        .complete("a", "out", &[])
        .failed(1, &["out is there already"]);
    place.complete("a", "out", &["--resume"]).succeeded();
}

/// Saves the made-up weights of a network under its published name.
fn save<M: Published>(folder: &Path) {
    let network = M::procedural(&Device::flex());
    let file = folder.join(format!("{}.safetensors", M::FILE));
    network.save_safetensors(file).expect("a file of weights");
}

#[test]
fn the_weights_of_a_folder_complete_as_the_networks_they_were_saved_from() {
    let place = Workplace::new();
    place.clip("a", 3, 64, 64);
    let weights = place.path("weights");
    fs::create_dir(&weights).expect("a folder");
    save::<Raft>(&weights);
    save::<FlowCompletion>(&weights);
    save::<InpaintGenerator>(&weights);
    let folder = weights.display().to_string();
    let loaded = place.complete("a", "loaded", &["--weights", &folder]);
    let loaded = loaded.succeeded();
    assert!(!loaded.stderr.contains("mean nothing"), "{}", loaded.stderr);
    place.complete("a", "made-up", &[]).succeeded();
    assert_eq!(
        frames(&place.path("loaded")),
        frames(&place.path("made-up"))
    );
}

#[test]
fn a_single_frame_is_a_video() {
    let place = Workplace::new();
    let clip = place.clip("a", 1, 64, 64);
    place.complete("a", "out", &[]).succeeded();
    only_holes_changed(&clip, &frames(&place.path("out")), 4);
}

#[test]
fn an_extended_frame_holds_the_frame_in_its_middle() {
    let place = Workplace::new();
    let clip = place.clip("a", 2, 64, 64);
    let (video, output) = (place.arg("a-frames"), place.arg("out"));
    let args = [
        "--video",
        &video,
        "--output",
        &output,
        "--mode",
        "outpaint",
        "--raft-iter",
        "1",
    ];
    run(args).succeeded();
    let extended = frames(&place.path("out"));
    assert_eq!((extended[0].height, extended[0].width), (64, 80));
    for frame in extended {
        let rows = frame
            .pixels
            .chunks(80 * 3)
            .flat_map(|row| &row[8 * 3..72 * 3]);
        let middle: Vec<u8> = rows.copied().collect();
        assert_eq!(middle, clip.frame(frame.index).pixels);
    }
}
