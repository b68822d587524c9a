//! Sequences, windows and patches.

use std::{
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use burn::data::dataset::Dataset;
use burn_memopt_datasets::{
    lazy::{Edge, LazyDataset},
    tiff::{
        FramePatches, FrameSource, FrameWindows, Page, TiffSequence, TiffStack, TiffStackError,
        TiffStackWriter, open_frames,
    },
};
use proptest::prelude::*;
use rstest::rstest;
use tempfile::TempDir;

/// Frames of 4×5 pixels, numbered on.
fn write(folder: &TempDir, name: &str, frames: std::ops::Range<u16>) {
    let mut writer = TiffStackWriter::create(folder.path().join(name), 4, 5).unwrap();
    for frame in frames {
        let pixels: Vec<u16> = (0..20).map(|pixel| frame * 100 + pixel).collect();
        writer.write_frame(&pixels).unwrap();
    }
    writer.finish().unwrap();
}

fn stack(num_frames: u16) -> TiffStack {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "stack.tif", 0..num_frames);
    TiffStack::open(folder.path().join("stack.tif")).unwrap()
}

#[test]
fn files_of_a_folder_follow_each_other_as_people_count() {
    let folder = tempfile::tempdir().unwrap();
    // More files than are open at a time, with one page or several.
    let mut start = 0;
    for file in 0..40 {
        let pages = 1 + file % 3;
        let extension = if file % 2 == 0 { "tif" } else { "TIFF" };
        write(
            &folder,
            &format!("cell_{file}.{extension}"),
            start..start + pages,
        );
        start += pages;
    }
    std::fs::write(folder.path().join("notes.txt"), "no frames").unwrap();
    let sequence = TiffSequence::open(folder.path()).unwrap();
    assert_eq!(sequence.paths().count(), 40);
    assert_eq!(sequence.len(), usize::from(start));
    let order = (0..sequence.len()).chain([70, 0, 41, 3]);
    for index in order {
        let frame = sequence.get(index).unwrap();
        assert_eq!(
            (frame.index, frame.pixels[0]),
            (index, index as f32 * 100.0)
        );
    }
    assert_eq!(sequence.item_bytes(7), 80);
    let error = sequence.frame(usize::from(start)).unwrap_err();
    assert!(matches!(error, TiffStackError::FrameOutOfRange { .. }));
}

#[cfg(target_os = "linux")]
#[test]
fn a_sequence_keeps_few_files_open() {
    let folder = tempfile::tempdir().unwrap();
    (0..60).for_each(|file| write(&folder, &format!("{file}.tif"), file..file + 1));
    let sequence = TiffSequence::open(folder.path()).unwrap();
    (0..60).for_each(|index| drop(sequence.frame(index).unwrap()));
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let links = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let ours = links.filter(|link| link.starts_with(folder.path())).count();
    assert_eq!(ours, 16);
}

#[test]
fn a_file_of_another_size_is_named() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "a1.tif", 0..2);
    let mut writer = TiffStackWriter::create(folder.path().join("a2.tif"), 5, 4).unwrap();
    writer.write_frame(&[0u8; 20]).unwrap();
    writer.finish().unwrap();
    let error = TiffSequence::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("a2.tif are 5×4 pixels, those of"), "{error}");
}

#[test]
fn a_folder_without_stacks_and_no_folder_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(
        TiffSequence::open(folder.path()),
        Err(TiffStackError::NoFiles { .. })
    ));
    assert!(matches!(
        TiffSequence::open(folder.path().join("none")),
        Err(TiffStackError::Folder { .. })
    ));
}

#[test]
fn notes_of_several_files_are_said_once() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases/tiff");
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.tif", "b.tif"] {
        std::fs::copy(
            cases.join("white_is_zero_u16.tif"),
            folder.path().join(name),
        )
        .unwrap();
    }
    let sequence = open_frames(folder.path()).unwrap();
    assert_eq!(sequence.path(), folder.path());
    let [note] = sequence.notes() else {
        panic!("{:?}", sequence.notes())
    };
    assert!(note.starts_with("2 files, the first a.tif: "), "{note}");
    let alone = open_frames(folder.path().join("b.tif")).unwrap();
    assert_eq!(alone.path(), folder.path().join("b.tif"));
    assert_eq!(alone.num_frames() * 2, sequence.num_frames());
}

/// Counts how often a frame is decoded.
#[derive(Debug)]
struct Counted {
    stack: TiffStack,
    pages: AtomicUsize,
}

impl FrameSource for Counted {
    fn path(&self) -> &Path {
        self.stack.path()
    }

    fn notes(&self) -> &[String] {
        self.stack.notes()
    }

    fn num_frames(&self) -> usize {
        self.stack.num_frames()
    }

    fn height(&self) -> usize {
        self.stack.height()
    }

    fn width(&self) -> usize {
        self.stack.width()
    }

    fn page(&self, index: usize) -> Result<Page, TiffStackError> {
        self.pages.fetch_add(1, Ordering::Relaxed);
        self.stack.page(index)
    }
}

fn counted(num_frames: u16) -> Counted {
    Counted {
        stack: stack(num_frames),
        pages: AtomicUsize::new(0),
    }
}

fn shown(windows: &FrameWindows<Counted>, index: usize) -> Vec<usize> {
    let window = windows.get(index).unwrap();
    window.frames.iter().map(|frame| frame.index).collect()
}

#[test]
fn windows_read_in_order_decode_every_frame_once() {
    let windows = FrameWindows::new(counted(30), 1, 1);
    assert_eq!((windows.len(), windows.item_bytes(0)), (30, 3 * 80));
    for index in 0..30usize {
        let expected = [index.saturating_sub(1), index, (index + 1).min(29)];
        assert_eq!(shown(&windows, index), expected);
    }
    assert_eq!(windows.source().pages.load(Ordering::Relaxed), 30);
}

#[test]
fn windows_read_by_several_threads_decode_every_frame_about_once() {
    let windows = FrameWindows::new(counted(100), 1, 1);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= 100 {
                        break;
                    }
                    assert_eq!(shown(&windows, index)[1], index);
                }
            });
        }
    });
    let decoded = windows.source().pages.load(Ordering::Relaxed);
    assert!((100..300).contains(&decoded), "{decoded}");
}

#[test]
fn windows_without_an_edge_need_all_their_neighbours() {
    let windows = FrameWindows::new(counted(6), 2, 1).with_edge(Edge::Skip);
    assert_eq!(windows.len(), 3);
    assert_eq!(shown(&windows, 0), [0, 1, 2, 3]);
    assert_eq!(shown(&windows, 2), [2, 3, 4, 5]);
    let none = FrameWindows::new(counted(2), 1, 1).with_edge(Edge::Skip);
    assert_eq!(none.len(), 0);
}

#[test]
fn windows_may_mirror_the_frames_at_the_border() {
    let windows = FrameWindows::new(counted(4), 2, 1).with_edge(Edge::Reflect);
    assert_eq!(shown(&windows, 0), [2, 1, 0, 1]);
    assert_eq!(shown(&windows, 3), [1, 2, 3, 2]);
}

#[test]
#[should_panic(expected = "window must be below 6, got 6")]
fn there_is_no_window_behind_the_last() {
    FrameWindows::new(counted(6), 1, 1).get(6).ok();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn patches_are_parts_of_their_frames_and_a_grid_covers_them(
        height in 1usize..=4, width in 1usize..=5, stride in 1usize..7, random in any::<bool>(), seed in any::<u64>(),
    ) {
        let (stack, frames) = (stack(3), stack(3));
        let patches = match random {
            true => FramePatches::random(stack, height, width, 7, seed),
            false => FramePatches::grid(stack, height, width, stride),
        };
        prop_assert_eq!(patches.item_bytes(0) as usize, height * width * 4);
        let mut seen = [false; 3 * 20];
        for index in 0..patches.len() {
            let patch = patches.get(index).unwrap();
            prop_assert_eq!(patch.frame, index / patches.patches_per_frame());
            prop_assert_eq!(&patch, &patches.get(index).unwrap());
            let frame = frames.frame(patch.frame).unwrap();
            for (at, pixel) in patch.pixels.iter().enumerate() {
                let place = (patch.top + at / width) * 5 + patch.left + at % width;
                prop_assert_eq!(*pixel, frame.pixels[place]);
                seen[patch.frame * 20 + place] = true;
            }
        }
        prop_assert!(random || stride > height.min(width) || seen.iter().all(|&seen| seen));
    }
}

#[test]
fn random_patches_differ_by_seed_and_place() {
    let places = |seed| {
        let patches = FramePatches::random(stack(2), 1, 1, 50, seed);
        let place = |index| {
            patches
                .get(index)
                .map(|patch| (patch.top, patch.left))
                .unwrap()
        };
        (0..100).map(place).collect::<Vec<_>>()
    };
    assert_ne!(places(1), places(2));
    let distinct: std::collections::HashSet<_> = places(1).into_iter().collect();
    assert!(distinct.len() > 15, "{} of 20 places", distinct.len());
}

#[rstest]
#[case::high(5, 1, "height of a patch must lie between 1 and the frame's 4, got 5")]
#[case::empty(1, 0, "width of a patch must lie between 1 and the frame's 5, got 0")]
fn patches_that_do_not_fit_are_refused(
    #[case] height: usize,
    #[case] width: usize,
    #[case] message: &str,
) {
    let built = std::panic::catch_unwind(|| {
        FramePatches::grid(stack(1), height, width, 1);
    });
    let panic = built.unwrap_err();
    assert_eq!(panic.downcast_ref::<String>().unwrap(), message);
}
