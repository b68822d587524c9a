//! Files as people have them: each gives the values next to it, with the notes it deserves.

use std::path::{Path, PathBuf};

use burn::tensor::f16;
use burn_memopt_datasets::tiff::{FrameSource, TiffStack};
use rstest::rstest;

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cases/tiff")
        .join(name)
}

/// Shape and values of a NumPy file of format 1.0 in C order.
fn read_npy(path: &Path) -> (Vec<usize>, Vec<f32>) {
    let bytes = std::fs::read(path).unwrap();
    let header_len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let (header, data) = bytes[10..].split_at(header_len);
    let header = std::str::from_utf8(header).unwrap();
    let between = |start: &str, end: char| {
        let rest = header.split_once(start).unwrap().1;
        rest.split_once(end).unwrap().0
    };
    assert!(header.contains("'fortran_order': False"));
    let shape = between("'shape': (", ')').split(',').map(str::trim);
    let shape = shape.filter(|n| !n.is_empty()).map(|n| n.parse().unwrap());
    let values = match between("'descr': '", '\'') {
        "|u1" => data.iter().map(|&v| f32::from(v)).collect(),
        "<u2" => numbers(data, |v| f32::from(u16::from_le_bytes(v))),
        "<f2" => numbers(data, |v| f16::from_le_bytes(v).to_f32()),
        "<f4" => numbers(data, f32::from_le_bytes),
        other => panic!("{other}"),
    };
    (shape.collect(), values)
}

fn numbers<const N: usize>(data: &[u8], number: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let (values, rest) = data.as_chunks::<N>();
    assert!(rest.is_empty());
    values.iter().map(|&value| number(value)).collect()
}

fn values(stack: &TiffStack) -> (Vec<usize>, Vec<f32>) {
    let shape = vec![stack.num_frames(), stack.height(), stack.width()];
    let frames = (0..stack.num_frames()).flat_map(|frame| stack.frame(frame).unwrap().pixels);
    (shape, frames.collect())
}

#[rstest]
#[case::byte_counts_zero("byte_counts_zero", "")]
#[case::empty_directory_ends_chain("empty_directory_ends_chain", "pages that are read is 5")]
#[case::fill_order_2("fill_order_2", "")]
#[case::half_floats("half_floats", "")]
#[case::last_count_past_end("last_count_past_end", "")]
#[case::last_link_leads_nowhere("last_link_leads_nowhere", "pages that are read is 5")]
#[case::lzw_before_tiff6("lzw_before_tiff6", "")]
#[case::metamorph_stk("metamorph_stk_12_planes", "")]
#[case::no_byte_counts("no_byte_counts", "")]
#[case::no_photometric("no_photometric", "")]
#[case::one_bit("one_bit", "")]
#[case::one_directory("one_directory_12_planes", "")]
#[case::overviews("overviews_in_chain", "reduced copies or transparency masks")]
#[case::packed_12_bit("packed_12_bit", "")]
#[case::page_unlinked("page_unlinked_from_chain", "")]
#[case::palette("palette_gray_lut", "")]
#[case::predictor_uncompressed("predictor_tag_uncompressed", "")]
#[case::sparse_tile("sparse_tile", "")]
#[case::transparency_mask("transparency_mask_page", "reduced copies or transparency masks")]
#[case::white_is_zero_f32("white_is_zero_f32", "white-is-zero")]
#[case::white_is_zero_u16("white_is_zero_u16", "white-is-zero")]
#[case::zstd("zstd_predictor", "")]
fn a_case_gives_its_values_and_note(#[case] name: &str, #[case] note: &str) {
    let expected = read_npy(&case(&format!("{name}.npy")));
    let path = case(&format!("{name}.tif"));
    for stack in [
        TiffStack::open(&path).unwrap(),
        TiffStack::open_checked(&path).unwrap(),
        TiffStack::from_bytes(std::fs::read(&path).unwrap()).unwrap(),
    ] {
        assert_eq!(values(&stack), expected);
        match (note, stack.notes()) {
            ("", notes) => assert_eq!(notes, [""; 0]),
            (note, [only]) => assert!(only.contains(note), "{only}"),
            (_, notes) => panic!("{notes:?}"),
        }
    }
}
