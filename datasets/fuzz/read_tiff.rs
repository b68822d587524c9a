//! What is done with every input of the TIFF index, by the fuzzer and by the test of its corpus.

use burn_memopt_datasets::tiff::{FrameSource, TiffStack};

/// Opens the bytes as a stack and reads a few pages; an error is fine, a panic is not.
pub fn read(bytes: &[u8]) {
    let Ok(stack) = TiffStack::from_bytes(bytes) else {
        return;
    };
    let last = stack.num_frames() - 1;
    for index in [0, 1, 2, last / 2, last] {
        if let Ok(page) = stack.page(index.min(last)) {
            assert!(page.bytes().len() == page.height() * page.width() * page.sample_type().size());
            let (row, column) = (page.height() - 1, page.width() - 1);
            let corner = page.patch(row..row + 1, column..column + 1);
            assert!(corner.len() == 1);
        }
    }
}
