use std::collections::BTreeMap;

use burn_memopt::chunked::BoxError;

use crate::propainter::inpaint::{Footage, FrameSink};

pub(super) const SIDE: usize = 8;
pub(super) const AREA: usize = SIDE * SIDE;

/// A clip made of a seed; its frames can be asked for in rising order only.
pub(super) struct Clip {
    pub(super) num_frames: usize,
    seed: u8,
    /// Frames whose masks are empty.
    pub(super) without_hole: usize,
    asked: [Option<usize>; 2],
    pub(super) broken: Option<usize>,
}

impl Clip {
    pub(super) fn new(num_frames: usize, seed: u8) -> Self {
        Self {
            num_frames,
            seed,
            without_hole: 0,
            asked: [None; 2],
            broken: None,
        }
    }

    pub(super) fn pixel(&self, index: usize, place: usize) -> u8 {
        let mixed = (index * 31 + place * 17 + 7 * self.seed as usize) ^ (place * index);
        (mixed % 251) as u8
    }

    pub(super) fn hole(&self, index: usize, place: usize) -> u8 {
        u8::from(index >= self.without_hole && (place + index).is_multiple_of(5))
    }

    fn ask(&mut self, what: usize, index: usize) -> Result<(), BoxError> {
        assert!(index < self.num_frames);
        assert!(
            self.asked[what].is_none_or(|last| last <= index),
            "frames are read in rising order"
        );
        self.asked[what] = Some(index);
        if self.broken == Some(index) {
            return Err("it is damaged".into());
        }
        Ok(())
    }
}

impl Footage for Clip {
    fn num_frames(&self) -> usize {
        self.num_frames
    }

    fn size(&self) -> [usize; 2] {
        [SIDE; 2]
    }

    fn frame(&mut self, index: usize) -> Result<Vec<u8>, BoxError> {
        self.ask(0, index)?;
        Ok((0..3 * AREA)
            .map(|place| self.pixel(index, place))
            .collect())
    }

    fn mask(&mut self, index: usize) -> Result<Vec<u8>, BoxError> {
        self.ask(1, index)?;
        Ok((0..AREA).map(|place| self.hole(index, place)).collect())
    }
}

/// Finished frames by their number.
#[derive(Default, Debug, PartialEq)]
pub(super) struct Kept(pub(super) BTreeMap<usize, Vec<u8>>);

impl FrameSink for Kept {
    fn write(&mut self, index: usize, pixels: &[u8]) -> Result<(), BoxError> {
        if let Some(earlier) = self.0.insert(index, pixels.to_vec()) {
            assert_eq!(
                earlier, pixels,
                "a frame that comes again has the same pixels"
            );
        }
        Ok(())
    }
}
