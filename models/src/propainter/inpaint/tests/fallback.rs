//! Going on with less when memory runs out.

use std::cell::RefCell;

use burn::tensor::Tensor;

use super::clip::SIDE;
use super::*;
use crate::propainter::Flows;

/// Networks that run out of memory with more frames at once than a stage may have.
struct Short {
    inner: Mixing,
    most: [usize; 4],
}

impl Short {
    fn check(&self, stage: Stage, num_frames: usize) {
        if num_frames > self.most[stage as usize] {
            panic!("can't allocate buffer of size: {}", num_frames << 20);
        }
    }
}

impl Networks for Short {
    fn flows(&self, images: Tensor<5>, iterations: usize) -> Flows {
        self.check(Stage::Flow, images.dims()[1]);
        self.inner.flows(images, iterations)
    }

    fn complete(&self, flows: Flows, holes: Tensor<5>) -> Flows {
        self.check(Stage::Completion, holes.dims()[1]);
        self.inner.complete(flows, holes)
    }

    fn propagate(&self, images: Tensor<5>, flows: Flows, holes: Tensor<5>) -> [Tensor<5>; 2] {
        self.check(Stage::Propagation, images.dims()[1]);
        self.inner.propagate(images, flows, holes)
    }

    fn encode(&self, image: Tensor<5>, hole: Tensor<5>, left: Tensor<5>) -> Tensor<4> {
        self.inner.encode(image, hole, left)
    }

    fn generate(
        &self,
        features: Vec<Tensor<4>>,
        flows: Flows,
        holes: Tensor<5>,
        left: Tensor<5>,
    ) -> Tensor<4> {
        self.check(Stage::Generation, features.len());
        self.inner.generate(features, flows, holes, left)
    }
}

/// The least of every ladder.
fn least() -> InpaintConfig {
    InpaintConfig {
        subvideo_length: 5,
        neighbor_length: 2,
        ref_stride: 40,
        ..InpaintConfig::default()
    }
}

fn config(subvideo_length: usize, neighbor_length: usize) -> InpaintConfig {
    InpaintConfig {
        raft_iter: 3,
        subvideo_length,
        neighbor_length,
        feature_cache: Bytes::ZERO,
        ..InpaintConfig::default()
    }
}

/// What a run came to.
struct Outcome {
    result: Result<[StageTime; 4], InpaintError>,
    fallbacks: Vec<Fallback>,
    longest: [usize; 4],
}

/// Completes a clip with as many frames at once as `most` of each stage; `stop` is the number of
/// the piece of work before which it stops.
fn run_short(
    num_frames: usize,
    config: &InpaintConfig,
    most: [usize; 4],
    (work, kept): (&Path, &mut Kept),
    stop: Option<usize>,
) -> Outcome {
    let inner = Mixing::default();
    let networks = Short { inner, most };
    let fallbacks = RefCell::new(Vec::new());
    let tell = |fallback: &Fallback| fallbacks.borrow_mut().push(fallback.clone());
    let mut progress = stopping_before(stop);
    let inpainter = Inpainter::new(&networks, config.clone(), &Device::flex());
    let inpainter = inpainter.with_fallback(least(), &tell);
    let mut clip = Clip::new(num_frames, 4);
    let result = inpainter.run(&mut clip, work, kept, &mut progress);
    Outcome {
        result,
        fallbacks: fallbacks.into_inner(),
        longest: networks.inner.longest.into_inner(),
    }
}

fn steps(fallbacks: &[Fallback]) -> Vec<(Setting, usize, usize)> {
    let step = |fallback: &Fallback| (fallback.setting, fallback.from, fallback.to);
    fallbacks.iter().map(step).collect()
}

/// What every stage needs with the least of all settings, of at most 60 frames.
const LEAST: [usize; 4] = [2, 5 + 10 + 1, 5 + 20, 3 + 1];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn whatever_is_too_much_every_frame_comes_once_and_interruptions_change_nothing(
        num_frames in 1_usize..60, sub in 5_usize..40, neighbors in 2_usize..11,
        more in [0_usize..12, 0..20, 0..20, 0..12], stop in 2_usize..9,
    ) {
        let config = config(sub, neighbors);
        let most: [usize; 4] = std::array::from_fn(|stage| LEAST[stage] + more[stage]);
        let (work, mut kept) = (tempfile::tempdir().unwrap(), Kept::default());
        let outcome = run_short(num_frames, &config, most, (work.path(), &mut kept), None);
        prop_assert!(outcome.result.is_ok(), "{}", outcome.result.unwrap_err());
        prop_assert_eq!(kept.0.keys().copied().collect::<Vec<_>>(), Vec::from_iter(0..num_frames));
        prop_assert!(outcome.longest.iter().zip(most).all(|(longest, most)| *longest <= most));
        let clip = Clip::new(num_frames, 4);
        for (&index, pixels) in &kept.0 {
            for (place, pixel) in pixels.iter().enumerate() {
                let is_same = *pixel == clip.pixel(index, place);
                prop_assert!(is_same || clip.hole(index, place / 3) == 1);
            }
        }

        let (work, mut again) = (tempfile::tempdir().unwrap(), Kept::default());
        let mut fallbacks = Vec::new();
        for runs in 0.. {
            prop_assert!(runs < 500, "a run must get on");
            let place = (work.path(), &mut again);
            let cut = run_short(num_frames, &config, most, place, Some(stop));
            fallbacks.extend(cut.fallbacks);
            match cut.result {
                Ok(_) => break,
                Err(InpaintError::Cancelled { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        prop_assert_eq!(fallbacks, outcome.fallbacks);
        prop_assert_eq!(again, kept);
    }
}

#[test]
fn memory_that_is_short_from_the_beginning_gives_the_frames_of_the_settings_that_fit() {
    let (work, mut kept) = (tempfile::tempdir().unwrap(), Kept::default());
    // Fails at the first two neighbourhoods, before a frame is finished.
    let most = [5, usize::MAX, usize::MAX, 5];
    let place = (work.path(), &mut kept);
    let outcome = run_short(20, &config(20, 8), most, place, None);
    outcome.result.unwrap();
    let wanted = [
        (Setting::RaftClip, 12, 6),
        (Setting::RaftClip, 6, 3),
        (Setting::NeighborLength, 8, 6),
        (Setting::NeighborLength, 6, 4),
        (Setting::NeighborLength, 4, 2),
    ];
    assert_eq!(steps(&outcome.fallbacks), wanted);
    assert_eq!(kept, whole(Clip::new(20, 4), &config(20, 2)));
}

#[test]
fn frames_finished_before_memory_runs_out_stay_as_they_are() {
    let (work, mut kept) = (tempfile::tempdir().unwrap(), Kept::default());
    // The first sub-video reads 20 + 10 frames, the second 10 more.
    let most = [usize::MAX, usize::MAX, 30, usize::MAX];
    let place = (work.path(), &mut kept);
    let outcome = run_short(60, &config(20, 4), most, place, None);
    outcome.result.unwrap();
    assert_eq!(
        steps(&outcome.fallbacks),
        [(Setting::SubvideoLength, 20, 10)]
    );
    let failed = outcome.fallbacks[0].frame;
    assert_eq!(
        (outcome.fallbacks[0].stage, failed),
        (Stage::Propagation, 20)
    );
    let before = whole(Clip::new(60, 4), &config(20, 4));
    // Handed on before the second sub-video was asked for.
    for index in 0..failed - 10 {
        assert_eq!(kept.0[&index], before.0[&index], "frame {index}");
    }
    assert_eq!(kept.0.len(), 60);
}

#[test]
fn when_nothing_is_left_the_error_names_what_was_tried() {
    let (work, mut kept) = (tempfile::tempdir().unwrap(), Kept::default());
    let most = [usize::MAX, usize::MAX, 24, usize::MAX];
    let place = (work.path(), &mut kept);
    let outcome = run_short(60, &config(20, 4), most, place, None);
    let error = outcome.result.unwrap_err();
    assert!(
        matches!(error, InpaintError::OutOfMemory { .. }),
        "{error:?}"
    );
    let text = error.to_string();
    for part in [
        "image propagation runs out of memory at frame",
        "sub-video length 10 instead of 20, sub-video length 5 instead of 10",
        &format!("{} frames before it are finished", kept.0.len()),
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    // With memory again, the rest is completed.
    let enough = [usize::MAX; 4];
    let place = (work.path(), &mut kept);
    let outcome = run_short(60, &config(20, 4), enough, place, None);
    outcome.result.unwrap();
    assert_eq!(kept.0.len(), 60);
}

#[test]
fn without_a_fallback_lack_of_memory_is_an_error() {
    let (work, mut kept) = (tempfile::tempdir().unwrap(), Kept::default());
    let networks = Short {
        inner: Mixing::default(),
        most: [2; 4],
    };
    let inpainter = Inpainter::new(&networks, SHORT, &Device::flex());
    let mut go_on = |_: &InpaintProgress| ControlFlow::Continue(());
    let result = inpainter.run(&mut Clip::new(9, 0), work.path(), &mut kept, &mut go_on);
    let error = result.unwrap_err();
    assert!(matches!(&error, InpaintError::OutOfMemory { tried, .. } if tried.is_empty()));
    assert!(
        error
            .to_string()
            .contains("optical flow runs out of memory at frame 0; 0 frames")
    );
}

#[test]
#[should_panic(expected = "shapes differ")]
fn other_failures_are_no_lack_of_memory() {
    struct Wrong;
    impl Networks for Wrong {
        fn flows(&self, _: Tensor<5>, _: usize) -> Flows {
            panic!("shapes differ")
        }
        fn complete(&self, flows: Flows, _: Tensor<5>) -> Flows {
            flows
        }
        fn propagate(&self, images: Tensor<5>, _: Flows, holes: Tensor<5>) -> [Tensor<5>; 2] {
            [images, holes]
        }
        fn encode(&self, image: Tensor<5>, _: Tensor<5>, _: Tensor<5>) -> Tensor<4> {
            image.reshape([1, 3, SIDE, SIDE])
        }
        fn generate(
            &self,
            mut all: Vec<Tensor<4>>,
            _: Flows,
            _: Tensor<5>,
            _: Tensor<5>,
        ) -> Tensor<4> {
            all.remove(0)
        }
    }
    let (work, mut kept) = (tempfile::tempdir().unwrap(), Kept::default());
    let tell = |_: &Fallback| panic!("nothing to tell");
    let inpainter = Inpainter::new(&Wrong, SHORT, &Device::flex()).with_fallback(least(), &tell);
    let mut go_on = |_: &InpaintProgress| ControlFlow::Continue(());
    let _ = inpainter.run(&mut Clip::new(9, 0), work.path(), &mut kept, &mut go_on);
}
