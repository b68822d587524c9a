//! Sizes of a video on its way: as it is given, as it is completed, and as it is written; integer
//! arithmetic only.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::choices::{InpaintMode, InpaintPreset};
use crate::cli::InpaintArgs;
use crate::settings::UsageError;

/// The networks halve sides three times.
const MULTIPLE: usize = 8;
/// The smallest side: the optical flow compares images at a 64th of their size.
const LEAST_SIDE: usize = 64;

/// Steps from the whole size of a video to nothing.
const STEPS: usize = 20;

/// Height and width in pixels.
pub type Size = [usize; 2];

/// Sizes of one video on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Geometry {
    /// Of a frame as it is given.
    pub source: Size,
    /// Of a frame before it is extended.
    pub frame: Size,
    /// Of a frame as the networks see it.
    pub worked: Size,
    /// Of a frame of the result.
    pub result: Size,
}

impl Geometry {
    /// The sizes that flags ask for.
    ///
    /// # Errors
    /// [`UsageError`] if a side would be too small for the networks.
    pub fn new(args: &InpaintArgs, source: Size) -> Result<Self> {
        let frame = wanted(args, source);
        let this = Self::of_frame(args, source, frame);
        let worked = this.worked;
        if worked.iter().any(|side| *side < LEAST_SIDE) {
            return Err(UsageError(format!(
                "the sides of a video must be at least {LEAST_SIDE} pixels to be completed, got \
                 {}×{} (height × width); give --height and --width, or --resize-ratio",
                worked[0], worked[1],
            ))
            .into());
        }
        Ok(this)
    }

    /// The sizes of a frame that has size `frame` before it is extended.
    fn of_frame(args: &InpaintArgs, source: Size, frame: Size) -> Self {
        let (worked, result) = match args.mode {
            InpaintMode::Inpaint => (frame.map(|side| side / MULTIPLE * MULTIPLE), frame),
            InpaintMode::Outpaint => {
                let scales = [args.scale_h.unwrap_or(1.0), args.scale_w.unwrap_or(1.2)];
                let side = |axis: usize| {
                    let side = scaled(frame[axis], scales[axis]);
                    side.next_multiple_of(MULTIPLE)
                };
                ([side(0), side(1)], [side(0), side(1)])
            }
        };
        Self {
            source,
            frame,
            worked,
            result,
        }
    }

    /// These sizes and, where flags do not give the size, smaller ones in which the networks may see
    /// the video, the largest first. What they complete is pasted into frames of full size; extended
    /// frames come out smaller.
    pub fn ladder(&self, args: &InpaintArgs) -> Vec<Self> {
        let mut sizes = vec![*self];
        let is_given = args.height.is_some() || args.resize_ratio.is_some();
        for step in (1..STEPS).filter(|_| !is_given) {
            let ratio = (STEPS - step) as f64 / STEPS as f64;
            let frame = self.frame.map(|side| scaled(side, ratio));
            let mut smaller = Self::of_frame(args, self.source, frame);
            if smaller.worked.iter().any(|side| *side < LEAST_SIDE) {
                break;
            }
            if args.mode == InpaintMode::Inpaint {
                (smaller.frame, smaller.result) = (self.frame, self.result);
            }
            if sizes.iter().all(|size| size.worked != smaller.worked) {
                sizes.push(smaller);
            }
        }
        sizes
    }

    /// The first row and column of the frame in an extended one.
    pub fn offset(&self) -> Size {
        [0, 1].map(|axis| self.worked[axis].saturating_sub(self.frame[axis]) / 2)
    }

    /// Whether a finished frame has another size than the networks gave it.
    pub fn is_scaled_back(&self) -> bool {
        self.worked != self.result
    }
}

/// Height and width of a frame that flags ask for.
fn wanted(args: &InpaintArgs, source: Size) -> Size {
    if let (Some(height), Some(width)) = (args.height, args.width) {
        return [height as usize, width as usize];
    }
    if let Some(ratio) = args.resize_ratio {
        return source.map(|side| scaled(side, ratio));
    }
    let Some(most) = args.preset.map(largest) else {
        return source;
    };
    // The whole frame in the preset's, none of it larger than it was.
    let shares = [0, 1].map(|axis| most[axis] as f64 / source[axis] as f64);
    let ratio = shares[0].min(shares[1]).min(1.0);
    source.map(|side| scaled(side, ratio))
}

fn scaled(side: usize, factor: f64) -> usize {
    ((side as f64 * factor).round() as usize).max(1)
}

/// Largest frame of a preset.
fn largest(preset: InpaintPreset) -> Size {
    match preset {
        InpaintPreset::Gb4 => [240, 320],
        InpaintPreset::Gb6 => [360, 480],
        InpaintPreset::Gb8 => [480, 640],
        InpaintPreset::Gb12 => [720, 1280],
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command, Program};

    fn geometry(flags: &str, source: Size) -> Result<Geometry> {
        let line = format!("xtask inpaint --video a --mask b --output c --weights d {flags}");
        match Cli::parse_from(line.split_whitespace()).command {
            Command::Program(Program::Inpaint(args)) => Geometry::new(&args, source),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn sides_are_cut_to_multiples_of_eight_and_the_result_keeps_its_own() {
        let plain = geometry("", [480, 854]).unwrap();
        assert_eq!((plain.worked, plain.result), ([480, 848], [480, 854]));
        assert!(plain.is_scaled_back());
        let asked = geometry("--height 240 --width 432", [480, 854]).unwrap();
        assert_eq!((asked.worked, asked.result), ([240, 432], [240, 432]));
        assert!(!asked.is_scaled_back());
        let half = geometry("--resize-ratio 0.5", [480, 854]).unwrap();
        assert_eq!((half.worked, half.result), ([240, 424], [240, 427]));
    }

    #[test]
    fn a_preset_bounds_the_size_and_keeps_the_aspect_ratio() {
        assert_eq!(
            geometry("--preset 6g", [480, 960]).unwrap().frame,
            [240, 480]
        );
        assert_eq!(
            geometry("--preset 12g", [240, 432]).unwrap().frame,
            [240, 432]
        );
        let both = geometry("--preset 12g --resize-ratio 1", [1080, 1920]).unwrap();
        assert_eq!(both.frame, [1080, 1920]);
    }

    #[test]
    fn extended_frames_are_rounded_up_around_the_whole_frame() {
        let wide = geometry("--mode outpaint", [142, 200]).unwrap();
        assert_eq!((wide.frame, wide.worked), ([142, 200], [144, 240]));
        assert_eq!((wide.offset(), wide.is_scaled_back()), ([1, 20], false));
    }

    #[test]
    fn smaller_sizes_keep_the_result_and_end_where_the_networks_do() {
        let whole = geometry("", [480, 854]).unwrap();
        let args = |flags: &str| {
            let line = format!("xtask inpaint --video a --output c --weights d {flags}");
            match Cli::parse_from(line.split_whitespace()).command {
                Command::Program(Program::Inpaint(args)) => args,
                other => panic!("{other:?}"),
            }
        };
        let ladder = whole.ladder(&args("--mask b"));
        assert_eq!(ladder[0], whole);
        assert_eq!(ladder[10].worked, [240, 424]);
        assert!(ladder.iter().all(|size| size.result == [480, 854]));
        assert!(
            ladder
                .windows(2)
                .all(|pair| pair[0].worked > pair[1].worked)
        );
        assert!(ladder[ladder.len() - 1].worked[0] >= LEAST_SIDE);
        assert_eq!(whole.ladder(&args("--mask b --resize-ratio 1")), [whole]);
        let wide = geometry("--mode outpaint", [160, 200]).unwrap();
        let half = wide.ladder(&args("--mode outpaint"))[10];
        assert_eq!(
            (half.frame, half.worked, half.result),
            ([80, 100], [80, 120], [80, 120])
        );
    }

    #[test]
    fn sides_too_small_for_the_networks_are_refused() {
        let error = geometry("--resize-ratio 0.125", [480, 854]).unwrap_err();
        assert!(
            error.is::<UsageError>() && error.to_string().contains("56×104"),
            "{error}"
        );
    }
}
