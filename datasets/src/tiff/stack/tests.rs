use crate::tiff::{TiffStack, TiffStackWriter, source::reads};

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
    let stack = TiffStack::open(path).unwrap();
    reads::take();
    stack.page(33).unwrap();
    assert_eq!(reads::take().0, 1);
    stack.page(33).unwrap();
    assert_eq!(reads::take().0, 0);
}
