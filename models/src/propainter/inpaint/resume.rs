use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use burn_memopt::clip::FrameWindow;
use burn_memopt::files;
use serde::{Deserialize, Serialize};

use super::{InpaintConfig, InpaintError};

/// First in the file; another version has another one.
const FORMAT: &str = "burn-memopt inpaint 1";

/// Where an interrupted run resumes: the number of the next neighbourhood, what it is worked on
/// with, and the frames that it may complete once more.
///
/// All are in one file, which is replaced as a whole: a frame that is seen twice is averaged, and
/// must not be averaged again after an interruption.
#[derive(Debug)]
pub(super) struct ResumeState {
    path: PathBuf,
    size: [usize; 2],
    /// Number of the neighbourhood that comes next.
    pub(super) next: usize,
    pub(super) schedule: Schedule,
    /// Pixels `[height, width, 3]` by the number of their frame.
    frames: BTreeMap<usize, Vec<u8>>,
}

/// The first line of the file, in JSON; the pixels of its frames follow.
#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    size: [usize; 2],
    next: usize,
    schedule: Schedule,
    frames: Vec<usize>,
}

impl ResumeState {
    /// What an earlier run left in `root`, for frames of height and width `size`; from the beginning
    /// with `config` if there was none.
    pub(super) fn open(
        root: &Path,
        size: [usize; 2],
        config: &InpaintConfig,
    ) -> Result<Self, InpaintError> {
        let mut state = Self {
            path: root.join("finished"),
            size,
            next: 0,
            schedule: Schedule::new(config),
            frames: BTreeMap::new(),
        };
        match fs::read(&state.path) {
            Ok(bytes) => state.read(&bytes, config)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(InpaintError::store(&state.path, error)),
        }
        Ok(state)
    }

    fn read(&mut self, bytes: &[u8], config: &InpaintConfig) -> Result<(), InpaintError> {
        let refused = |why| InpaintError::Resume {
            path: self.path.clone(),
            why,
        };
        // Before there was a format, the file began with binary numbers.
        let line = bytes.iter().position(|&byte| byte == b'\n');
        let (line, pixels) = bytes.split_at(line.map_or(0, |end| end + 1));
        let Ok(header) = serde_json::from_slice::<Header>(line) else {
            return Err(refused("another version of this program wrote it"));
        };
        if header.format != FORMAT {
            return Err(refused("another version of this program wrote it"));
        }
        if header.size != self.size {
            return Err(refused("it is of a video of another size"));
        }
        let len = 3 * self.size.iter().product::<usize>();
        if pixels.len() != header.frames.len() * len {
            return Err(refused("it was cut off"));
        }
        self.next = header.next;
        // What does not change the result is as it is asked for now.
        self.schedule = header.schedule;
        self.schedule.config.raft_iter = config.raft_iter;
        self.schedule.config.feature_cache = config.feature_cache;
        let frames = header.frames.into_iter().zip(pixels.chunks(len));
        self.frames = frames
            .map(|(index, pixels)| (index, pixels.to_vec()))
            .collect();
        Ok(())
    }

    /// Begins after what was handed on, with other settings, and saves that.
    pub(super) fn restart(&mut self, schedule: Schedule) -> Result<(), InpaintError> {
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

    /// Replaces the file.
    pub(super) fn save(&self) -> Result<(), InpaintError> {
        let header = Header {
            format: FORMAT.into(),
            size: self.size,
            next: self.next,
            schedule: self.schedule.clone(),
            frames: self.frames.keys().copied().collect(),
        };
        let written = files::write(&self.path, |file| {
            serde_json::to_writer(&mut *file, &header)?;
            file.write_all(b"\n")?;
            self.frames
                .values()
                .try_for_each(|pixels| file.write_all(pixels))
        });
        written.map_err(|source| InpaintError::store(&self.path, source))
    }
}

/// What a run works with, and from where on: one that fell back to other settings keeps what was
/// finished before.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Schedule {
    pub(super) config: InpaintConfig,
    /// First pair whose flow is computed so.
    pub(super) flow: usize,
    /// First pair whose flow is completed so.
    pub(super) completion: usize,
    /// First frame that is propagated so.
    pub(super) propagation: usize,
    /// First frame that is generated so.
    pub(super) generation: usize,
    /// First frame that may be a reference: those before it are forgotten.
    pub(super) references: usize,
}

impl Schedule {
    /// From the beginning of a video.
    pub(super) fn new(config: &InpaintConfig) -> Self {
        Self {
            config: config.clone(),
            ..Self::default()
        }
    }

    /// The neighbourhoods of a video, without frames that were finished before. Each has two frames
    /// or more, as two have a flow between them.
    pub(super) fn windows(&self, num_frames: usize) -> Vec<FrameWindow> {
        let windows = self.config.windows().windows(num_frames).into_iter();
        let left = windows.filter(|window| window.local.end >= self.generation + 2);
        let cut = left.map(|mut window| {
            window.local.start = window.local.start.max(self.generation);
            window.references.retain(|frame| *frame >= self.references);
            window
        });
        cut.collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_and_place_come_back_together() {
        let root = tempfile::tempdir().unwrap();
        let config = InpaintConfig::default();
        let mut state = ResumeState::open(root.path(), [1, 2], &config).unwrap();
        let schedule = Schedule {
            flow: 3,
            completion: 4,
            generation: 5,
            references: 1,
            ..Schedule::new(&config)
        };
        state.restart(schedule.clone()).unwrap();
        (0..4).for_each(|index| state.put(index, vec![index as u8; 6]));
        assert_eq!(state.take_before(2).len(), 2);
        state.next = 7;
        state.save().unwrap();
        let again = ResumeState::open(root.path(), [1, 2], &config).unwrap();
        assert_eq!((again.next, &again.schedule), (7, &schedule));
        assert_eq!((again.get(1), again.get(3)), (None, Some(&[3; 6][..])));
    }

    #[test]
    fn settings_that_do_not_change_the_result_are_those_of_the_new_run() {
        let root = tempfile::tempdir().unwrap();
        let config = InpaintConfig::default();
        let state = ResumeState::open(root.path(), [1, 2], &config).unwrap();
        state.save().unwrap();
        let less = InpaintConfig {
            subvideo_length: 5,
            feature_cache: burn_memopt::memory::Bytes::ZERO,
            ..config.clone()
        };
        let again = ResumeState::open(root.path(), [1, 2], &less).unwrap();
        let expected = InpaintConfig {
            feature_cache: less.feature_cache,
            ..config
        };
        assert_eq!(again.schedule.config, expected);
    }

    #[test]
    fn a_file_of_another_size_or_version_or_cut_off_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let config = InpaintConfig::default();
        let open = |size| ResumeState::open(root.path(), size, &config);
        let mut state = open([1, 2]).unwrap();
        state.put(0, vec![0; 6]);
        state.save().unwrap();
        let refused = |size, why: &str| {
            let text = open(size).unwrap_err().to_string();
            assert!(text.contains(why), "{text}");
        };
        refused([1, 3], "another size");
        let file = root.path().join("finished");
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
        refused([1, 2], "cut off");
        // Nine words and the place, as they were before there was a format; a newline among them.
        let words = [10_u64, 0, 80, 10, 10, 0, 0, 0, 0, 0];
        fs::write(&file, words.map(u64::to_le_bytes).concat()).unwrap();
        refused([1, 2], "another version");
    }

    proptest! {
        #[test]
        fn neighbourhoods_cover_every_frame_that_is_left_and_no_other(
            num_frames in 2_usize..60, from in 0_usize..60, neighbor_length in 2_usize..12,
            ref_stride in 1_usize..8, references in 0_usize..40,
        ) {
            let from = from.min(num_frames - 2);
            let config = InpaintConfig { neighbor_length, ref_stride, ..InpaintConfig::default() };
            let schedule = Schedule { generation: from, references, ..Schedule::new(&config) };
            let mut end = from;
            for window in schedule.windows(num_frames) {
                prop_assert!(window.local.start >= from && window.local.start <= end);
                prop_assert!(window.local.len() >= 2 && window.local.end >= end);
                prop_assert!(window.references.iter().all(|frame| *frame >= references));
                end = window.local.end;
            }
            prop_assert_eq!(end, num_frames);
        }
    }
}
