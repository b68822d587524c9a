//! Views of solids and their labels, and folders that are refused.

use std::path::{Path, PathBuf};

use burn::data::dataset::Dataset;
use burn_memopt_datasets::{
    lazy::LazyDataset,
    synthetic::solids::{CLASS_NAMES, Solids, SolidsConfig},
    views::{ELEVATIONS, Labels, ViewFolder, ViewItem, ViewLabel},
    with_causes,
};
use image::{Rgba, RgbaImage};
use rstest::rstest;
use tempfile::TempDir;

/// Writes an opaque black image, creating its folder.
fn write(folder: &Path, name: &str, height: u32, width: u32) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let image = RgbaImage::from_pixel(width, height, Rgba([0, 0, 0, 255]));
    image.save(path).unwrap();
}

/// A folder of small square images.
fn folder_of(names: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        write(folder.path(), name, 4, 4);
    }
    folder
}

/// Writes a table and opens the images that it names.
fn open_table(folder: &TempDir, text: &str) -> Result<ViewFolder, String> {
    let table = folder.path().join("table.csv");
    std::fs::write(&table, text).unwrap();
    open(folder, Labels::Table(table))
}

fn open(folder: &TempDir, labels: Labels) -> Result<ViewFolder, String> {
    ViewFolder::open(folder.path(), labels).map_err(|error| with_causes(&error))
}

fn names(views: &ViewFolder) -> Vec<String> {
    views.iter().map(|view| view.unwrap().name).collect()
}

fn label(class: usize, elevation: usize, azimuth: u32) -> Option<ViewLabel> {
    Some(ViewLabel {
        class,
        elevation,
        azimuth,
    })
}

/// Red, green and blue at a row and a column of an item of 32 by 32 pixels.
fn pixel(item: &ViewItem, row: usize, column: usize) -> [f32; 3] {
    [0, 1, 2].map(|channel| item.pixels[(channel * 32 + row) * 32 + column])
}

/// The set of solids with its default sizes.
fn solids() -> (TempDir, Solids) {
    let folder = tempfile::tempdir().unwrap();
    let solids = Solids::new(SolidsConfig::new());
    solids.write(folder.path()).unwrap();
    (folder, solids)
}

#[test]
fn a_rendered_set_opens_with_its_labels() {
    let (folder, solids) = solids();
    let views = open(&folder, Labels::default()).unwrap();
    assert_eq!(views.len(), CLASS_NAMES.len() * ELEVATIONS.len() * 24);
    assert_eq!(views.class_names(), CLASS_NAMES);
    assert_eq!((views.size(), views.num_elevations()), ([32, 32], 4));
    let mut index = 0;
    for class in 0..4 {
        for elevation in 0..4 {
            for azimuth in (0..360).step_by(15) {
                assert_eq!(views.label(index), label(class, elevation, azimuth));
                index += 1;
            }
        }
    }
    // Prism, elevation 1, 45°.
    let item = views.item((2 * 4 + 1) * 24 + 3).unwrap();
    assert_eq!(item.name, "prism_1_045");
    let rendered = solids.render(2, 1, 45.0);
    for (column, row, rendered) in rendered.enumerate_pixels() {
        let expected = rendered.0.map(|value| f32::from(value) / 127.5 - 1.0);
        assert_eq!(pixel(&item, row as usize, column as usize), expected);
    }
}

/// Which channels of a colour are bright: the colour's family.
fn bright([red, green, blue]: [f32; 3]) -> [bool; 3] {
    [red, green, blue].map(|value| value > -0.1)
}

#[rstest]
#[case::red_towards_x(0, [true, false, false])]
#[case::green_towards_y(90, [false, true, false])]
#[case::blue_behind(180, [false, false, true])]
#[case::yellow_opposite_green(270, [true, true, false])]
fn the_side_of_the_box_that_faces_the_camera_has_its_colour(
    #[case] azimuth: u32,
    #[case] expected: [bool; 3],
) {
    let (folder, _) = solids();
    let views = open(&folder, Labels::default()).unwrap();
    let index = (0..views.len()).find(|&index| views.label(index) == label(0, 0, azimuth));
    let item = views.item(index.unwrap()).unwrap();
    assert_eq!(bright(pixel(&item, 16, 16)), expected);
    for corner in [(0, 0), (0, 31), (31, 0), (31, 31)] {
        assert_eq!(pixel(&item, corner.0, corner.1), [1.0; 3]);
    }
}

#[test]
fn another_pattern_finds_other_names() {
    let folder = folder_of(&["az090 el2 car.png", "az005 el0 red car.png"]);
    let labels = Labels::Names("azAZIM elELEV CLASS".into());
    let views = open(&folder, labels).unwrap();
    assert_eq!(views.class_names(), ["car", "red car"]);
    assert_eq!(views.label(0), label(1, 0, 5));
    assert_eq!(views.label(1), label(0, 2, 90));
    assert_eq!(views.num_elevations(), 3);
}

#[test]
fn classes_are_numbered_in_natural_order() {
    let folder = folder_of(&["chair10_0_0.png", "chair9_0_0.png", "bed_0_0.png"]);
    let views = open(&folder, Labels::default()).unwrap();
    assert_eq!(views.class_names(), ["bed", "chair9", "chair10"]);
    assert_eq!(names(&views), ["bed_0_0", "chair9_0_0", "chair10_0_0"]);
    assert_eq!(views.label(2), label(2, 0, 0));
}

#[rstest]
#[case::plain("file,class,elevation,azimuth\nb.png,dog,1,359\nsub/a.png,cat,0,5\n")]
#[case::other_order(
    "Azimuth, note, CLASS ,file,elevation\n359,x,dog,b.png,1\n5,,cat,sub/a.png,0\n"
)]
#[case::as_windows_writes_it(
    "\u{feff}file,class,elevation,azimuth\r\nb.png,dog,1,359\r\nsub/a.png,cat,0,5\r\n,,,\r\n"
)]
fn a_table_labels_the_images_that_it_names(#[case] text: &str) {
    let folder = folder_of(&["b.png", "sub/a.png", "unlisted.png"]);
    let views = open_table(&folder, text).unwrap();
    assert_eq!(names(&views), ["b", "sub/a"]);
    assert_eq!(views.class_names(), ["cat", "dog"]);
    assert_eq!(views.label(0), label(1, 1, 359));
    assert_eq!(views.label(1), label(0, 0, 5));
}

#[test]
fn classes_that_are_numbers_keep_them() {
    let folder = folder_of(&["a.png", "b.png"]);
    let text = "file,class,elevation,azimuth\na.png,1,0,0\nb.png,0,0,0\n";
    let views = open_table(&folder, text).unwrap();
    assert_eq!(views.class_names(), ["0", "1"]);
    assert_eq!(views.label(0), label(1, 0, 0));
}

#[test]
fn plain_images_have_no_labels() {
    let folder = folder_of(&["face10.png", "face9.png"]);
    let views = open(&folder, Labels::None).unwrap();
    assert_eq!(names(&views), ["face9", "face10"]);
    assert_eq!((views.label(0), views.num_elevations()), (None, 0));
    assert!(views.class_names().is_empty());
    assert_eq!(views.split(0.5, 0).unwrap().1.len(), 1);
}

#[test]
fn pixels_come_as_planes_from_minus_one_to_one_over_white() {
    let folder = tempfile::tempdir().unwrap();
    let colors = [
        [255, 0, 51, 255],
        [0, 0, 0, 255],
        [9, 9, 9, 0],
        [0, 0, 0, 51],
    ];
    let image = RgbaImage::from_fn(2, 2, |x, y| Rgba(colors[(2 * y + x) as usize]));
    image.save(folder.path().join("a.png")).unwrap();
    let views = open(&folder, Labels::None).unwrap();
    let item = views.item(0).unwrap();
    let expected = [
        [1.0, -1.0, 1.0, 0.6],
        [-1.0, -1.0, 1.0, 0.6],
        [-0.6, -1.0, 1.0, 0.6],
    ];
    for (value, expected) in item.pixels.iter().zip(expected.as_flattened()) {
        assert!((value - expected).abs() < 1e-6, "{:?}", item.pixels);
    }
    let bytes = (4 * item.pixels.len()) as u64;
    assert!((bytes..bytes + 200).contains(&views.item_bytes(0)));
}

#[test]
fn a_split_holds_out_the_share_and_depends_on_the_seed_alone() {
    let (folder, _) = solids();
    let views = open(&folder, Labels::default()).unwrap();
    let (training, held_out) = views.split(0.1, 3).unwrap();
    assert_eq!((training.len(), held_out.len()), (346, 38));
    let all: Vec<_> = (0..views.len()).map(|index| views.label(index)).collect();
    let labels_of = |part: &ViewFolder| -> Vec<_> {
        let labels = (0..part.len()).map(|index| part.label(index));
        labels.collect()
    };
    let (kept, held) = (labels_of(&training), labels_of(&held_out));
    assert!(
        all.iter()
            .all(|label| kept.contains(label) != held.contains(label))
    );
    assert_eq!(held_out.class_names(), CLASS_NAMES);
    let again = open(&folder, Labels::default()).unwrap();
    assert_eq!(labels_of(&again.split(0.1, 3).unwrap().1), held);
    assert_ne!(labels_of(&again.split(0.1, 4).unwrap().1), held);
    assert_eq!(views.split(0.0, 3).unwrap().1.len(), 0);
}

#[test]
fn a_class_without_training_images_is_refused() {
    let folder = folder_of(&["a_0_0.png", "b_0_0.png", "b_0_5.png"]);
    let views = open(&folder, Labels::default()).unwrap();
    let error = views.split(0.9, 0).unwrap_err().to_string();
    assert!(error.starts_with("all images of the class "), "{error}");
    assert!(
        error.contains("lower the share, pass another seed"),
        "{error}"
    );
}

#[test]
#[should_panic = "share must be at least 0 and below 1, got 1"]
fn a_share_of_everything_is_refused() {
    let folder = folder_of(&["a_0_0.png"]);
    let _ = open(&folder, Labels::default()).unwrap().split(1.0, 0);
}

#[rstest]
#[case::no_columns(
    "file,azimut\na.png,0\n",
    "table.csv lacks the columns class, elevation, azimuth; its first line is \"file,azimut\". Rename or add them"
)]
#[case::semicolons(
    "file;class;elevation;azimuth\n",
    "lacks the columns file, class, elevation, azimuth"
)]
#[case::no_rows(
    "file,class,elevation,azimuth\n",
    "table.csv: the table has no rows; add one"
)]
#[case::duplicate(
    "file,class,elevation,azimuth\na.png,x,0,0\n\n./a.png,x,0,5\n",
    "./a.png, which another line before it names too: remove one"
)]
#[case::duplicate_line(
    "file,class,elevation,azimuth\r\na.png,x,0,0\r\na.png,x,0,5\r\n",
    "table.csv: line 3 names "
)]
#[case::missing_file(
    "file,class,elevation,azimuth\na.png,x,0,0\nz.png,x,0,5",
    "z.png, where there is no image: add it, or remove the row"
)]
#[case::missing_line(
    "file,class,elevation,azimuth\na.png,x,0,0\nz.png,x,0,5",
    "table.csv: line 3 names "
)]
#[case::full_turn(
    "file,class,elevation,azimuth\na.png,x,0,360\n",
    "table.csv: line 2: the azimuth must be a whole number of degrees from 0 to 359, got \"360\""
)]
#[case::negative(
    "file,class,elevation,azimuth\na.png,x,0,-15\n",
    "line 2: the azimuth must be a whole number of degrees from 0 to 359, got \"-15\""
)]
#[case::elevation(
    "file,class,elevation,azimuth\na.png,x,4,0\n",
    "line 2: the elevation must be an index from 0 to 3, got \"4\""
)]
#[case::no_class(
    "file,class,elevation,azimuth\na.png,,0,0\n",
    "line 2: the class must be a word or a number, got \"\""
)]
#[case::gap(
    "file,class,elevation,azimuth\na.png,0,0,0\nb.png,2,0,0\n",
    "class 1 has no image, as the classes of"
)]
#[case::from_one(
    "file,class,elevation,azimuth\na.png,1,0,0\nb.png,2,0,0\n",
    "table.csv are 1, 2: number them from 0 without gaps, or give them names"
)]
#[case::short_row(
    "file,class,elevation,azimuth\na.png,0\n",
    "table.csv: pass a CSV file in UTF-8 with the columns file, class, elevation, azimuth"
)]
fn a_wrong_table_is_refused(#[case] text: &str, #[case] reason: &str) {
    let folder = folder_of(&["a.png", "b.png"]);
    let error = open_table(&folder, text).unwrap_err();
    assert!(error.contains(reason), "{error}");
}

#[test]
fn a_missing_table_is_named() {
    let folder = folder_of(&["a.png"]);
    let labels = Labels::Table(PathBuf::from("nowhere.csv"));
    let error = open(&folder, labels).unwrap_err();
    assert!(
        error.starts_with("cannot read the table of views nowhere.csv"),
        "{error}"
    );
}

#[rstest]
#[case::other_name(
    &["a_0_0.png", "b.png"],
    "b.png does not match the pattern CLASS_ELEV_AZIM, in which ELEV and AZIM are whole numbers: rename the file"
)]
#[case::azimuth(
    &["a_0_360.png"],
    "a_0_360.png: the azimuth must be a whole number of degrees from 0 to 359, got \"360\""
)]
#[case::elevation(
    &["a_4_0.png"],
    "a_4_0.png: the elevation must be an index from 0 to 3, got \"4\""
)]
#[case::gap(&["0_0_0.png", "2_0_0.png"], "class 1 has no image, as the classes of")]
#[case::empty(&[], "contains no image")]
fn wrong_names_are_refused(#[case] names: &[&str], #[case] reason: &str) {
    let error = open(&folder_of(names), Labels::default()).unwrap_err();
    assert!(error.contains(reason), "{error}");
}

#[rstest]
#[case::incomplete("CLASS_AZIM")]
#[case::twice("CLASS_ELEV_AZIM_AZIM")]
#[case::touching("CLASSELEV_AZIM")]
fn a_wrong_pattern_is_refused(#[case] pattern: &str) {
    let folder = folder_of(&["a_0_0.png"]);
    let error = open(&folder, Labels::Names(pattern.into())).unwrap_err();
    let expected = "must contain CLASS, ELEV and AZIM once each, with other characters between";
    assert!(
        error.contains(expected) && error.contains(pattern),
        "{error}"
    );
}

#[test]
fn images_of_two_sizes_are_both_named() {
    let folder = folder_of(&["a.png"]);
    write(folder.path(), "b.png", 5, 5);
    let error = open(&folder, Labels::None).unwrap_err();
    for part in ["a.png is 4×4", "b.png is 5×5: scale all images to one size"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn an_image_that_changes_its_size_after_opening_is_named() {
    let folder = folder_of(&["a.png", "b.png"]);
    let views = open(&folder, Labels::None).unwrap();
    write(folder.path(), "b.png", 5, 5);
    let error = views.item(1).unwrap_err().to_string();
    assert!(error.contains("b.png is 5×5"), "{error}");
}

#[test]
fn images_that_are_not_square_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.png", 4, 6);
    let error = open(&folder, Labels::None).unwrap_err();
    let expected = "a.png is 4×6 pixels (height × width), but views must be square: crop or pad it";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn an_image_that_is_cut_off_is_named_before_anything_is_decoded() {
    let folder = folder_of(&["a.png", "b.png"]);
    let path = folder.path().join("b.png");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 12]).unwrap();
    let error = open(&folder, Labels::None).unwrap_err();
    assert!(
        error.contains("b.png ends before its picture does"),
        "{error}"
    );
}
