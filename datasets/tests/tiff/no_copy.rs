//! Access to a page of a contiguous stack copies nothing.

use crate::allocations;
use burn_memopt_datasets::tiff::{FrameSource, TiffStack};

#[test]
fn pages_of_the_movie_are_views_into_its_map() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/dna-paint/frames.tif"
    );
    let bytes = std::fs::read(path).unwrap();
    let stack = TiffStack::open(path).unwrap();
    let first = stack.page(0).unwrap();
    allocations::take();
    for index in 0..100 {
        // The first time, the page's directory is read: some hundred bytes.
        let page = stack.page(index).unwrap();
        assert!(allocations::take().total < 1024, "page {index}");
        let again = stack.page(index).unwrap();
        let sum: u64 = again
            .as_slice::<u16>()
            .unwrap()
            .iter()
            .map(|&s| u64::from(s))
            .sum();
        assert_eq!(allocations::take().total, 0, "page {index}");

        // Pages are 2048 bytes apart in the file, and so are the views.
        let distance = page.bytes().as_ptr() as usize - first.bytes().as_ptr() as usize;
        assert_eq!(distance, index * 2048);
        assert_eq!(again.bytes().as_ptr(), page.bytes().as_ptr());
        assert_eq!(page.bytes(), &bytes[256 + index * 2048..][..2048]);
        assert!(sum > 0);
    }
    // What a copy would have cost is seen.
    allocations::take();
    assert_eq!(first.to_f32().len(), 1024);
    assert_eq!(allocations::take().total, 4096);
}
