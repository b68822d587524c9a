//! Clips of objects that move over a background, with known masks.
//!
//! Each object is a blob with a texture of its own that moves with it; the background is
//! textured too, and moves slowly as if the camera did. What an object hides is known,
//! so that a video without the objects can be compared with what a network made up.

use std::{
    f64::consts::TAU,
    path::{Path, PathBuf},
};

use burn::config::Config;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::check_sizes;
use crate::{
    masks::{
        HoleMask,
        shape::{Growth, Moving},
    },
    shuffle::mix,
    video::{FrameError, FrameFolderWriter, FrameFormat, VideoFrame},
};

/// What a generated clip shows.
#[derive(Config, Debug)]
pub struct MovingClipConfig {
    /// Number of frames. The default is `40`.
    #[config(default = 40)]
    pub num_frames: usize,
    /// Height of a frame in pixels. The default is `128`.
    #[config(default = 128)]
    pub height: usize,
    /// Width of a frame in pixels. The default is `128`.
    #[config(default = 128)]
    pub width: usize,
    /// Number of objects, at most 255. The default is `3`.
    #[config(default = 3)]
    pub num_objects: usize,
    /// The share of a frame that each object covers, where none is before it. The default is
    /// `0.05`.
    #[config(default = 0.05)]
    pub object_share: f64,
    /// The fastest movement of an object in pixels a frame, along each axis. The default is
    /// `3.0`.
    #[config(default = 3.0)]
    pub max_speed: f64,
    /// Movement of the background in pixels a frame. The default is `0.5`.
    #[config(default = 0.5)]
    pub camera_speed: f64,
    /// Seed of everything random: the same configuration makes the same clip. The default
    /// is `0`.
    #[config(default = 0)]
    pub seed: u64,
}

/// The folders of a clip on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClipFiles {
    /// The folder of the frames.
    pub frames: PathBuf,
    /// The folder of the masks: PNG, 255 on the objects and 0 elsewhere.
    pub masks: PathBuf,
}

/// A generated clip. Any frame is drawn when it is asked for; none is kept.
///
/// # Example
/// ```
/// use burn_memopt_datasets::synthetic::clip::{MovingClip, MovingClipConfig};
///
/// let clip = MovingClip::new(&MovingClipConfig::new().with_height(32).with_width(48));
/// let (frame, background, mask) = (clip.frame(7), clip.background(7), clip.hole_mask(7));
/// for (at, hole) in mask.values().iter().enumerate() {
///     let pixel = 3 * at..3 * at + 3;
///     assert!(*hole == 1 || frame.pixels[pixel.clone()] == background.pixels[pixel]);
/// }
/// ```
#[derive(Debug, Clone)]
pub struct MovingClip {
    num_frames: usize,
    height: usize,
    width: usize,
    background: Texture,
    /// Rows and columns a frame.
    camera: (f64, f64),
    /// From the back to the front.
    objects: Vec<(Moving, Texture)>,
}

impl MovingClip {
    /// Draws what `config` describes.
    ///
    /// # Panics
    /// If a size is zero, there are more than 255 objects, the share does not lie
    /// between 0 and 1, or a speed is negative or not finite.
    pub fn new(config: &MovingClipConfig) -> Self {
        check(config);
        let (height, width) = (config.height, config.width);
        let mut rng = StdRng::seed_from_u64(config.seed);
        let direction = rng.random_range(0.0..TAU);
        let camera = (libm::sin(direction), libm::cos(direction));
        let background = Texture::new(&mut rng);
        let num_pixels = ((height * width) as f64 * config.object_share).round();
        let objects = (0..config.num_objects).map(|_| {
            let growth = Growth::blob(height, width, &mut rng);
            let stamp = growth.shape(num_pixels.max(1.0) as usize);
            let moving = Moving::new(stamp, height, width, config.max_speed, &mut rng);
            (moving, Texture::new(&mut rng))
        });
        Self {
            num_frames: config.num_frames,
            height,
            width,
            background,
            camera: (
                camera.0 * config.camera_speed,
                camera.1 * config.camera_speed,
            ),
            objects: objects.collect(),
        }
    }

    /// Number of frames.
    pub fn num_frames(&self) -> usize {
        self.num_frames
    }

    /// Frame `index`, objects and all.
    pub fn frame(&self, index: usize) -> VideoFrame {
        let mut frame = self.background(index);
        for (moving, texture) in &self.objects {
            let (top, left) = moving.corner(index);
            for (row, column) in moving.pixels(index) {
                let at = 3 * (row * self.width + column);
                // The texture is fixed to the object.
                let color = texture.color((row - top) as f64, (column - left) as f64);
                frame.pixels[at..at + 3].copy_from_slice(&color);
            }
        }
        frame
    }

    /// Frame `index` as it would be without the objects.
    pub fn background(&self, index: usize) -> VideoFrame {
        let moved = |speed: f64, at: usize| at as f64 + speed * index as f64;
        let places = (0..self.height).flat_map(|row| (0..self.width).map(move |x| (row, x)));
        let colors = places.flat_map(|(row, column)| {
            let (y, x) = (moved(self.camera.0, row), moved(self.camera.1, column));
            self.background.color(y, x)
        });
        VideoFrame {
            index,
            height: self.height,
            width: self.width,
            pixels: colors.collect(),
        }
    }

    /// The foremost object at each pixel of frame `index`, from 1 on; 0 is background.
    ///
    /// # Shapes
    /// - output: `[height, width]`
    pub fn object_ids(&self, index: usize) -> Vec<u8> {
        let mut ids = vec![0; self.height * self.width];
        for (id, (moving, _)) in (1..=u8::MAX).zip(&self.objects) {
            for (row, column) in moving.pixels(index) {
                ids[row * self.width + column] = id;
            }
        }
        ids
    }

    /// The pixels of all objects in frame `index`, as those that are to be filled.
    pub fn hole_mask(&self, index: usize) -> HoleMask {
        let ids = self.object_ids(index).into_iter();
        let values = ids.map(|id| u8::from(id > 0)).collect();
        HoleMask::new(self.height, self.width, values)
    }

    /// Where the content of each pixel of frame `from` is in frame `to`, as the optical flow that a
    /// network should find: how many pixels to the right, and how many down. What is hidden in `to`
    /// moves on all the same.
    ///
    /// # Shapes
    /// - output: `[2, height, width]`
    pub fn flow(&self, from: usize, to: usize) -> Vec<f32> {
        let passed = from as f64 - to as f64;
        let moved = |speed: f64| vec![(speed * passed) as f32; self.height * self.width];
        let (mut down, mut right) = (moved(self.camera.0), moved(self.camera.1));
        for (moving, _) in &self.objects {
            let ((top, left), (next_top, next_left)) = (moving.corner(from), moving.corner(to));
            for (row, column) in moving.pixels(from) {
                let at = row * self.width + column;
                down[at] = next_top as f32 - top as f32;
                right[at] = next_left as f32 - left as f32;
            }
        }
        [right, down].concat()
    }

    /// Writes the frames to `<root>/JPEGImages/<name>` and their masks to
    /// `<root>/Annotations/<name>`, one at a time.
    ///
    /// # Errors
    /// If a folder or a file cannot be written.
    pub fn write(
        &self,
        root: impl AsRef<Path>,
        name: &str,
        format: FrameFormat,
    ) -> Result<ClipFiles, FrameError> {
        let root = root.as_ref();
        let files = ClipFiles {
            frames: root.join("JPEGImages").join(name),
            masks: root.join("Annotations").join(name),
        };
        let frames = FrameFolderWriter::create(&files.frames, format)?;
        let masks = FrameFolderWriter::create(&files.masks, FrameFormat::Png)?;
        for index in 0..self.num_frames {
            frames.write(&self.frame(index))?;
            masks.write_mask(index, &self.hole_mask(index))?;
        }
        Ok(files)
    }
}

/// Generates `num_clips` clips, all as `config` describes and each of a seed of its own.
///
/// # Panics
/// As [`MovingClip::new`].
pub fn generate_clips(config: &MovingClipConfig, num_clips: usize) -> Vec<MovingClip> {
    let clip = |clip: usize| config.clone().with_seed(mix(config.seed, clip as u64));
    (0..num_clips)
        .map(|number| MovingClip::new(&clip(number)))
        .collect()
}

/// Writes the clips of [`generate_clips`] as `clip-0` and so on, so that
/// [`ClipFolder`](crate::video::ClipFolder) opens `root`.
///
/// # Errors
/// If a folder or a file cannot be written.
///
/// # Panics
/// As [`MovingClip::new`].
pub fn write_clips(
    root: impl AsRef<Path>,
    config: &MovingClipConfig,
    num_clips: usize,
    format: FrameFormat,
) -> Result<Vec<ClipFiles>, FrameError> {
    let root = root.as_ref();
    let clips = generate_clips(config, num_clips).into_iter().enumerate();
    clips
        .map(|(number, clip)| clip.write(root, &format!("clip-{number}"), format))
        .collect()
}

fn check(config: &MovingClipConfig) {
    check_sizes(config.num_frames, config.height, config.width);
    let num_objects = config.num_objects;
    assert!(
        num_objects <= 255,
        "num_objects must be at most 255, got {num_objects}"
    );
    let share = config.object_share;
    assert!(
        (0.0..=1.0).contains(&share),
        "object_share must lie between 0 and 1, got {share}"
    );
    for (name, speed) in [
        ("max_speed", config.max_speed),
        ("camera_speed", config.camera_speed),
    ] {
        assert!(
            speed.is_finite() && speed >= 0.0,
            "{name} must be finite and at least 0, got {speed}"
        );
    }
}

/// A smooth pattern without end: a colour, and waves of several lengths over it.
#[derive(Debug, Clone)]
struct Texture {
    color: [f64; 3],
    waves: [Wave; 5],
}

#[derive(Debug, Clone)]
struct Wave {
    /// Radians a row and a column.
    rows: f64,
    columns: f64,
    phase: f64,
    /// Of each colour: mostly bright and dark, as in photographs, from -26 to 26.
    amplitude: [f64; 3],
}

impl Texture {
    /// Draws a pattern.
    fn new(rng: &mut StdRng) -> Self {
        let color = [(); 3].map(|()| rng.random_range(60.0..196.0));
        // Wavelengths in pixels, from edges to shades.
        let waves = [5.0, 8.0, 13.0, 29.0, 61.0].map(|length: f64| {
            let direction = rng.random_range(0.0..TAU);
            let bright = rng.random_range(-20.0..20.0);
            Wave {
                rows: TAU / length * libm::sin(direction),
                columns: TAU / length * libm::cos(direction),
                phase: rng.random_range(0.0..TAU),
                amplitude: [(); 3].map(|()| bright + rng.random_range(-6.0..6.0)),
            }
        });
        Self { color, waves }
    }

    /// Red, green and blue at a place in pixels.
    fn color(&self, y: f64, x: f64) -> [u8; 3] {
        let mut color = self.color;
        for wave in &self.waves {
            let height = libm::sin(wave.rows * y + wave.columns * x + wave.phase);
            for (value, amplitude) in color.iter_mut().zip(wave.amplitude) {
                *value += amplitude * height;
            }
        }
        // The cast saturates.
        color.map(|value| value.round() as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip(seed: u64) -> MovingClip {
        let config = MovingClipConfig::new().with_height(24).with_width(40);
        MovingClip::new(&config.with_seed(seed))
    }

    #[test]
    fn a_seed_makes_a_clip() {
        assert_eq!(clip(3).frame(11), clip(3).frame(11));
        assert_ne!(clip(3).frame(11).pixels, clip(4).frame(11).pixels);
    }

    #[test]
    fn objects_hide_the_background_and_move_over_it() {
        let clip = clip(5);
        let (first, later) = (clip.object_ids(0), clip.object_ids(15));
        assert_ne!(first, later);
        let (frame, background) = (clip.frame(0), clip.background(0));
        let pixels = frame.pixels.chunks(3).zip(background.pixels.chunks(3));
        let mut num_hidden = 0;
        for ((shown, behind), id) in pixels.zip(first) {
            assert!(id > 0 || shown == behind);
            num_hidden += usize::from(shown != behind);
        }
        // The largest object is 5 % of the frame.
        assert!(num_hidden >= 40, "{num_hidden}");
        assert_ne!(background.pixels, clip.background(15).pixels);
    }

    #[test]
    fn content_is_found_where_the_flow_leads() {
        let clip = clip(7);
        let (ids, next) = (clip.object_ids(3), clip.object_ids(4));
        let flow = clip.flow(3, 4);
        let num_pixels = ids.len();
        let mut num_objects = 0;
        for (at, id) in ids.iter().enumerate().filter(|(_, id)| **id > 0) {
            let row = (at / clip.width) as f32 + flow[num_pixels + at];
            let column = (at % clip.width) as f32 + flow[at];
            let there = next[row as usize * clip.width + column as usize];
            // An object may be hidden by one before it.
            assert!(there >= *id);
            num_objects += usize::from(there == *id);
        }
        assert!(num_objects > 0);
        let back = clip.flow(4, 3);
        let background = ids.iter().zip(&next).position(|ids| ids == (&0, &0));
        let at = background.expect("a pixel without objects");
        assert_eq!(back[at], -flow[at]);
        assert!(flow[at].abs() + flow[num_pixels + at].abs() > 0.1);
    }
}
