//! The pipeline with networks so simple that their result is known.

mod clip;
mod fallback;
mod mixing;

use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::Device;
use burn_memopt::chunked::BoxError;
use burn_memopt::memory::Bytes;
use proptest::prelude::*;

use self::clip::{AREA, Clip, Kept};
use self::mixing::Mixing;
use super::*;

fn config() -> impl Strategy<Value = InpaintConfig> {
    let strategy = (2_usize..7, 2_usize..12, 2_usize..8, 1_usize..5, 0_u64..5);
    strategy.prop_map(|(clip, sub, neighbors, stride, cached)| InpaintConfig {
        raft_iter: 3,
        raft_clip: Some(clip),
        subvideo_length: sub,
        neighbor_length: neighbors,
        ref_stride: stride,
        feature_cache: Bytes::new(cached * 3 * 4 * AREA as u64),
    })
}

/// Progress that stops before the piece of work of this number, from 1.
fn stopping_before(stop: Option<usize>) -> impl FnMut(&InpaintProgress) -> ControlFlow<()> {
    let mut pieces = 0;
    move |_| {
        pieces += 1;
        if stop == Some(pieces) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

/// Completes a clip; `stop` is the number of the piece of work before which it stops.
fn run(
    clip: &mut Clip,
    config: &InpaintConfig,
    work: &Path,
    kept: &mut Kept,
    stop: Option<usize>,
) -> (Result<[StageTime; 4], InpaintError>, Mixing) {
    let networks = Mixing::default();
    let mut progress = stopping_before(stop);
    let inpainter = Inpainter::new(&networks, config.clone(), &Device::flex());
    let result = inpainter.run(clip, work, kept, &mut progress);
    (result, networks)
}

fn whole(mut clip: Clip, config: &InpaintConfig) -> Kept {
    let (work, mut kept) = (tempfile::tempdir().unwrap(), Kept::default());
    run(&mut clip, config, work.path(), &mut kept, None)
        .0
        .unwrap();
    kept
}

/// Files in the folders of the stages.
fn stored_frames(work: &Path) -> usize {
    let folders = work.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let files = folders
        .filter(|path| path.is_dir())
        .map(|path| path.read_dir().unwrap().count());
    files.sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn every_frame_comes_once_and_known_pixels_are_untouched(
        num_frames in 1_usize..40, seed in 0_u8..9, config in config(),
    ) {
        let kept = whole(Clip::new(num_frames, seed), &config);
        prop_assert_eq!(kept.0.keys().copied().collect::<Vec<_>>(), Vec::from_iter(0..num_frames));
        let clip = Clip::new(num_frames, seed);
        let mut changed = 0;
        for (&index, pixels) in &kept.0 {
            prop_assert_eq!(pixels.len(), 3 * AREA);
            for (place, pixel) in pixels.iter().enumerate() {
                let is_same = *pixel == clip.pixel(index, place);
                prop_assert!(is_same || clip.hole(index, place / 3) == 1);
                changed += usize::from(!is_same);
            }
        }
        prop_assert!(changed > num_frames);
    }

    #[test]
    fn interrupted_as_often_as_there_is_work_the_frames_are_those_of_one_run(
        num_frames in 1_usize..30, config in config(), most in 1_usize..6,
    ) {
        let expected = whole(Clip::new(num_frames, 1), &config);
        let (work, mut kept) = (tempfile::tempdir().unwrap(), Kept::default());
        let mut runs = 0;
        loop {
            let mut clip = Clip::new(num_frames, 1);
            let stop = Some(most + 1);
            let (result, _) = run(&mut clip, &config, work.path(), &mut kept, stop);
            runs += 1;
            prop_assert!(runs < 500, "a run must get on");
            match result {
                Ok(_) => break,
                Err(InpaintError::Cancelled { done, total }) => {
                    prop_assert_eq!((done, total), (kept.0.len(), num_frames));
                }
                Err(error) => panic!("{error}"),
            }
        }
        prop_assert_eq!(kept, expected);
    }

    #[test]
    fn neither_the_clips_of_the_flow_nor_the_cache_change_the_result(
        num_frames in 1_usize..30, config in config(),
    ) {
        let other = InpaintConfig {
            raft_clip: Some(num_frames + 2),
            feature_cache: Bytes::MAX,
            ..config.clone()
        };
        prop_assert_eq!(whole(Clip::new(num_frames, 2), &config), whole(Clip::new(num_frames, 2), &other));
    }
}

const SHORT: InpaintConfig = InpaintConfig {
    raft_iter: 3,
    raft_clip: None,
    subvideo_length: 6,
    neighbor_length: 4,
    ref_stride: 2,
    feature_cache: Bytes::mib(1),
};

#[test]
fn what_is_computed_and_kept_at_once_does_not_grow_with_the_video() {
    let measure = |num_frames| {
        let (work, mut kept) = (tempfile::tempdir().unwrap(), Kept::default());
        let networks = Mixing::default();
        let mut most = 0;
        let mut progress = |_: &InpaintProgress| {
            most = most.max(stored_frames(work.path()));
            ControlFlow::Continue(())
        };
        let inpainter = Inpainter::new(&networks, SHORT, &Device::flex());
        let mut clip = Clip::new(num_frames, 0);
        inpainter
            .run(&mut clip, work.path(), &mut kept, &mut progress)
            .unwrap();
        assert_eq!(kept.0.len(), num_frames);
        (networks.longest.into_inner(), most)
    };
    let (longest, most) = measure(60);
    // No reference of so short a sub-video lies outside the neighbourhood.
    assert_eq!(longest, [12, 6 + 2 * 5 + 1, 6 + 2 * 10, 5]);
    let (longest_of_more, most_of_more) = measure(120);
    assert_eq!(longest_of_more, longest);
    // Clips of the flow do not end where sub-videos do.
    assert!(most_of_more <= most + 2 * 12, "{most_of_more} after {most}");
    // Of five kinds of frames.
    assert!(most < 4 * 60, "{most}");
}

#[test]
fn stages_that_are_kept_hold_every_frame() {
    let (work, mut kept) = (tempfile::tempdir().unwrap(), Kept::default());
    let networks = Mixing::default();
    let inpainter = Inpainter::new(&networks, SHORT, &Device::flex()).keeping_stages();
    let mut go_on = |_: &InpaintProgress| ControlFlow::Continue(());
    let mut clip = Clip::new(30, 0);
    let times = inpainter
        .run(&mut clip, work.path(), &mut kept, &mut go_on)
        .unwrap();
    assert_eq!(stored_frames(work.path()), 3 * 30 + 2 * 29);
    assert_eq!(times.map(|time| time.finished), [29, 29, 30, 30]);
    assert_eq!(times.map(|time| time.frames), [29, 29, 30, 30]);
}

#[test]
fn frames_finished_before_an_unreadable_one_are_kept_and_it_is_named() {
    let (work, mut kept) = (tempfile::tempdir().unwrap(), Kept::default());
    let mut clip = Clip::new(60, 0);
    clip.broken = Some(50);
    let (result, _) = run(&mut clip, &SHORT, work.path(), &mut kept, None);
    let error = result.unwrap_err();
    assert!(error.to_string().contains("pixels of frame 50"), "{error}");
    assert!(matches!(error, InpaintError::Read { done, .. } if done == kept.0.len() && done > 10));
    let mut repaired = Clip::new(60, 0);
    run(&mut repaired, &SHORT, work.path(), &mut kept, None)
        .0
        .unwrap();
    assert_eq!(kept, whole(Clip::new(60, 0), &SHORT));
}

#[test]
fn flows_that_were_lost_are_computed_again() {
    let (work, mut kept) = (tempfile::tempdir().unwrap(), Kept::default());
    let stop = Some(2);
    let (result, _) = run(&mut Clip::new(30, 0), &SHORT, work.path(), &mut kept, stop);
    assert!(matches!(
        result,
        Err(InpaintError::Cancelled { done: 0, .. })
    ));
    let folder = work.path().join("flows");
    for index in 5..11 {
        std::fs::remove_file(folder.join(format!("{index:06}"))).unwrap();
    }
    run(&mut Clip::new(30, 0), &SHORT, work.path(), &mut kept, None)
        .0
        .unwrap();
    assert_eq!(kept, whole(Clip::new(30, 0), &SHORT));
}

#[test]
fn neighbourhoods_without_a_hole_are_not_generated() {
    let (work, mut kept) = (tempfile::tempdir().unwrap(), Kept::default());
    let mut clip = Clip::new(12, 0);
    clip.without_hole = 12;
    let (result, networks) = run(&mut clip, &SHORT, work.path(), &mut kept, None);
    assert!(result.is_ok());
    assert_eq!(networks.longest.into_inner()[Stage::Generation as usize], 0);
    let same = |index: usize, pixels: &Vec<u8>| {
        pixels
            .iter()
            .enumerate()
            .all(|(place, value)| *value == clip.pixel(index, place))
    };
    assert!(kept.0.iter().all(|(index, pixels)| same(*index, pixels)));
}

#[test]
#[should_panic(expected = "sides must be multiples of 8, got 8×12")]
fn other_sides_are_refused() {
    struct Odd(Clip);
    impl Footage for Odd {
        fn num_frames(&self) -> usize {
            1
        }
        fn size(&self) -> [usize; 2] {
            [8, 12]
        }
        fn frame(&mut self, index: usize) -> Result<Vec<u8>, BoxError> {
            self.0.frame(index)
        }
        fn mask(&mut self, index: usize) -> Result<Vec<u8>, BoxError> {
            self.0.mask(index)
        }
    }
    let networks = Mixing::default();
    let inpainter = Inpainter::new(&networks, SHORT, &Device::flex());
    let mut go_on = |_: &InpaintProgress| ControlFlow::Continue(());
    let mut sink = Kept::default();
    let _ = inpainter.run(
        &mut Odd(Clip::new(1, 0)),
        Path::new("nowhere"),
        &mut sink,
        &mut go_on,
    );
}
