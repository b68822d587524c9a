use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::schedule::{Schedule, WORDS};
use super::{InpaintConfig, InpaintError};

/// Bytes before the frames.
const HEADER: usize = 8 * (1 + WORDS);

/// Frames that were completed and may be completed once more by the next neighbourhood, the number
/// of that neighbourhood and what it is worked on with: where an interrupted run goes on.
///
/// All are in one file, which is replaced as a whole: a frame that is seen twice is averaged, and
/// must not be averaged again after an interruption.
#[derive(Debug)]
pub(super) struct Finished {
    path: PathBuf,
    area: usize,
    /// Number of the neighbourhood that comes next.
    pub(super) next: usize,
    schedule: Schedule,
    frames: BTreeMap<usize, Vec<u8>>,
}

impl Finished {
    /// What an earlier run left in `root`, for frames of `area` pixels; that of `config` from the
    /// beginning if there was none.
    pub(super) fn open(
        root: &Path,
        area: usize,
        config: &InpaintConfig,
    ) -> Result<Self, InpaintError> {
        let path = root.join("finished");
        let mut finished = Self {
            path,
            area,
            next: 0,
            schedule: Schedule::new(config),
            frames: BTreeMap::new(),
        };
        match fs::read(&finished.path) {
            Ok(bytes) => finished
                .parse(&bytes)
                .map_err(|source| InpaintError::store(&finished.path, source))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(InpaintError::store(&finished.path, error)),
        }
        Ok(finished)
    }

    /// What is worked with.
    pub(super) fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// Begins anew behind what was handed on, with other settings, and keeps that.
    pub(super) fn follow(&mut self, schedule: Schedule) -> Result<(), InpaintError> {
        self.next = 0;
        self.schedule = schedule;
        self.frames.clear();
        self.save()
    }

    /// The pixels of frame `index` so far, `[height, width, 3]`.
    pub(super) fn get(&self, index: usize) -> Option<&[u8]> {
        self.frames.get(&index).map(Vec::as_slice)
    }

    /// Replaces the pixels of frame `index`.
    pub(super) fn put(&mut self, index: usize, pixels: Vec<u8>) {
        self.frames.insert(index, pixels);
    }

    /// Takes the frames before `end`, which nothing changes any more, in rising order.
    pub(super) fn take_before(&mut self, end: usize) -> BTreeMap<usize, Vec<u8>> {
        let later = self.frames.split_off(&end);
        std::mem::replace(&mut self.frames, later)
    }

    /// Keeps the frames, and which neighbourhood comes next.
    pub(super) fn save(&self) -> Result<(), InpaintError> {
        let written = (|| {
            let folder = self.path.parent().unwrap_or(Path::new("."));
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            for word in std::iter::once(self.next).chain(self.schedule.words()) {
                file.write_all(&(word as u64).to_le_bytes())?;
            }
            for (index, pixels) in &self.frames {
                file.write_all(&(*index as u64).to_le_bytes())?;
                file.write_all(pixels)?;
            }
            file.persist(&self.path).map_err(|error| error.error)?;
            io::Result::Ok(())
        })();
        written.map_err(|source| InpaintError::store(&self.path, source))
    }

    fn parse(&mut self, bytes: &[u8]) -> io::Result<()> {
        let frame = 8 + 3 * self.area;
        if bytes.len() < HEADER || !(bytes.len() - HEADER).is_multiple_of(frame) {
            let why = "it is of a video of another size, or was cut off";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let (header, frames) = bytes.split_at(HEADER);
        let (next, schedule) = header.split_at(8);
        self.next = number(next);
        let mut words = [0; WORDS];
        for (word, bytes) in words.iter_mut().zip(schedule.chunks(8)) {
            *word = number(bytes);
        }
        self.schedule = Schedule::of_words(words, &self.schedule.config);
        for frame in frames.chunks(frame) {
            let (index, pixels) = frame.split_at(8);
            self.frames.insert(number(index), pixels.to_vec());
        }
        Ok(())
    }
}

fn number(bytes: &[u8]) -> usize {
    let bytes = bytes.try_into().expect("invariant: eight bytes");
    u64::from_le_bytes(bytes) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_and_place_come_back_together() {
        let root = tempfile::tempdir().unwrap();
        let config = InpaintConfig::default();
        let mut finished = Finished::open(root.path(), 2, &config).unwrap();
        let schedule = Schedule {
            generation: 5,
            ..Schedule::new(&config)
        };
        finished.follow(schedule.clone()).unwrap();
        (0..4).for_each(|index| finished.put(index, vec![index as u8; 6]));
        assert_eq!(finished.take_before(2).len(), 2);
        finished.next = 7;
        finished.save().unwrap();
        let again = Finished::open(root.path(), 2, &config).unwrap();
        assert_eq!((again.next, again.schedule()), (7, &schedule));
        assert_eq!((again.get(1), again.get(3)), (None, Some(&[3; 6][..])));
    }

    #[test]
    fn the_file_of_a_video_of_another_size_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let config = InpaintConfig::default();
        let mut finished = Finished::open(root.path(), 2, &config).unwrap();
        finished.put(0, vec![0; 6]);
        finished.save().unwrap();
        assert!(Finished::open(root.path(), 3, &config).is_err());
    }
}
