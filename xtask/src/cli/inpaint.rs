//! Flags of `inpaint`.

use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, Command};

use super::DeviceFlags;
use super::values::{above_zero, amount, at_least};
use crate::choices::{InpaintMode, InpaintPreset};

/// Flags of `inpaint`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Until a video is complete, what is finished is in a folder next to the output, \
    named OUTPUT.part; after an interruption the same command with --resume goes on from there."
)]
pub struct InpaintArgs {
    /// Video to complete: a folder of PNG or JPEG frames, or a file that ffmpeg decodes.
    #[arg(long, value_name = "PATH", help_heading = "Video")]
    #[arg(required_unless_present = "video_dir", conflicts_with = "video_dir")]
    pub video: Option<PathBuf>,
    /// What is missing in the video: a folder of masks, one a frame; one image for all frames; or a
    /// video of masks. A pixel is missing where its mask is not black.
    #[arg(
        long,
        value_name = "PATH",
        help_heading = "Video",
        conflicts_with = "video_dir"
    )]
    pub mask: Option<PathBuf>,
    /// Where the completed video goes: a name that ends in .mp4, .mov, .mkv or .webm, or a folder for
    /// PNG frames and, where ffmpeg is installed, inpainted.mp4. With --video-dir a folder for one MP4
    /// a video. A file keeps the times of the frames, the shape of pixels and the meaning of colours
    /// of the video, and its sound and subtitles where the format takes them.
    #[arg(long, value_name = "PATH", help_heading = "Video")]
    pub output: PathBuf,
    /// Many videos: a folder of video files, or of folders of frames.
    #[arg(long, value_name = "DIR", help_heading = "Video")]
    pub video_dir: Option<PathBuf>,
    /// The masks of --video-dir: for each video a file or folder of its name.
    #[arg(
        long,
        value_name = "DIR",
        help_heading = "Video",
        requires = "video_dir",
        // clap does not require what another flag rules out.
        conflicts_with = "video"
    )]
    pub mask_dir: Option<PathBuf>,
    /// Videos of --video-dir that are completed at the same time. Each takes memory of its own. The
    /// default is 1.
    #[arg(long, value_name = "N", help_heading = "Video", requires = "video_dir")]
    #[arg(value_parser = at_least(1_u64), conflicts_with = "video")]
    pub batch_size: Option<u64>,
    /// Also write the completed frames as PNG files, into a folder named OUTPUT-frames.
    #[arg(long, help_heading = "Video")]
    pub save_frames: bool,
    /// Also write the frames with what is missing painted green, next to the output, named
    /// OUTPUT-masked.
    #[arg(long, help_heading = "Video")]
    pub save_masked_input: bool,
    /// Frames a second of the result, as in 24 or 30000/1001. By default each frame keeps its time;
    /// folders of frames get 24.
    #[arg(long, value_name = "RATE", help_heading = "Video", value_parser = rate)]
    pub save_fps: Option<String>,
    /// Leave out the sound of the video.
    #[arg(long, help_heading = "Video")]
    pub no_audio: bool,
    /// Complete what can be read of a video that is damaged or cut off, and name the frames that are
    /// damaged or missing. Otherwise such a video is refused.
    #[arg(long, help_heading = "Video")]
    pub skip_damaged: bool,

    /// Fill what the masks mark, or extend the frames beyond their borders.
    #[arg(long, value_enum, value_name = "MODE", help_heading = "Result")]
    #[arg(default_value_t)]
    pub mode: InpaintMode,
    /// Height of the result in pixels. The default is that of the video.
    #[arg(
        long,
        value_name = "PIXELS",
        help_heading = "Result",
        requires = "width"
    )]
    #[arg(value_parser = at_least(1_u64))]
    pub height: Option<u64>,
    /// Width of the result in pixels. The default is that of the video.
    #[arg(
        long,
        value_name = "PIXELS",
        help_heading = "Result",
        requires = "height"
    )]
    #[arg(value_parser = at_least(1_u64))]
    pub width: Option<u64>,
    /// Size of the result as a factor of the video's, instead of --height and --width. The default
    /// is 1.
    #[arg(long, value_name = "FACTOR", help_heading = "Result", value_parser = above_zero)]
    #[arg(conflicts_with_all = ["height", "width"])]
    pub resize_ratio: Option<f64>,
    /// Pixels by which what is missing is grown, so that no border shines through. The default is 4.
    #[arg(long, value_name = "PIXELS", help_heading = "Result")]
    pub mask_dilation: Option<u64>,
    /// Height of an extended frame as a factor. The default is 1.0.
    #[arg(long, value_name = "FACTOR", help_heading = "Result", value_parser = at_least_whole)]
    pub scale_h: Option<f64>,
    /// Width of an extended frame as a factor. The default is 1.2.
    #[arg(long, value_name = "FACTOR", help_heading = "Result", value_parser = at_least_whole)]
    pub scale_w: Option<f64>,

    /// The most memory that may be live, weights included, as in 8GiB. What no flag gives is chosen to
    /// keep it, and printed with its reason: precision, the lengths, the stride and, last, the size in
    /// which the video is computed. The default is 80 % of what is free.
    #[arg(long, value_name = "SIZE", help_heading = "Memory", value_parser = amount)]
    #[arg(conflicts_with = "preset")]
    pub budget: Option<String>,
    /// Settings known to fit a GPU of so much memory; flags given as well win. Each bounds the size and
    /// keeps the aspect ratio.
    #[arg(long, value_enum, value_name = "NAME", help_heading = "Memory")]
    pub preset: Option<InpaintPreset>,
    /// Frames that flow completion and image propagation work on at once. The default is 80, and
    /// less where the budget asks for it.
    #[arg(long, value_name = "N", help_heading = "Memory", value_parser = at_least(1_u64))]
    pub subvideo_length: Option<u64>,
    /// Frames that the generator completes at once, at least 2. The default is 10, and less where
    /// the budget asks for it.
    #[arg(long, value_name = "N", help_heading = "Memory")]
    #[arg(value_parser = at_least(2_u64))]
    pub neighbor_length: Option<u64>,
    /// Frames from one reference of the generator to the next. The default is 10, and more where
    /// the budget asks for it.
    #[arg(long, value_name = "N", help_heading = "Memory", value_parser = at_least(1_u64))]
    pub ref_stride: Option<u64>,
    /// Compute flow completion and the generator in half precision. --preset does so where the
    /// device can, --budget on a GPU where it must.
    #[arg(long, help_heading = "Memory")]
    pub fp16: bool,
    /// Iterations of the optical flow. The default is 20.
    #[arg(long, value_name = "N", help_heading = "Memory", value_parser = at_least(1_u64))]
    pub raft_iter: Option<u64>,

    /// Folder of the weights raft-things, recurrent_flow_completion and ProPainter, each .pth or
    /// .safetensors; or `procedural` for made-up ones, which fill with patterns.
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    pub weights: PathBuf,
    /// Where it runs.
    #[command(flatten, next_help_heading = "Run")]
    pub target: DeviceFlags,
    /// Resume what an interrupted run left next to the output.
    #[arg(long, help_heading = "Run")]
    pub resume: bool,
    /// Print one JSON object a line on stdout.
    #[arg(long, help_heading = "Run")]
    pub json: bool,
}

impl InpaintArgs {
    /// Refuses flags of `program` that contradict the mode.
    ///
    /// # Errors
    /// Wrong usage that names the flag.
    pub fn check(&self, mut program: Command) -> Result<(), clap::Error> {
        let mut refuse = |kind, message: &str| Err(program.error(kind, message));
        let has_mask = self.mask.is_some() || self.mask_dir.is_some();
        let has_scale = self.scale_h.is_some() || self.scale_w.is_some();
        match self.mode {
            InpaintMode::Inpaint if !has_mask => refuse(
                ErrorKind::MissingRequiredArgument,
                "--mask says what is to be filled (--mask-dir with --video-dir); to extend the \
                 frames, give --mode outpaint",
            ),
            InpaintMode::Inpaint if has_scale => refuse(
                ErrorKind::ArgumentConflict,
                "--scale-h and --scale-w belong to --mode outpaint; to change the size, give \
                 --resize-ratio",
            ),
            InpaintMode::Outpaint if has_mask || self.mask_dilation.is_some() => refuse(
                ErrorKind::ArgumentConflict,
                "--mode outpaint fills what is around the frames and takes no masks",
            ),
            InpaintMode::Outpaint
                if self.scale_h.unwrap_or(1.0) == 1.0 && self.scale_w == Some(1.0) =>
            {
                refuse(
                    ErrorKind::InvalidValue,
                    "--mode outpaint must extend the frames: give --scale-h or --scale-w above 1",
                )
            }
            _ => Ok(()),
        }
    }
}

/// Reads a factor that makes nothing smaller.
fn at_least_whole(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if (1.0..=16.0).contains(&factor) => Ok(factor),
        _ => Err("must be a number from 1 to 16".into()),
    }
}

/// Checks the form of a frame rate; the program reads it.
fn rate(text: &str) -> Result<String, String> {
    let (above, below) = text.split_once('/').unwrap_or((text, "1"));
    match (above.parse(), below.parse()) {
        (Ok(1_u32..), Ok(1_u32..)) => Ok(text.into()),
        _ => Err("must be a number above 0 as 25 or 30000/1001".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::cli::{self, Cli, Program};

    fn parse(line: &str) -> Result<InpaintArgs, clap::Error> {
        let words = ["xtask", "inpaint"]
            .into_iter()
            .chain(line.split_whitespace());
        match Cli::try_parse_from(words)?.command {
            cli::Command::Program(Program::Inpaint(args)) => {
                args.check(Cli::command()).map(|()| *args)
            }
            other => panic!("{other:?}"),
        }
    }

    const REST: &str = "--output c.mp4 --weights d";

    #[test]
    fn one_video_many_and_extended_ones_are_read() {
        for line in [
            "--video a --mask b",
            "--video-dir a --mask-dir b --batch-size 2",
            "--video a --mode outpaint",
            "--video-dir a --mode outpaint --scale-h 1.5 --scale-w 1.0",
            "--video a --mask b --preset 6g --height 240 --width 432",
            "--video a --mask b --save-fps 30000/1001 --resize-ratio 0.5",
            "--video a --mask b --budget 8GiB --subvideo-length 20",
            "--video a --mask b --no-audio --skip-damaged",
        ] {
            let parsed = parse(&format!("{line} {REST}"));
            assert!(parsed.is_ok(), "{line}: {}", parsed.unwrap_err());
        }
    }

    #[test]
    fn contradictions_and_wrong_values_are_refused() {
        for line in [
            "",
            "--video a",
            "--video a --mask-dir b",
            "--video a --mask b --video-dir c",
            "--video-dir a --mask b",
            "--video a --mask b --batch-size 2",
            "--video a --mask b --scale-w 1.5",
            "--video a --mask b --mode outpaint",
            "--video a --mode outpaint --scale-w 1.0",
            "--video a --mode outpaint --scale-w 0.5",
            "--video a --mask b --height 240",
            "--video a --mask b --height 240 --width 320 --resize-ratio 2",
            "--video a --mask b --resize-ratio 0",
            "--video a --mask b --neighbor-length 1",
            "--video a --mask b --subvideo-length 0",
            "--video a --mask b --save-fps 0",
            "--video a --mask b --save-fps 24/0",
            "--video a --mask b --preset 5g",
            "--video a --mask b --preset 6g --budget 6GiB",
            "--video a --mask b --budget much",
        ] {
            assert!(
                parse(&format!("{line} {REST}")).is_err(),
                "{line} was accepted"
            );
        }
        assert!(parse("--video a --mask b --output c.mp4").is_err());
    }
}
