//! Stacks that grow while they are read.

use std::{
    fs::File,
    io::{Seek, SeekFrom, Write},
    path::PathBuf,
    thread,
    time::Duration,
};

use crate::stacks::{Format, Gray};
use burn_memopt_datasets::tiff::{FollowConfig, FrameSource, TiffStack, TiffStackError};
use rstest::rstest;
use tempfile::TempDir;

const FORMAT: Format = Format {
    big_endian: false,
    big_tiff: false,
};

/// Appends pages as acquisition programs do: a directory, its pixels, then the link to it.
struct Growing {
    _folder: TempDir,
    path: PathBuf,
    file: File,
    link: u64,
    len: u64,
    num_pages: u8,
}

impl Growing {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("live.tif");
        let mut file = File::create(&path).unwrap();
        file.write_all(&FORMAT.header(0)).unwrap();
        Self {
            _folder: folder,
            path,
            file,
            link: 4,
            len: 8,
            num_pages: 0,
        }
    }

    /// The bytes of the next page: its directory, and four pixels.
    fn page(&self) -> Vec<u8> {
        let gray = Gray {
            bits: 8,
            ..Gray::u16(2, 2)
        };
        let directory_len = FORMAT.directory(&gray.tags(0, 0), 0).len() as u64;
        let mut bytes = FORMAT.directory(&gray.tags(self.len + directory_len, 4), 0);
        bytes.extend([self.num_pages; 4]);
        bytes
    }

    fn append(&mut self, bytes: &[u8]) {
        self.file.seek(SeekFrom::Start(self.len)).unwrap();
        self.file.write_all(bytes).unwrap();
    }

    fn link(&mut self, page_len: usize) {
        self.file.seek(SeekFrom::Start(self.link)).unwrap();
        self.file
            .write_all(&(self.len as u32).to_le_bytes())
            .unwrap();
        self.len += page_len as u64;
        self.link = self.len - 8;
        self.num_pages += 1;
    }

    fn write_page(&mut self) {
        let page = self.page();
        self.append(&page);
        self.link(page.len());
    }
}

fn first_pixels(stack: &TiffStack) -> Vec<f32> {
    let frames = (0..stack.num_frames()).map(|index| stack.frame(index).unwrap());
    frames.map(|frame| frame.pixels[0]).collect()
}

/// With some pages only, each is listed; with many, most are a guess.
#[rstest]
#[case::few(2)]
#[case::many(30)]
fn refreshing_finds_the_pages_appended_since(#[case] first: u8) {
    let mut file = Growing::new();
    (0..first).for_each(|_| file.write_page());
    let mut stack = TiffStack::open(&file.path).unwrap();
    let early = stack.page(0).unwrap();
    assert_eq!(stack.refresh().unwrap(), 0);
    (0..3).for_each(|_| file.write_page());
    assert_eq!(stack.num_frames(), usize::from(first));
    assert_eq!(stack.refresh().unwrap(), 3);
    file.write_page();
    assert_eq!(stack.refresh().unwrap(), 1);
    let expected: Vec<_> = (0..first + 4).map(f32::from).collect();
    assert_eq!(first_pixels(&stack), expected);
    assert!(stack.page(usize::from(first) + 3).unwrap().is_mapped());
    assert_eq!(early.bytes(), [0; 4]);
}

#[rstest]
#[case::few(2)]
#[case::many(30)]
fn a_page_is_visible_once_it_is_whole(#[case] first: u8) {
    let mut file = Growing::new();
    (0..first).for_each(|_| file.write_page());
    let mut stack = TiffStack::open(&file.path).unwrap();
    let page = file.page();
    let (link, num_pages) = (file.link, file.num_pages);
    for written in 0..page.len() {
        file.append(&page[..written]);
        file.link(page.len());
        assert_eq!(stack.refresh().unwrap(), 0, "{written} bytes");
        let opened = TiffStack::open_growing(&file.path).unwrap();
        assert_eq!(opened.num_frames(), usize::from(first), "{written} bytes");
        // As if it had not been linked.
        (file.link, file.num_pages) = (link, num_pages);
        file.len -= page.len() as u64;
        file.file.set_len(file.len).unwrap();
    }
    file.write_page();
    assert_eq!(stack.refresh().unwrap(), 1);
}

fn config() -> FollowConfig {
    FollowConfig::new()
        .with_timeout_seconds(1.0)
        .with_poll_seconds(0.01)
}

#[test]
fn following_gives_every_frame_of_a_stack_that_another_thread_writes() {
    let mut file = Growing::new();
    file.write_page();
    let stack = TiffStack::open_growing(&file.path).unwrap();
    let writer = thread::spawn(move || {
        for _ in 0..40 {
            thread::sleep(Duration::from_millis(5));
            file.write_page();
        }
        file
    });
    // The writer may get no turn for long.
    let config = config().with_timeout_seconds(5.0);
    let frames: Vec<_> = stack.follow(&config).map(Result::unwrap).collect();
    let file = writer.join().unwrap();
    assert_eq!(frames.len(), usize::from(file.num_pages));
    for (index, frame) in frames.iter().enumerate() {
        assert_eq!((frame.index, frame.pixels[0]), (index, index as f32));
    }
}

#[test]
fn the_newest_frames_are_held_back_until_the_stack_is_finished() {
    let mut file = Growing::new();
    (0..5).for_each(|_| file.write_page());
    let stack = TiffStack::open_growing(&file.path).unwrap();
    let mut follow = stack.follow(&config().with_safety_buffer(3).with_timeout_seconds(0.0));
    // Two frames are ready at once; the third tells that the stack is finished.
    assert_eq!(follow.next().unwrap().unwrap().index, 0);
    file.write_page();
    assert_eq!(follow.next().unwrap().unwrap().index, 1);
    assert_eq!(follow.stack().num_frames(), 5);
    assert_eq!(follow.next().unwrap().unwrap().index, 2);
    assert_eq!(follow.stack().num_frames(), 6);
    assert_eq!(follow.count(), 3);
}

#[test]
fn a_damaged_last_page_ends_a_followed_stack_with_its_error() {
    let mut file = Growing::new();
    file.write_page();
    let mut page = file.page();
    // Height 0.
    page[2 + 12 + 8] = 0;
    file.append(&page);
    file.link(page.len());
    let stack = TiffStack::open(&file.path);
    assert!(matches!(
        stack,
        Err(TiffStackError::ZeroSized { page: 1, .. })
    ));

    let mut whole = Growing::new();
    whole.write_page();
    let stack = TiffStack::open_growing(&whole.path).unwrap();
    std::fs::copy(&file.path, &whole.path).unwrap();
    let items: Vec<_> = stack.follow(&config().with_timeout_seconds(0.05)).collect();
    assert_eq!(items.len(), 2);
    assert!(items[0].is_ok());
    assert!(matches!(
        items[1],
        Err(TiffStackError::ZeroSized { page: 1, .. })
    ));
}

#[test]
#[should_panic(expected = "timeout_seconds must be finite and at least 0, got -1")]
fn time_does_not_run_backwards() {
    let mut file = Growing::new();
    file.write_page();
    let stack = TiffStack::open(&file.path).unwrap();
    stack.follow(&config().with_timeout_seconds(-1.0));
}
