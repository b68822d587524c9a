//! A long video costs the memory of a frame. Alone in its program, since the allocations of
//! all threads are counted.

#![cfg(feature = "video")]

#[path = "video/clip.rs"]
mod shared;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

use burn_memopt_datasets::video::{VideoFile, VideoFrame};

use shared::{HEIGHT, WIDTH, encode, has_ffmpeg};

/// Counts bytes in use and their peak.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let in_use = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(in_use, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_thousand_frames_take_no_more_memory_than_a_few() {
    if !has_ffmpeg() {
        return;
    }
    let frame_len = HEIGHT * WIDTH * 3;
    let (_folder, path) = encode(1000);
    let video = VideoFile::open(&path).unwrap();
    let before = IN_USE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let frames = video.frames(0).unwrap().map(Result::unwrap);
    let num_frames = frames.filter(|frame: &VideoFrame| frame.pixels.len() == frame_len);
    assert_eq!(num_frames.count(), 1000);
    let peak = PEAK.load(Ordering::Relaxed) - before;
    // One frame is handed on while none is decoded; what is small, and the harness' own, is within
    // the rest. All of them would be 1,000.
    assert!((frame_len..10 * frame_len).contains(&peak), "{peak} bytes");
}
