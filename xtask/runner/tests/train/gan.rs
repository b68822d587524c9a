//! `train gan`: what differs from `train unet`.

use std::fs;
use std::path::Path;

use burn::tensor::Device;
use burn_memopt_datasets::synthetic::solids::{Solids, SolidsConfig};
use burn_memopt_models::gan::{Camera, Patch, RadianceFieldConfig};
use burn_memopt_models::weights::StateDict;
use rstest::rstest;

use crate::runner::{Run, Workplace, files_in};

fn metric(run: &Run, name: &str) -> f64 {
    let metrics = &run.summary()["metrics"];
    metrics[name]
        .as_f64()
        .unwrap_or_else(|| panic!("{name} in {metrics}"))
}

fn write_solids(folder: &Path, size: usize) {
    fs::create_dir_all(folder).expect("a folder");
    let config = SolidsConfig::new()
        .with_image_size(size)
        .with_num_azimuths(4);
    Solids::new(config).write(folder).expect("images");
}

#[test]
fn a_run_leaves_measures_pictures_and_published_weights() {
    let place = Workplace::of("gan");
    let run = place.train("a", &["--steps", "2"]).succeeded();
    for name in [
        "kernel_distance",
        "kernel_distance_before",
        "frechet_distance",
    ] {
        assert!(metric(&run, name).is_finite(), "{name}");
    }
    assert!((0.0..=1.0).contains(&metric(&run, "class_accuracy")));
    assert!((0.0..=180.0).contains(&metric(&run, "turn_error_degrees")));
    assert!(metric(&run, "judge_accuracy") > 0.5);
    let samples = files_in(&place.path("a").join("samples"));
    assert!(samples.len() >= 2, "{:?}", samples.keys());
    let field = RadianceFieldConfig::conditional(4).with_shape_code(128);
    let field = field
        .with_depth(2)
        .with_width(8)
        .with_position_frequencies(6);
    let weights = place.path("a").join("weights/field.safetensors");
    field
        .init(&Device::flex())
        .load_safetensors(weights)
        .expect("the field");

    // Another field starts from it; a discriminator's weights are no field's.
    let weights = |name: &str| place.arg(&format!("a/weights/{name}.safetensors"));
    place
        .train("b", &["--steps", "1", "--weights", &weights("field")])
        .succeeded();
    let refused = place.train(
        "c",
        &["--steps", "1", "--weights", &weights("discriminator")],
    );
    refused.failed(1, &["pts_linears.0.weight"]);
    assert!(!place.path("c").exists());
}

#[rstest]
#[case::in_f32("")]
#[case::half_in_chunks_without_super_resolution(
    "--fp16 --ray-chunk 500 --no-ccsr --accumulation-steps 2"
)]
#[case::without_labels("--unlabelled")]
fn a_resumed_run_gives_the_losses_and_weights_of_an_uninterrupted_one(#[case] flags: &str) {
    let place = Workplace::of("gan");
    let flags: Vec<_> = flags.split_whitespace().collect();
    let with = |steps| [&flags[..], &["--steps", steps]].concat();
    let whole = place.train("whole", &with("3")).succeeded();
    let first = place.train("parts", &with("1")).succeeded();
    let second = place.resume("parts", &["--steps", "3"]).succeeded();
    let mut losses = first.losses();
    losses.extend(second.losses());
    assert_eq!(losses, whole.losses());
    assert_eq!(second.summary()["metrics"], whole.summary()["metrics"]);
    let pictures = |name: &str| {
        let samples = files_in(&place.path(name).join("samples")).into_iter();
        let is_picture = |path: &Path| path.extension().is_some_and(|extension| extension == "png");
        let pictures = samples.filter(|(path, _)| is_picture(path));
        pictures.map(|(_, content)| content).collect::<Vec<_>>()
    };
    assert_eq!(pictures("whole").len(), 2);
    assert!(pictures("whole") == pictures("parts"));
}

#[test]
fn images_with_a_table_are_learned_from_and_evaluated_where_they_are_now() {
    let place = Workplace::of("gan");
    let images = place.path("images");
    write_solids(&images, 40);
    let names = files_in(&images);
    let mut table = String::from("file,class,elevation,azimuth\n");
    for path in names.keys() {
        let name = path.file_name().expect("a name").to_string_lossy();
        let parts: Vec<&str> = name.trim_end_matches(".png").split('_').collect();
        table += &format!("{name},{},{},{}\n", parts[0], parts[1], parts[2]);
    }
    let file = place.path("views.csv");
    fs::write(&file, &table).expect("a table");
    let [data, table_arg] = [place.arg("images"), place.arg("views.csv")];
    let run = place
        .train(
            "a",
            &["--steps", "1", "--data", &data, "--table", &table_arg],
        )
        .succeeded();
    assert!(metric(&run, "judge_accuracy") > 0.0);

    let broken = table.replace("azimuth", "angle");
    fs::write(&file, broken).expect("a table");
    let refused = place.train(
        "b",
        &["--steps", "1", "--data", &data, "--table", &table_arg],
    );
    refused.failed(1, &["azimuth"]);
    fs::write(&file, table.replacen(",0,000", ",0,400", 1)).expect("a table");
    let refused = place.train(
        "b",
        &["--steps", "1", "--data", &data, "--table", &table_arg],
    );
    refused.failed(1, &["400"]);
    assert!(!place.path("b").exists());
}

#[rstest]
#[case::patch_larger_than_the_images("--patch-size 64", "32")]
#[case::planes_in_the_wrong_order("--near 3 --far 2", "--far")]
#[case::odd_width("--field-width 9", "even")]
#[case::recomputation_of_blocks("--grad-checkpoint block", "--ray-chunk")]
#[case::wide_angle("--field-of-view 180", "below 180")]
fn what_does_not_fit_is_refused_by_name(#[case] flags: &str, #[case] message: &str) {
    let place = Workplace::of("gan");
    let flags: Vec<_> = flags.split_whitespace().collect();
    place.train("a", &flags).failed(2, &[message]);
}

/// The data set and the models have no crate in common that could hold one camera for both.
#[test]
fn the_camera_of_the_generated_images_is_that_of_the_renderer() {
    let device = Device::flex();
    let camera = Camera::new([33, 33]);
    let pose = camera.pose(90.0 / 360.0, 0.4);
    let rays = camera.rays(&[pose], &[Patch::whole(33)], &device);
    let read =
        |tensor: burn::tensor::Tensor<3>| tensor.into_data().iter::<f64>().collect::<Vec<_>>();
    let (origins, directions) = (read(rays.origins), read(rays.directions));
    // The ray of the pixel next to the middle passes close to the centre; a solid is seen there, and not at a corner.
    let middle = 3 * (16 * 33 + 16);
    let (origin, direction) = (
        &origins[middle..middle + 3],
        &directions[middle..middle + 3],
    );
    let along: f64 = -origin
        .iter()
        .zip(direction)
        .map(|(o, d)| o * d)
        .sum::<f64>();
    let squared: f64 = direction.iter().map(|d| d * d).sum();
    let off: f64 = origin
        .iter()
        .zip(direction)
        .map(|(o, d)| (o + d * along / squared).powi(2))
        .sum();
    assert!(off.sqrt() < 0.05, "{off}");
    assert!(origin[1] > 2.0 && origin[2] > 0.0, "{origin:?}");
    let image = Solids::new(SolidsConfig::new().with_image_size(33)).render(0, 1, 90.0);
    assert_ne!(image.get_pixel(16, 16).0, [255; 3]);
    assert_eq!(image.get_pixel(0, 0).0, [255; 3]);
}
