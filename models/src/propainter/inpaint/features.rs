use std::collections::VecDeque;

use burn::tensor::Tensor;
use burn_memopt::memory::Bytes;

/// Encoded frames that the next neighbourhoods will want again, bounded in bytes.
#[derive(Debug)]
pub(super) struct Features {
    limit: Bytes,
    bytes: Bytes,
    /// Frames in the order of their last use.
    frames: VecDeque<(usize, Tensor<4>)>,
}

impl Features {
    /// Keeps up to `limit` bytes.
    pub(super) fn new(limit: Bytes) -> Self {
        Self {
            limit,
            bytes: Bytes::new(0),
            frames: VecDeque::new(),
        }
    }

    /// The features of frame `index`, if they are kept.
    pub(super) fn get(&mut self, index: usize) -> Option<Tensor<4>> {
        let place = self.frames.iter().position(|(frame, _)| *frame == index)?;
        let frame = self.frames.remove(place)?;
        let features = frame.1.clone();
        self.frames.push_back(frame);
        Some(features)
    }

    /// Keeps the features of frame `index`; those used longest ago make room.
    pub(super) fn put(&mut self, index: usize, features: Tensor<4>) {
        self.bytes += bytes_of(&features);
        self.frames.push_back((index, features));
        while self.bytes > self.limit {
            let Some((_, features)) = self.frames.pop_front() else {
                break;
            };
            self.bytes -= bytes_of(&features);
        }
    }

    /// Forgets the frames before `index`.
    pub(super) fn release_before(&mut self, index: usize) {
        self.frames.retain(|(frame, _)| *frame >= index);
        self.bytes = self
            .frames
            .iter()
            .map(|(_, features)| bytes_of(features))
            .sum();
    }
}

fn bytes_of(features: &Tensor<4>) -> Bytes {
    let values: usize = features.dims().iter().product();
    Bytes::new((values * features.dtype().size()) as u64)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let frame = || Tensor::<4>::zeros([1, 1, 2, 2], &Device::flex());
        let mut features = Features::new(Bytes::new(32));
        features.put(0, frame());
        features.put(1, frame());
        assert!(features.get(0).is_some());
        features.put(2, frame());
        assert!(features.get(0).is_some() && features.get(1).is_none());
        features.release_before(2);
        assert!(features.get(0).is_none() && features.get(2).is_some());
    }
}
