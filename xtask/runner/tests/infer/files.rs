//! Images, stacks and folders: what comes out is what the network gives.

use std::fs;

use burn_memopt_datasets::tiff::{FrameSource, TiffStack};
use burn_memopt_models::unet::NormKind;
use image::{DynamicImage, GrayImage, ImageFormat};

use crate::plain::{by_default, densities, probabilities};
use crate::runner::process;
use crate::{
    assert_close, counting, event, infer, masking, plain_command, read_stack, write_stack,
};

/// The values of a PNG file of 16 bits.
fn read_png(path: &std::path::Path) -> Vec<f32> {
    let DynamicImage::ImageLuma16(image) = image::open(path).expect("an image") else {
        panic!("16 bits");
    };
    let values = image.into_raw().into_iter();
    values.map(|value| f32::from(value) / 65535.0).collect()
}

#[test]
fn pages_that_are_one_window_are_what_the_network_gives() {
    let place = counting(&[]);
    write_stack(&place.path("in.tif"), 7, 23, 31);
    let args = ["--chunk-size", "64", "--batch-size", "3"];
    let run = infer(&place, "model", "in.tif", "new/folder/out.tif", &args).succeeded();
    let plain = densities(&place, by_default(1), "in.tif");
    assert_close(&read_stack(&place.path("new/folder/out.tif")), &plain, 1e-5);
    assert_eq!(event(&run, "file")["window"], serde_json::json!([23, 31]));
    let summary = run.summary();
    assert_eq!(
        (&summary["files"], &summary["windows"]),
        (&1.into(), &7.into())
    );
    assert!(summary["peak_bytes"].as_u64().expect("counted on the host") > 10_000);
    let left: Vec<_> = fs::read_dir(place.path("new/folder"))
        .expect("a folder")
        .collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn pages_that_run_together_are_written_one_after_the_other() {
    let place = counting(&[]);
    // More numbers than are written at once.
    write_stack(&place.path("in.tif"), 5, 150, 170);
    let args = ["--chunk-size", "256", "--batch-size", "4"];
    infer(&place, "model", "in.tif", "out.tif", &args).succeeded();
    let plain = densities(&place, by_default(1), "in.tif");
    assert_close(&read_stack(&place.path("out.tif")), &plain, 1e-5);
}

#[test]
fn pages_larger_than_a_window_are_covered_by_windows() {
    let place = counting(&["--norm", "batch"]);
    write_stack(&place.path("in.tif"), 2, 70, 50);
    for args in [
        [
            "--chunk-size",
            "32",
            "--overlap",
            "0.5",
            "--blend",
            "constant",
        ],
        [
            "--chunk-size",
            "33",
            "--overlap",
            "0",
            "--blend",
            "gaussian",
        ],
    ] {
        let run = infer(&place, "model", "in.tif", "out.tif", &args).succeeded();
        let stack = TiffStack::open_checked(place.path("out.tif")).expect("a stack");
        assert_eq!(
            (stack.num_frames(), stack.height(), stack.width()),
            (2, 70, 50)
        );
        assert!(
            event(&run, "done")["windows_run"]
                .as_u64()
                .expect("a number")
                > 8
        );
        // Far from borders a window sees what the whole image shows.
        let plain = densities(&place, by_default(1).with_norm(NormKind::Batch), "in.tif");
        let values = read_stack(&place.path("out.tif"));
        let largest = plain
            .iter()
            .fold(0_f32, |largest, value| largest.max(value.abs()));
        assert_close(&values, &plain, largest);
    }
}

#[test]
fn an_image_gives_probabilities_of_16_bits_or_as_they_are() {
    let place = masking();
    let input = "model/data/images/00001.png";
    let image = image::open(place.path(input)).expect("an image");
    let plain = probabilities(&place, &image);
    infer(&place, "model", input, "out.png", &[]).succeeded();
    assert_close(&read_png(&place.path("out.png")), &plain, 1.0 / 65535.0);
    infer(&place, "model", input, "out.tif", &[]).succeeded();
    assert_close(&read_stack(&place.path("out.tif")), &plain, 1e-5);
    // Half precision has 11 bits of significand.
    infer(&place, "model", input, "half.tif", &["--precision", "f16"]).succeeded();
    let half = read_stack(&place.path("half.tif"));
    assert_close(&half, &plain, 0.02);
    assert_ne!(half, read_stack(&place.path("out.tif")));
    // A gray image is shown as in training: all three colours alike.
    let gray = DynamicImage::from(GrayImage::from_fn(30, 20, |x, y| {
        image::Luma([(x * y) as u8])
    }));
    gray.save(place.path("gray.png")).expect("an image");
    infer(&place, "model", "gray.png", "gray.tif", &[]).succeeded();
    let plain = probabilities(&place, &gray);
    assert_close(&read_stack(&place.path("gray.tif")), &plain, 1e-5);
}

#[test]
fn a_gray_image_is_counted_in_as_the_stack_of_its_pixels() {
    let place = counting(&[]);
    write_stack(&place.path("in.tif"), 1, 20, 24);
    let pixels: Vec<u16> = read_stack(&place.path("in.tif"))
        .iter()
        .map(|&value| value as u16)
        .collect();
    let image =
        image::ImageBuffer::<image::Luma<u16>, _>::from_raw(24, 20, pixels).expect("an image");
    image.save(place.path("in.png")).expect("an image");
    infer(&place, "model", "in.png", "image.tif", &[]).succeeded();
    infer(&place, "model", "in.tif", "stack.tif", &[]).succeeded();
    assert_eq!(
        read_stack(&place.path("image.tif")),
        read_stack(&place.path("stack.tif"))
    );
}

#[test]
fn a_folder_goes_on_over_files_that_fail_and_does_none_twice() {
    let place = masking();
    let folder = place.path("images");
    fs::create_dir(&folder).expect("a folder");
    for (name, source) in [("a.png", "00000"), ("c.png", "00001"), ("d.png", "00002")] {
        let source = place
            .path("model/data/images")
            .join(format!("{source}.png"));
        fs::copy(source, folder.join(name)).expect("a copy");
    }
    let jpeg = image::open(folder.join("d.png")).expect("an image");
    jpeg.save_with_format(folder.join("e.jpg"), ImageFormat::Jpeg)
        .expect("an image");
    let whole = fs::read(folder.join("c.png")).expect("an image");
    fs::write(folder.join("b.png"), &whole[..whole.len() / 2]).expect("half an image");
    write_stack(&folder.join("f.tif"), 1, 16, 16);

    let words = [
        "2 of the 6 files",
        "b.png: failed",
        "f.tif",
        "1 channel",
        "takes 3",
    ];
    let run = infer(&place, "model", "images", "masks", &[]).failed(1, &words);
    let summary = run.summary();
    assert_eq!(
        (&summary["files"], &summary["failed"]),
        (&4.into(), &2.into())
    );
    let image = image::open(folder.join("c.png")).expect("an image");
    let mask = read_png(&place.path("masks/c.png"));
    assert_close(&mask, &probabilities(&place, &image), 1.0 / 65535.0);

    // What was missing is done, what was finished is not, unless its file has changed.
    fs::write(folder.join("b.png"), &whole).expect("an image");
    fs::remove_file(folder.join("f.tif")).expect("a file");
    fs::copy(folder.join("a.png"), folder.join("d.png")).expect("a copy");
    let run = infer(&place, "model", "images", "masks", &[]).succeeded();
    let summary = run.summary();
    assert_eq!(
        (&summary["files"], &summary["skipped"]),
        (&2.into(), &3.into())
    );
    assert_eq!(read_png(&place.path("masks/b.png")), mask);
    assert_eq!(
        read_png(&place.path("masks/d.png")),
        read_png(&place.path("masks/a.png"))
    );

    // Other settings are another result.
    let args = ["--chunk-size", "16"];
    let run = infer(&place, "model", "images", "masks", &args).succeeded();
    assert!(run.stderr.contains("starting over"), "{}", run.stderr);
    assert_eq!(run.summary()["files"], 5);
}

#[test]
fn people_get_a_table() {
    let place = counting(&[]);
    write_stack(&place.path("in.tif"), 2, 16, 16);
    let [model, input, output] = ["model", "in.tif", "out.tif"].map(|name| place.arg(name));
    let files = ["--model", &model, "--input", &input, "--output", &output];
    let run = process::output(&mut plain_command(&files));
    assert!(run.status.success());
    let [table, said] =
        [run.stdout, run.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(
        table.starts_with("file") && table.contains("16×16"),
        "{table}"
    );
    assert!(
        said.contains("peak memory") && said.contains("2 pages"),
        "{said}"
    );
}

#[cfg(unix)]
#[test]
fn paths_that_are_no_text_are_read_and_written() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let place = counting(&[]);
    let folder = place
        .path("a")
        .with_file_name(OsStr::from_bytes(b"caf\xe9"));
    fs::create_dir(&folder).expect("a folder");
    let input = folder.join(OsStr::from_bytes(b"\xff.tif"));
    write_stack(&input, 2, 20, 20);
    let run = |input: &std::path::Path, output: &std::path::Path| {
        let mut command = crate::command(&["--model", &place.arg("model")]);
        command
            .arg("--input")
            .arg(input)
            .arg("--output")
            .arg(output);
        crate::Run::new(&mut command).succeeded();
    };
    run(&input, &folder.join(OsStr::from_bytes(b"\xfe.tif")));
    run(&folder, &folder.join("results"));
    let written = [b"\xfe.tif", b"\xff.tif"].map(|name| {
        let folder = match name {
            b"\xff.tif" => folder.join("results"),
            _ => folder.clone(),
        };
        read_stack(&folder.join(OsStr::from_bytes(name)))
    });
    assert_eq!(written[0], written[1]);
}
