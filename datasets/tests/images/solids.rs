//! Pictures of solids from all around.

use burn_memopt_datasets::synthetic::solids::{CLASS_NAMES, Solids, SolidsConfig};

#[test]
fn the_camera_sees_y_on_the_right_of_x_and_the_top_above() {
    let solids = Solids::new(SolidsConfig::new());
    let [red, green, _] = solids.render(0, 0, 45.0).get_pixel(23, 16).0;
    assert!(green > red, "y is on the right");
    let [red, green, _] = solids.render(0, 0, 45.0).get_pixel(9, 16).0;
    assert!(red > green, "x is on the left");
    // Orange, seen only from above.
    let is_top = |[red, green, blue]: [u8; 3]| red > 200 && green > 100 && blue < 60;
    assert!(is_top(solids.render(0, 3, 0.0).get_pixel(16, 9).0));
    assert!(!is_top(solids.render(0, 3, 0.0).get_pixel(16, 23).0));
    let level = solids.render(0, 0, 0.0);
    assert!(!level.pixels().any(|pixel| is_top(pixel.0)));
}

#[test]
fn solids_stay_within_the_picture_from_everywhere() {
    let solids = Solids::new(SolidsConfig::new());
    for class in 0..4 {
        for elevation in 0..4 {
            for azimuth in (0..360).step_by(15) {
                let picture = solids.render(class, elevation, f64::from(azimuth));
                let is_white = |column, row| picture.get_pixel(column, row).0 == [255; 3];
                let edges = (0..32).flat_map(|at| [(at, 0), (at, 31), (0, at), (31, at)]);
                for (column, row) in edges {
                    assert!(is_white(column, row), "{class} {elevation} {azimuth}");
                }
                assert!(!is_white(16, 16), "{class} {elevation} {azimuth}");
            }
        }
    }
}

#[test]
fn turning_changes_the_picture_and_a_whole_turn_does_not() {
    let solids = Solids::new(SolidsConfig::new());
    for (class, name) in CLASS_NAMES.iter().enumerate() {
        let pictures: Vec<_> = (0..24u32)
            .map(|turn| solids.render(class, 1, f64::from(15 * turn)))
            .collect();
        for (turn, picture) in pictures.iter().enumerate() {
            let is_new = !pictures[..turn].contains(picture);
            assert!(is_new, "{name} at {}°", 15 * turn);
        }
        assert_eq!(solids.render(class, 1, 360.0), pictures[0]);
        assert_eq!(solids.render(class, 1, -15.0), pictures[23]);
        assert_ne!(solids.render(class, 2, 0.0), pictures[0]);
    }
}

#[test]
#[should_panic = "azimuths must divide 360, got 7"]
fn azimuths_that_are_no_whole_degrees_are_refused() {
    Solids::new(SolidsConfig::new().with_num_azimuths(7));
}

#[test]
#[should_panic = "elevations must be 1 to 4, got 5"]
fn an_elevation_that_does_not_exist_is_refused() {
    Solids::new(SolidsConfig::new().with_num_elevations(5));
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let solids = Solids::new(SolidsConfig::new());
    let error = solids.write(file.path()).unwrap_err().to_string();
    let expected = format!("cannot write {}: check", file.path().display());
    assert!(error.starts_with(&expected), "{error}");
}
