use crate::{
    shared_file::reads,
    tiff::{FrameSource, TiffStack, TiffStackWriter},
};

/// Reads and bytes that opening a written stack of tiny pages takes.
fn reads_to_open(num_pages: u16) -> (usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.tif");
    let mut writer = TiffStackWriter::create(&path, 1, 2).unwrap();
    for page in 0..num_pages {
        writer.write_frame(&[page, 7]).unwrap();
    }
    writer.finish().unwrap();
    reads::take();
    let stack = TiffStack::open(&path).unwrap();
    let cost = reads::take();
    assert_eq!(stack.num_frames(), usize::from(num_pages));
    let last = usize::from(num_pages) - 1;
    assert_eq!(stack.frame(last).unwrap().pixels, [last as f32, 7.0]);
    cost
}

#[test]
fn opening_a_contiguous_stack_costs_the_same_for_any_number_of_pages() {
    let few = reads_to_open(100);
    assert_eq!(few, reads_to_open(50_000));
    // The header and five directories, each with one read.
    assert_eq!(few.0, 6);
}

#[test]
fn opening_every_layout_of_a_contiguous_movie_reads_no_more_than_that() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/dna-paint/");
    for name in ["frames.tif", "frames_bigtiff_be.tif", "frames_imagej.tif"] {
        reads::take();
        let stack = TiffStack::open(format!("{folder}{name}")).unwrap();
        let (reads, bytes) = reads::take();
        assert_eq!(stack.num_frames(), 100);
        assert!(
            reads == 6 && bytes < 3000,
            "{name}: {reads} reads of {bytes} bytes"
        );
    }
}

#[test]
fn a_directory_is_read_when_its_page_is_first_asked_for_and_never_again() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/dna-paint/frames.tif"
    );
    let bytes = std::fs::read(path).unwrap();
    let stack = TiffStack::from_bytes(bytes).unwrap();
    reads::take();
    stack.page(33).unwrap();
    assert_eq!(reads::take().0, 1);
    stack.page(33).unwrap();
    assert_eq!(reads::take().0, 0);
}

#[test]
fn the_directories_of_mapped_pages_are_compared_and_not_read() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/dna-paint/");
    for name in ["frames.tif", "frames_bigtiff_be.tif"] {
        let stack = TiffStack::open(format!("{folder}{name}")).unwrap();
        reads::take();
        for page in 0..stack.num_frames() {
            assert!(stack.page(page).unwrap().is_mapped());
        }
        assert_eq!(reads::take().0, 0, "{name}");
    }
}

#[test]
fn a_directory_unlike_the_others_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stack.tif");
    let mut writer = TiffStackWriter::create(&path, 1, 2).unwrap();
    for page in 0..20u16 {
        writer.write_frame(&[page, 7]).unwrap();
    }
    writer.finish().unwrap();
    let stack = TiffStack::open(&path).unwrap();
    let place = stack.layout.directory_of_guess(5).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    // The type of its first tag, the width: from 32 bits to 16, which says the same here.
    let kind = place.start as usize + 2 + 2;
    assert_eq!(bytes[kind..kind + 2], [4, 0]);
    bytes[kind] = 3;
    std::fs::write(&path, bytes).unwrap();
    reads::take();
    assert_eq!(stack.frame(5).unwrap().pixels, [5.0, 7.0]);
    assert_eq!(reads::take().0, 1);
}
