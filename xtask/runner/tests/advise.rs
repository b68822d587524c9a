//! `advise` as a user meets it: the real runner, one process a test.

#[path = "../../tests/process/mod.rs"]
mod process;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use burn_memopt_datasets::synthetic::emitters::{EmitterConfig, EmitterMovie};
use burn_memopt_datasets::synthetic::vqa::VqaSetConfig;
use burn_memopt_datasets::video::{FrameRate, VideoError, VideoFrame, VideoWriter};
use flate2::{Compression, write::GzEncoder};
use image::{GrayImage, RgbImage};
use serde_json::Value;
use tempfile::TempDir;

/// What every test asks for: data of a known size in memory of a known size.
fn advise(data: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_burn-memopt"));
    command.arg("advise").arg("--data").arg(data).args(args);
    command.args(["--memory", "1MiB", "--device", "flex"]);
    process::output(&mut command)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The one object that `--json` prints.
#[track_caller]
fn json(data: &Path, args: &[&str]) -> Value {
    let output = advise(data, &[args, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    serde_json::from_str(&stdout).expect("a JSON object")
}

#[track_caller]
fn fails(data: &Path, args: &[&str], code: i32, words: &[&str]) {
    let output = advise(data, args);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(output.stdout.is_empty());
    for word in words {
        assert!(said.contains(word), "{word:?} is missing in {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// A stack of `num_frames` frames of 16×16 pixels, and the table of its emitters.
fn write_movie(folder: &Path, num_frames: usize) -> (std::path::PathBuf, String) {
    let config = EmitterConfig::new()
        .with_num_frames(num_frames)
        .with_height(16)
        .with_width(16);
    let files = EmitterMovie::generate(&config)
        .write(folder)
        .expect("the movie is written");
    (files.frames, files.localizations.display().to_string())
}

#[test]
fn a_small_stack_is_loaded_once_and_the_table_says_why() {
    let dir = folder();
    let (stack, _) = write_movie(dir.path(), 20);
    let output = advise(&stack, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let table = String::from_utf8_lossy(&output.stdout).into_owned();
    for words in [
        "TIFF stack: 20 frames of 16×16 pixels",
        "planned for 1.0 MiB",
        "loading         preload",
        "of the 1.0 MiB free, below 50 %",
    ] {
        assert!(table.contains(words), "{words:?} is missing in {table}");
    }
}

#[test]
fn json_is_one_object_with_bytes_and_reasons() {
    let dir = folder();
    let (stack, table) = write_movie(dir.path(), 20);
    let told = json(&stack, &["--batch-size", "3"]);
    assert_eq!(told["kind"], "tiff_stack");
    assert_eq!(told["bytes"]["num_items"], 20);
    assert_eq!(
        told["bytes"]["loaded"],
        told["bytes"]["mean_item"]["loaded"].as_u64().unwrap() * 20
    );
    assert_eq!(told["bytes"]["stored"], fs::metadata(&stack).unwrap().len());
    assert_eq!(told["machine"]["free_memory"], 1 << 20);
    assert_eq!(told["machine"]["is_given"], true);
    assert_eq!(told["advice"]["batch_size"]["value"], 3);
    for setting in [
        "loading",
        "num_workers",
        "batch_size",
        "prefetch",
        "cache",
        "shuffle_buffer",
        "host_memory",
    ] {
        let advised = &told["advice"][setting];
        assert!(!advised["value"].is_null(), "{setting}: {advised}");
        assert!(
            advised["reason"]
                .as_str()
                .is_some_and(|reason| !reason.is_empty())
        );
    }

    let counted = json(&stack, &["--targets", &table]);
    assert_eq!(counted["kind"], "counted_stack");
    let per_item = |told: &Value| told["bytes"]["largest_item"]["loaded"].as_u64().unwrap();
    assert!(per_item(&counted) >= 2 * 16 * 16 * 4 && per_item(&counted) > per_item(&told));
}

#[test]
fn images_and_masks_are_decoded_lazily_where_they_do_not_fit() {
    let dir = folder();
    let (images, masks) = (dir.path().join("images"), dir.path().join("masks"));
    for folder in [&images, &masks] {
        fs::create_dir(folder).unwrap();
    }
    for number in 0..70 {
        let side = 32 + number % 2 * 32;
        let name = format!("{number}.png");
        RgbImage::new(side, side).save(images.join(&name)).unwrap();
        GrayImage::new(side, side).save(masks.join(&name)).unwrap();
    }
    let masks = masks.display().to_string();
    let told = json(&images, &["--masks", &masks]);
    assert_eq!(told["kind"], "image_mask");
    assert_eq!(
        (&told["bytes"]["num_items"], &told["items_seen"]),
        (&70.into(), &64.into())
    );
    // Three channels and the mask as f32, 64×64 the larger of both sizes.
    let largest = told["bytes"]["largest_item"]["loaded"].as_u64().unwrap();
    assert!(
        (4 * 4 * 64 * 64..4 * 4 * 64 * 64 + 1024).contains(&largest),
        "{largest}"
    );
    // 70 items of 16 or 64 KiB in 1 MiB: more than twice of it.
    assert_eq!(told["advice"]["loading"]["value"], "stream");
}

/// `num` images of 8×8 pixels in a new folder.
fn write_images(folder: &Path, num: u32) {
    fs::create_dir_all(folder).expect("a folder");
    for number in 0..num {
        let image = RgbImage::new(8, 8);
        image
            .save(folder.join(format!("{number}.png")))
            .expect("an image");
    }
}

#[test]
fn a_folder_of_stacks_is_one_stack() {
    let dir = folder();
    for (name, num_frames) in [("a", 3), ("b", 5)] {
        let (stack, _) = write_movie(&dir.path().join(name), num_frames);
        fs::rename(stack, dir.path().join(format!("{name}.tif"))).unwrap();
        fs::remove_dir_all(dir.path().join(name)).unwrap();
    }
    let told = json(dir.path(), &[]);
    assert_eq!(told["kind"], "tiff_sequence");
    assert_eq!(told["bytes"]["num_items"], 8);
    assert_eq!(told["access"], "mapped");
    assert_eq!(told["advice"]["cache"]["value"], 0);
}

#[test]
fn images_are_frames_pairs_or_clips_by_the_folders_they_lie_in() {
    let dir = folder();
    let root = dir.path().join("one");
    write_images(&root.join("frames"), 3);
    write_images(&root.join("masks"), 3);
    let frames = json(&root.join("frames"), &[]);
    assert_eq!(frames["kind"], "frames");
    assert_eq!(frames["bytes"]["num_items"], 3);
    let per_frame = frames["bytes"]["largest_item"]["loaded"].as_u64().unwrap();
    assert!(per_frame >= 3 * 8 * 8, "{per_frame}");
    assert_eq!(json(&root, &[])["kind"], "image_mask");

    let videos = dir.path().join("videos");
    write_images(&videos.join("cat"), 20);
    write_images(&videos.join("dog"), 16);
    let clips = json(&videos, &[]);
    assert_eq!(clips["kind"], "clips");
    // 11 and 7 clips of 10 consecutive frames, but 36 frames to keep.
    assert_eq!(clips["bytes"]["num_items"], 18);
    assert_eq!(clips["bytes"]["loaded"], per_frame * 36);
    assert_eq!(clips["bytes"]["largest_item"]["loaded"], per_frame * 16);
}

#[test]
fn json_lines_are_counted_and_compressed_ones_are_streams() {
    let dir = folder();
    let line = "{\"text\": \"some words\"}\n";
    let plain = dir.path().join("records.jsonl");
    fs::write(&plain, line.repeat(50)).unwrap();
    let told = json(&plain, &[]);
    assert_eq!(
        (&told["kind"], &told["access"]),
        (&"jsonl".into(), &"decoded".into())
    );
    assert_eq!(told["bytes"]["num_items"], 50);
    // The only file of records stands for its folder.
    assert_eq!(json(dir.path(), &[])["kind"], "jsonl");

    let packed = dir.path().join("records.jsonl.gz");
    let file = fs::File::create(&packed).unwrap();
    let mut out = GzEncoder::new(file, Compression::fast());
    // More text than is read of a file that cannot be asked for its length.
    for _ in 0..10 {
        out.write_all(line.repeat(50_000).as_bytes()).unwrap();
    }
    out.finish().unwrap();
    let told = json(&packed, &[]);
    assert_eq!(told["bytes"]["num_items"], Value::Null);
    assert_eq!(told["advice"]["loading"]["value"], "stream");
    assert!(told["advice"]["shuffle_buffer"]["value"].as_u64().unwrap() > 0);
    fails(
        dir.path(),
        &[],
        1,
        &["2 JSON Lines files", "give the path of one"],
    );
    fails(&plain, &["--images", "x"], 2, &["--images", "`image`"]);
}

#[test]
fn questions_cost_what_their_images_do_and_missing_images_are_told() {
    let dir = folder();
    let file = VqaSetConfig::new(4)
        .write(dir.path())
        .expect("questions are written");
    let told = json(&file, &[]);
    assert_eq!(told["kind"], "vqa");
    assert_eq!(told["bytes"]["num_items"], 4);
    let largest = told["bytes"]["largest_item"]["loaded"].as_u64().unwrap();
    assert!(largest >= 3 * 32 * 32 * 4, "{largest}");
    assert_eq!(told["notes"].as_array().map(Vec::len), Some(0));

    let images = dir.path().join("elsewhere");
    fs::create_dir(&images).unwrap();
    let root = images.display().to_string();
    fails(&file, &["--images", &root], 1, &["elsewhere", "missing"]);
}

#[test]
fn a_video_without_ffmpeg_is_told_what_to_install() {
    let dir = folder();
    let video = dir.path().join("clip.mp4");
    fs::write(&video, "no video").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_burn-memopt"));
    command.args(["advise", "--data"]).arg(&video);
    command.env("BURN_MEMOPT_FFMPEG", dir.path().join("ffmpeg"));
    let output = process::output(&mut command);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("install ffmpeg"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_video_is_a_stream_of_frames() {
    let dir = folder();
    let path = dir.path().join("clip.mp4");
    let frame = |index| VideoFrame {
        index,
        height: 16,
        width: 24,
        pixels: vec![90; 16 * 24 * 3],
    };
    let written =
        VideoWriter::create(&path, 16, 24, FrameRate::new(25, 1)).and_then(|mut video| {
            (0..12).try_for_each(|index| video.write(&frame(index)))?;
            video.finish()
        });
    match written {
        Err(VideoError::Start { .. }) => return println!("skipped: ffmpeg is not installed"),
        written => written.expect("the video is written"),
    }
    let told = json(&path, &[]);
    assert_eq!(told["kind"], "video");
    assert_eq!(told["bytes"]["num_items"], 12);
    assert_eq!(told["access"]["streamed"]["record"], 16 * 24 * 3);
    assert_eq!(told["advice"]["loading"]["value"], "preload");
}

#[test]
fn tables_in_any_form_are_checked_and_noted() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/tests/cases/tables");
    let stack = cases.join("frames.tif");
    let table = |name: &str| cases.join(name).display().to_string();
    for (name, note) in [
        ("decimal_commas.csv", ""),
        ("decode_emitters.csv", ""),
        ("frames_from_one.csv", "frame 0 is never named"),
        ("one_emitter_outside.csv", "left out 1 of 25 rows"),
    ] {
        let told = json(&stack, &["--targets", &table(name)]);
        assert_eq!(told["kind"], "counted_stack");
        let notes = told["notes"].to_string();
        assert!(
            notes.contains(note) && (note.is_empty() == (notes == "[]")),
            "{notes}"
        );
    }
    let nanometres = ["--targets", &table("thunderstorm_nm.csv")];
    fails(&stack, &nanometres, 1, &["x [nm]", "--pixel-size"]);
    json(
        &stack,
        &[&nanometres[..], &["--pixel-size", "100"]].concat(),
    );
    let none = ["--targets", &table("header_only.csv")];
    fails(&stack, &none, 1, &["the table has no rows"]);
}

#[test]
fn several_data_sets_in_one_folder_are_told_apart() {
    let dir = folder();
    write_images(dir.path(), 2);
    fs::write(dir.path().join("a.mp4"), "").unwrap();
    fails(
        dir.path(),
        &[],
        1,
        &["2 PNG or JPEG files and 1 video", "give the path of one"],
    );
    fails(
        &dir.path().join("0.png"),
        &[],
        1,
        &["single image", "folder"],
    );
}

#[test]
fn what_is_missing_empty_or_unknown_is_named() {
    let dir = folder();
    fails(&dir.path().join("nowhere"), &[], 1, &["nowhere", "exists"]);
    fails(dir.path(), &[], 1, &["empty", "what is read", "TIFF"]);
    let text = dir.path().join("notes.txt");
    fs::write(&text, "nothing to train on").unwrap();
    fails(&text, &[], 1, &["notes.txt", "what is read"]);
    fails(dir.path(), &[], 1, &["1 other file", "what is read"]);
    let nothing = dir.path().join("nothing.tif");
    fs::write(&nothing, "").unwrap();
    fails(&nothing, &[], 1, &["nothing.tif", "empty"]);
}

#[test]
fn a_damaged_file_is_named_by_its_reader() {
    let dir = folder();
    let (stack, table) = write_movie(dir.path(), 4);
    let whole = fs::read(&stack).unwrap();
    fs::write(&stack, &whole[..whole.len() / 2]).unwrap();
    fails(
        &stack,
        &["--targets", &table],
        1,
        &["frames.tif", "export the stack again"],
    );
    fs::write(&stack, "no TIFF").unwrap();
    fails(&stack, &[], 1, &["frames.tif", "not a TIFF"]);
}

#[test]
fn an_item_that_does_not_fit_is_told_with_both_amounts() {
    let dir = folder();
    let (stack, _) = write_movie(dir.path(), 2);
    let mut command = Command::new(env!("CARGO_BIN_EXE_burn-memopt"));
    command
        .args(["advise", "--memory", "1KB", "--data"])
        .arg(&stack);
    let output = process::output(&mut command);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("1000 B") && said.contains("one item takes"),
        "{said}"
    );
}

#[test]
fn flags_that_do_not_belong_to_the_data_are_wrong_usage() {
    let dir = folder();
    let (stack, table) = write_movie(dir.path(), 2);
    fails(
        &stack,
        &["--masks", "m"],
        2,
        &["--masks", "folder of images"],
    );
    let images = dir.path().join("images");
    fs::create_dir(&images).expect("a folder");
    let image = image::GrayImage::new(4, 4);
    image.save(images.join("a.png")).expect("an image");
    fails(
        &images,
        &["--targets", &table],
        2,
        &["--targets", "TIFF stack"],
    );
    fails(&stack, &["--images", "m"], 2, &["--images", "JSON Lines"]);
    fails(
        &stack,
        &["--batch-size", "0"],
        2,
        &["--batch-size", "at least 1"],
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_burn-memopt"));
    command
        .args(["advise", "--memory", "6XB", "--data"])
        .arg(&stack);
    let output = process::output(&mut command);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("--memory") && stderr(&output).contains("GiB"));
}

#[cfg(unix)]
#[test]
fn a_path_that_is_no_text_is_read() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let dir = folder();
    let (stack, table) = write_movie(dir.path(), 4);
    let [other, moved] =
        [&b"\xe9.tif"[..], b"\xff.csv"].map(|name| dir.path().join(OsStr::from_bytes(name)));
    fs::rename(stack, &other).unwrap();
    fs::rename(table, &moved).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_burn-memopt"));
    command.args(["advise", "--json", "--memory", "1MiB", "--device", "flex"]);
    command.arg("--data").arg(other).arg("--targets").arg(moved);
    let output = process::output(&mut command);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}
