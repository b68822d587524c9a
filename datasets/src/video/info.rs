//! What a video file says about itself, by `ffprobe`.

use std::{
    collections::HashMap,
    io::Read,
    path::Path,
    process::{Command, Stdio},
};

use serde::Deserialize;

use super::{
    color::Color,
    damage,
    error::VideoError,
    program::{Ffmpeg, Running, file_argument},
    times::{FrameRate, ratio},
    tracks::{Track, TrackKind},
};

/// Bytes of a description that are read: a file's metadata has no bound.
const DESCRIPTION_LEN: u64 = 1 << 20;

/// Which rows of an interlaced frame come first in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldOrder {
    /// Rows 0, 2, 4 and so on.
    TopFirst,
    /// Rows 1, 3, 5 and so on.
    BottomFirst,
}

/// What a video file says about itself, before anything is decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VideoInfo {
    /// Height of a frame in pixels, as it is shown: a turned video counts turned.
    pub height: usize,
    /// Width of a frame in pixels, as it is shown.
    pub width: usize,
    /// Frames a second, on average, where the file says.
    pub frame_rate: Option<FrameRate>,
    /// Frames that the file declares, where it does. A file that was cut without being
    /// encoded again declares more than it shows;
    /// [`VideoFile::count_frames`](super::VideoFile::count_frames) counts.
    pub declared_frames: Option<u64>,
    /// Width to height of a pixel as it is shown, such as `(16, 11)`, where the file says.
    pub pixel_aspect: Option<(u32, u32)>,
    /// How samples are stored, in ffmpeg's words, such as `yuv420p`.
    pub pixel_format: String,
    /// What the samples mean.
    pub color: Color,
    /// The order of the fields where the video is interlaced.
    pub field_order: Option<FieldOrder>,
    /// Sound, subtitles, and what else is in the file.
    pub tracks: Vec<Track>,
}

/// A video file as it is described by `ffprobe`.
#[derive(Debug, Clone, Default)]
pub(super) struct Description {
    pub(super) info: VideoInfo,
    /// Names of the container in ffmpeg's words, such as `matroska,webm`.
    pub(super) format: String,
    /// Name of the codec in ffmpeg's words.
    pub(super) codec: String,
    /// Number of the video among all streams of the file.
    pub(super) stream: usize,
    /// Seconds of a unit of the video's times, as a ratio.
    pub(super) time_base: (u32, u32),
    /// Seconds at which the first stream of the file starts.
    pub(super) start: f64,
    /// Seconds that the container says it lasts.
    pub(super) duration: Option<f64>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    streams: Vec<Stream>,
    #[serde(default)]
    format: Format,
}

#[derive(Deserialize, Default)]
struct Format {
    #[serde(default)]
    format_name: String,
    start_time: Option<String>,
    duration: Option<String>,
}

#[derive(Deserialize)]
struct Stream {
    index: usize,
    #[serde(default)]
    codec_type: String,
    #[serde(default)]
    codec_name: String,
    #[serde(default)]
    width: usize,
    #[serde(default)]
    height: usize,
    avg_frame_rate: Option<String>,
    r_frame_rate: Option<String>,
    nb_frames: Option<String>,
    time_base: Option<String>,
    sample_aspect_ratio: Option<String>,
    #[serde(default)]
    pix_fmt: String,
    field_order: Option<String>,
    #[serde(flatten)]
    color: Color,
    #[serde(default)]
    side_data_list: Vec<SideData>,
    #[serde(default)]
    tags: Tags,
    #[serde(default)]
    disposition: HashMap<String, u32>,
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
    /// Whether this is a video and no cover picture.
    fn is_video(&self) -> bool {
        let is_cover = self.disposition.get("attached_pic") == Some(&1);
        self.codec_type == "video" && !is_cover
    }

    /// Whether the frames are shown turned by a quarter, which `ffmpeg` does when it decodes.
    fn is_turned(&self) -> bool {
        // Programs before version 5 say it by a tag, later ones by side data.
        let tag = self.tags.rotate.as_deref().and_then(|tag| tag.parse().ok());
        let side_data = self.side_data_list.iter().find_map(|data| data.rotation);
        let degrees: f64 = side_data.or(tag).unwrap_or(0.0);
        (degrees.rem_euclid(180.0) - 90.0).abs() < 1.0
    }

    fn info(&self) -> VideoInfo {
        let aspect = self.sample_aspect_ratio.as_deref();
        let aspect = aspect.and_then(|text| ratio(text, ':'));
        let (height, width, pixel_aspect) = match self.is_turned() {
            true => (self.width, self.height, aspect.map(|(w, h)| (h, w))),
            false => (self.height, self.width, aspect),
        };
        let rates = [&self.avg_frame_rate, &self.r_frame_rate];
        let mut rates = rates.into_iter().flatten();
        VideoInfo {
            height,
            width,
            frame_rate: rates.find_map(|rate| rate.parse().ok()),
            declared_frames: self.nb_frames.as_deref().and_then(|n| n.parse().ok()),
            pixel_aspect,
            pixel_format: self.pix_fmt.clone(),
            color: self.color.known(),
            field_order: match self.field_order.as_deref() {
                Some("tt" | "tb") => Some(FieldOrder::TopFirst),
                Some("bb" | "bt") => Some(FieldOrder::BottomFirst),
                _ => None,
            },
            tracks: Vec::new(),
        }
    }

    fn track(&self) -> Track {
        Track {
            index: self.index,
            kind: match self.codec_type.as_str() {
                "audio" => TrackKind::Sound,
                "subtitle" => TrackKind::Subtitles,
                "video" => TrackKind::Video,
                _ => TrackKind::Other,
            },
            codec: self.codec_name.clone(),
        }
    }
}

impl Answer {
    /// The first video of the file; the other streams are its tracks.
    fn describe(self) -> Option<Description> {
        let video = self.streams.iter().position(Stream::is_video)?;
        let others = self.streams.iter().enumerate();
        let others = others.filter(|(index, _)| *index != video);
        let tracks = others.map(|(_, stream)| stream.track()).collect();
        let video = &self.streams[video];
        let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse().ok());
        Some(Description {
            info: VideoInfo {
                tracks,
                ..video.info()
            },
            stream: video.index,
            codec: video.codec_name.clone(),
            time_base: video
                .time_base
                .as_deref()
                .and_then(|text| ratio(text, '/'))
                .unwrap_or((1, 90_000)),
            start: number(&self.format.start_time).unwrap_or(0.0),
            duration: number(&self.format.duration),
            format: self.format.format_name,
        })
    }
}

/// Describes a file; decodes nothing.
pub(super) fn describe(path: &Path, ffmpeg: &Ffmpeg) -> Result<Description, VideoError> {
    let mut ffprobe = ffmpeg.ffprobe();
    ffprobe.args(["-show_streams", "-show_format", "-of", "json"]);
    let json = probe(path, &mut ffprobe, DESCRIPTION_LEN)?;
    let answer: Answer = serde_json::from_slice(&json).map_err(|source| VideoError::Answer {
        path: path.into(),
        source,
    })?;
    let Some(mut description) = answer.describe() else {
        let path = path.to_path_buf();
        return Err(match damage::is_cut_off(&path) {
            true => VideoError::NoTable { path },
            false => VideoError::NoVideo { path },
        });
    };
    let field_order = &mut description.info.field_order;
    if field_order.is_some() {
        *field_order = first_field(path, ffmpeg)?.or(*field_order);
    }
    Ok(description)
}

/// The order of fields of the first frame: what containers say of it is written in two ways.
fn first_field(path: &Path, ffmpeg: &Ffmpeg) -> Result<Option<FieldOrder>, VideoError> {
    let mut ffprobe = ffmpeg.ffprobe();
    ffprobe.args(["-select_streams", "V:0", "-read_intervals", "%+#1"]);
    ffprobe.args(["-show_entries", "frame=interlaced_frame,top_field_first"]);
    ffprobe.args(["-of", "compact=p=0"]);
    let frame = probe(path, &mut ffprobe, DESCRIPTION_LEN)?;
    let frame = String::from_utf8_lossy(&frame);
    Ok(match frame.contains("top_field_first=1") {
        true => Some(FieldOrder::TopFirst),
        false => frame
            .contains("interlaced_frame=1")
            .then_some(FieldOrder::BottomFirst),
    })
}

/// What `ffprobe` prints about a file, up to a length.
pub(super) fn probe(path: &Path, ffprobe: &mut Command, len: u64) -> Result<Vec<u8>, VideoError> {
    ffprobe.args(["-protocol_whitelist", "file", "-i"]);
    ffprobe.arg(file_argument(path));
    ffprobe.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = Running::start(ffprobe)?;
    let mut output = Vec::new();
    let read = running.take_stdout().take(len).read_to_end(&mut output);
    let lost = |source| VideoError::Pipe {
        path: path.into(),
        frame: 0,
        source,
    };
    read.map_err(lost)?;
    let source = running.end().map_err(lost)?;
    if source.status.success() {
        return Ok(output);
    }
    let has_no_table = source.messages.contains("moov atom not found");
    let path = path.to_path_buf();
    Err(match has_no_table && damage::is_cut_off(&path) {
        true => VideoError::NoTable { path },
        false => VideoError::Probe { path, source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn described(stream: &str) -> Description {
        let mut stream: serde_json::Value = serde_json::from_str(stream).unwrap();
        for (key, value) in [("index", 0), ("width", 3), ("height", 2)] {
            stream[key] = value.into();
        }
        stream["codec_type"] = "video".into();
        let answer = serde_json::json!({ "streams": [stream] });
        let answer: Answer = serde_json::from_value(answer).unwrap();
        answer.describe().unwrap()
    }

    #[rstest]
    #[case::upright("{}", (2, 3))]
    #[case::side_data(r#"{"side_data_list":[{},{"rotation":-90}]}"#, (3, 2))]
    #[case::tag(r#"{"tags":{"rotate":"270"}}"#, (3, 2))]
    #[case::upside_down(r#"{"side_data_list":[{"rotation":180}]}"#, (2, 3))]
    fn a_quarter_turn_swaps_the_sides(#[case] json: &str, #[case] size: (usize, usize)) {
        let info = described(json).info;
        assert_eq!((info.height, info.width), size);
    }

    #[rstest]
    #[case::known(r#"{"sample_aspect_ratio":"16:11"}"#, Some((16, 11)))]
    #[case::turned(
        r#"{"sample_aspect_ratio":"16:11","side_data_list":[{"rotation":90}]}"#,
        Some((11, 16))
    )]
    #[case::unknown(r#"{"sample_aspect_ratio":"0:1"}"#, None)]
    #[case::unsaid("{}", None)]
    fn a_quarter_turn_swaps_the_sides_of_a_pixel(
        #[case] json: &str,
        #[case] aspect: Option<(u32, u32)>,
    ) {
        assert_eq!(described(json).info.pixel_aspect, aspect);
    }

    #[test]
    fn a_cover_picture_is_no_video() {
        let json = r#"{"streams":[
            {"index":0,"codec_type":"video","codec_name":"png","disposition":{"attached_pic":1}},
            {"index":1,"codec_type":"audio","codec_name":"aac"},
            {"index":2,"codec_type":"video","codec_name":"vp9","width":3,"height":2}
        ]}"#;
        let answer: Answer = serde_json::from_str(json).unwrap();
        let video = answer.describe().unwrap();
        assert_eq!((video.stream, video.codec.as_str()), (2, "vp9"));
        let tracks: Vec<_> = video.info.tracks.iter().map(|track| track.index).collect();
        assert_eq!(tracks, [0, 1]);
    }
}
