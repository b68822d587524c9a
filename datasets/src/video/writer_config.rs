//! How a video file is written.

use super::{
    color::Color,
    info::{FieldOrder, VideoInfo},
    times::{FrameRate, FrameTimes},
    tracks::TrackSource,
};

/// How a video is written, apart from the pixels of its frames.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoWriterConfig {
    pub(super) timing: Timing,
    pixel_aspect: Option<(u32, u32)>,
    pub(super) color: Color,
    pub(super) field_order: Option<FieldOrder>,
    pub(super) tracks: Option<TrackSource>,
}

/// When frames are shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Timing {
    Rate(FrameRate),
    Times(FrameTimes),
}

impl Timing {
    pub(super) fn ticks_per_second(&self) -> u32 {
        match self {
            Self::Rate(rate) => rate.ratio().0,
            Self::Times(times) => times.ticks_per_second(),
        }
    }

    /// When frame `index` is shown, in nanoseconds.
    pub(super) fn start_nanos(&self, index: usize) -> u64 {
        self.nanos(match self {
            Self::Rate(rate) => index as i64 * i64::from(rate.ratio().1),
            Self::Times(times) => times.starts()[index],
        })
    }

    /// How long the last frame is shown, in nanoseconds.
    pub(super) fn last_nanos(&self) -> u64 {
        self.nanos(match self {
            Self::Rate(rate) => i64::from(rate.ratio().1),
            Self::Times(times) => times.end() - times.starts()[times.len() - 1],
        })
    }

    /// Rounded to the nearest.
    fn nanos(&self, ticks: i64) -> u64 {
        let per_second = i128::from(self.ticks_per_second());
        let nanos = (i128::from(ticks) * 1_000_000_000 + per_second / 2) / per_second;
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

impl VideoWriterConfig {
    /// Frames at an even rate, with square pixels and the colours of BT.709.
    pub fn new(rate: FrameRate) -> Self {
        Self {
            timing: Timing::Rate(rate),
            pixel_aspect: None,
            color: Color::bt709(),
            field_order: None,
            tracks: None,
        }
    }

    /// Each frame at a time of its own.
    #[must_use]
    pub fn with_times(self, times: FrameTimes) -> Self {
        Self {
            timing: Timing::Times(times),
            ..self
        }
    }

    /// The shape of pixels, the meaning of colours and the order of fields of another video.
    #[must_use]
    pub fn with_shape_of(self, info: &VideoInfo) -> Self {
        Self {
            pixel_aspect: info.pixel_aspect,
            color: info.color.clone(),
            field_order: info.field_order,
            ..self
        }
    }

    /// Sound and subtitles of another file.
    #[must_use]
    pub fn with_tracks(self, tracks: Option<TrackSource>) -> Self {
        Self { tracks, ..self }
    }

    /// The filters from RGB frames to those that are encoded.
    pub(super) fn filters(&self) -> String {
        let mut filters = self.color.filter_of_rgb();
        if let Some((width, height)) = self.pixel_aspect {
            filters += &format!(",setsar={width}/{height}");
        }
        match self.field_order {
            Some(FieldOrder::TopFirst) => filters += ",setfield=tff",
            Some(FieldOrder::BottomFirst) => filters += ",setfield=bff",
            None => {}
        }
        filters + ",format=yuv420p"
    }
}
