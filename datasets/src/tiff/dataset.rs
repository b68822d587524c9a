//! Stacks and sequences as sources and data sets of frames.

use burn::data::dataset::{Dataset, DatasetError};

use super::{
    error::TiffStackError,
    frame::{Frame, FrameSource},
    page::Page,
    sequence::TiffSequence,
    stack::TiffStack,
};
use crate::lazy::LazyDataset;

macro_rules! source_of_frames {
    ($source:ty) => {
        impl FrameSource for $source {
            fn num_frames(&self) -> usize {
                self.num_frames()
            }

            fn height(&self) -> usize {
                self.height()
            }

            fn width(&self) -> usize {
                self.width()
            }

            fn page(&self, index: usize) -> Result<Page, TiffStackError> {
                self.page(index)
            }
        }

        impl Dataset<Frame> for $source {
            fn get(&self, index: usize) -> Result<Frame, DatasetError> {
                check(self, index);
                self.frame(index).map_err(DatasetError::new)
            }

            fn len(&self) -> usize {
                self.num_frames()
            }
        }

        impl LazyDataset<Frame> for $source {
            fn item_bytes(&self, index: usize) -> u64 {
                check(self, index);
                self.frame_bytes()
            }
        }
    };
}

source_of_frames!(TiffStack);
source_of_frames!(TiffSequence);

fn check(source: &impl FrameSource, index: usize) {
    let len = source.num_frames();
    assert!(index < len, "frame must be below {len}, got {index}");
}
