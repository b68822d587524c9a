//! Stacks that are still being written.

use std::{
    thread,
    time::{Duration, Instant},
};

use burn::config::Config;

use super::{
    error::TiffStackError,
    frame::{Frame, FrameSource},
    stack::TiffStack,
};

/// How long to wait for a stack that grows.
#[derive(Config, Debug)]
pub struct FollowConfig {
    /// Seconds without a new frame after which the stack is taken for finished. The default is
    /// `5.0`.
    #[config(default = 5.0)]
    pub timeout_seconds: f64,
    /// Newest frames that are held back while the stack grows: a program may make room for a
    /// frame before it writes the pixels. The default is `20`.
    #[config(default = 20)]
    pub safety_buffer: usize,
    /// Seconds between two looks at the file. The default is `0.2`.
    #[config(default = 0.2)]
    pub poll_seconds: f64,
}

/// Frames of a stack in order, waiting for those that are still to be written.
///
/// Ends when no frame was added for the timeout, after the frames that were held back. A
/// last page that never became whole is left out; one that is damaged is the last item, as an
/// error. After any error the iterator ends.
///
/// Processing a frame may take as long as it likes: time counts only while frames
/// are waited for.
///
/// # Example
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("movie.tif");
/// # use burn_memopt_datasets::tiff::TiffStackWriter;
/// # let mut writer = TiffStackWriter::create(&path, 1, 1)?;
/// # writer.write_frame(&[5u8])?;
/// # writer.finish()?;
/// use burn_memopt_datasets::tiff::{FollowConfig, TiffStack};
///
/// let stack = TiffStack::open_growing(&path)?;
/// let config = FollowConfig::new().with_timeout_seconds(0.1);
/// for frame in stack.follow(&config) {
///     assert_eq!(frame?.pixels, [5.0]);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Follow {
    stack: TiffStack,
    timeout: Duration,
    poll: Duration,
    safety_buffer: usize,
    next: usize,
    /// Why no frame comes any more, once none does.
    ended: bool,
    damage: Option<TiffStackError>,
}

impl TiffStack {
    /// Gives the frames from the first on, and waits for those that another program has still
    /// to write.
    ///
    /// # Panics
    /// If a time is negative or not finite.
    pub fn follow(self, config: &FollowConfig) -> Follow {
        let duration = |name: &str, seconds: f64| {
            Duration::try_from_secs_f64(seconds)
                .unwrap_or_else(|_| panic!("{name} must be finite and at least 0, got {seconds}"))
        };
        Follow {
            stack: self,
            timeout: duration("timeout_seconds", config.timeout_seconds),
            poll: duration("poll_seconds", config.poll_seconds),
            safety_buffer: config.safety_buffer,
            next: 0,
            ended: false,
            damage: None,
        }
    }
}

impl Follow {
    /// The stack as far as it is known.
    pub fn stack(&self) -> &TiffStack {
        &self.stack
    }

    /// Number of frames that may be given out.
    fn num_ready(&self) -> usize {
        let held_back = if self.ended { 0 } else { self.safety_buffer };
        self.stack.num_frames().saturating_sub(held_back)
    }

    /// Waits until a frame is ready or the stack is finished.
    fn wait(&mut self) {
        let mut quiet_since = Instant::now();
        while !self.ended && self.next >= self.num_ready() {
            match self.stack.refresh() {
                Ok(0) => self.damage = None,
                Ok(_) => {
                    self.damage = None;
                    quiet_since = Instant::now();
                    continue;
                }
                // It may be a page that is just being written.
                Err(error) => self.damage = Some(error),
            }
            if quiet_since.elapsed() >= self.timeout {
                self.ended = true;
            } else {
                thread::sleep(self.poll);
            }
        }
    }
}

impl Iterator for Follow {
    type Item = Result<Frame, TiffStackError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.wait();
        if self.next >= self.num_ready() {
            return self.damage.take().map(Err);
        }
        let frame = self.stack.frame(self.next);
        self.next += 1;
        if frame.is_err() {
            self.ended = true;
            self.damage = None;
            self.next = usize::MAX;
        }
        Some(frame)
    }
}
