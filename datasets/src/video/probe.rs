//! What a video file tells about itself.

use std::{
    fmt,
    io::Read,
    path::Path,
    process::{Command, Stdio},
    str::FromStr,
};

use serde::Deserialize;

use super::{
    error::VideoError,
    program::{Ffmpeg, Running, file_argument},
};

/// Bytes of an answer that are read: a file's notes about itself have no bound.
const ANSWER_LEN: u64 = 1 << 20;

/// Frames a second, as a ratio: 30000/1001 is no decimal number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameRate {
    numerator: u32,
    denominator: u32,
}

impl FrameRate {
    /// `numerator / denominator` frames a second.
    ///
    /// # Panics
    /// If one of them is zero.
    pub fn new(numerator: u32, denominator: u32) -> Self {
        assert!(
            numerator > 0 && denominator > 0,
            "frame rate must be above zero, got {numerator}/{denominator}"
        );
        Self {
            numerator,
            denominator,
        }
    }

    /// Frames a second, rounded.
    pub fn per_second(self) -> f64 {
        f64::from(self.numerator) / f64::from(self.denominator)
    }
}

impl fmt::Display for FrameRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.numerator, self.denominator)
    }
}

impl FromStr for FrameRate {
    type Err = String;

    /// Reads `25` or `30000/1001`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (numerator, denominator) = text.split_once('/').unwrap_or((text, "1"));
        match (numerator.parse(), denominator.parse()) {
            (Ok(numerator @ 1..), Ok(denominator @ 1..)) => Ok(Self {
                numerator,
                denominator,
            }),
            _ => Err(format!(
                "frame rate must be a number above zero as 25 or 30000/1001, got {text}"
            )),
        }
    }
}

/// What a video file tells about itself, before anything is decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoInfo {
    /// Height of a frame in pixels, as it is shown: a turned video counts turned.
    pub height: usize,
    /// Width of a frame in pixels, as it is shown.
    pub width: usize,
    /// Frames a second, on average, where the file tells.
    pub frame_rate: Option<FrameRate>,
    /// Frames that the file declares, where it does. A file that was cut without being
    /// encoded anew declares more than it shows;
    /// [`VideoFile::count_frames`](super::VideoFile::count_frames) counts.
    pub declared_frames: Option<u64>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    streams: Vec<Stream>,
}

#[derive(Deserialize)]
struct Stream {
    width: usize,
    height: usize,
    avg_frame_rate: Option<String>,
    r_frame_rate: Option<String>,
    nb_frames: Option<String>,
    nb_read_frames: Option<String>,
    #[serde(default)]
    side_data_list: Vec<SideData>,
    #[serde(default)]
    tags: Tags,
}

#[derive(Deserialize)]
struct SideData {
    rotation: Option<f64>,
}

#[derive(Deserialize, Default)]
struct Tags {
    rotate: Option<String>,
}

impl Stream {
    /// Whether the frames are shown turned by a quarter, which `ffmpeg` does when it decodes.
    fn is_turned(&self) -> bool {
        // Programs before version 5 tell by a tag, later ones by side data.
        let tag = self.tags.rotate.as_deref().and_then(|tag| tag.parse().ok());
        let side_data = self.side_data_list.iter().find_map(|data| data.rotation);
        let degrees: f64 = side_data.or(tag).unwrap_or(0.0);
        (degrees.rem_euclid(180.0) - 90.0).abs() < 1.0
    }

    fn info(&self) -> VideoInfo {
        let (height, width) = match self.is_turned() {
            true => (self.width, self.height),
            false => (self.height, self.width),
        };
        let rates = [&self.avg_frame_rate, &self.r_frame_rate];
        let mut rates = rates.into_iter().flatten();
        VideoInfo {
            height,
            width,
            frame_rate: rates.find_map(|rate| rate.parse().ok()),
            declared_frames: self.nb_frames.as_deref().and_then(|n| n.parse().ok()),
        }
    }
}

/// Asks for size, rate and declared frames.
pub(super) fn info(path: &Path, ffmpeg: &Ffmpeg) -> Result<VideoInfo, VideoError> {
    Ok(ask(path, &mut ffmpeg.ffprobe())?.info())
}

/// Decodes the whole file and counts.
pub(super) fn count_frames(path: &Path, ffmpeg: &Ffmpeg) -> Result<u64, VideoError> {
    let mut ffprobe = ffmpeg.ffprobe();
    let stream = ask(path, ffprobe.args(["-count_frames", "-threads", "0"]))?;
    let counted = stream.nb_read_frames.as_deref().map(str::parse);
    Ok(counted.and_then(Result::ok).unwrap_or_default())
}

fn ask(path: &Path, ffprobe: &mut Command) -> Result<Stream, VideoError> {
    // `V` is video without cover pictures.
    ffprobe.args(["-select_streams", "V:0", "-show_streams", "-of", "json"]);
    ffprobe.args(["-protocol_whitelist", "file", "-i"]);
    ffprobe.arg(file_argument(path));
    ffprobe.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = Running::start(ffprobe)?;
    let mut json = Vec::new();
    let read = running
        .take_stdout()
        .take(ANSWER_LEN)
        .read_to_end(&mut json);
    let lost = |source| VideoError::Pipe {
        path: path.into(),
        frame: 0,
        source,
    };
    read.map_err(lost)?;
    let end = running.end().map_err(lost)?;
    if !end.status.success() {
        return Err(VideoError::Probe {
            path: path.into(),
            source: end,
        });
    }
    let answer: Answer = serde_json::from_slice(&json).map_err(|source| VideoError::Answer {
        path: path.into(),
        source,
    })?;
    let stream = answer.streams.into_iter().next();
    stream.ok_or_else(|| VideoError::NoVideo { path: path.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::upright("{}", (2, 3))]
    #[case::side_data(r#"{"side_data_list":[{},{"rotation":-90}]}"#, (3, 2))]
    #[case::tag(r#"{"tags":{"rotate":"270"}}"#, (3, 2))]
    #[case::upside_down(r#"{"side_data_list":[{"rotation":180}]}"#, (2, 3))]
    fn a_quarter_turn_swaps_the_sides(#[case] json: &str, #[case] size: (usize, usize)) {
        let mut json: serde_json::Value = serde_json::from_str(json).unwrap();
        json["width"] = 3.into();
        json["height"] = 2.into();
        let info = serde_json::from_value::<Stream>(json).unwrap().info();
        assert_eq!((info.height, info.width), size);
    }

    #[rstest]
    #[case("25", Some("25/1"))]
    #[case("30000/1001", Some("30000/1001"))]
    #[case("0/0", None)]
    #[case("-25", None)]
    fn rates_are_ratios_above_zero(#[case] text: &str, #[case] rate: Option<&str>) {
        let read = text.parse::<FrameRate>().ok();
        assert_eq!(read.map(|rate| rate.to_string()).as_deref(), rate);
    }
}
