//! How the file of a completed video is written: as the video it was made of, where a file can be.

use anyhow::Result;
use burn_memopt_datasets::video::{
    Container, FrameRate, FrameTimes, TrackKind, VideoFile, VideoScan, VideoSource,
    VideoWriterConfig,
};

use super::geometry::Geometry;
use crate::cli::InpaintArgs;

/// Frames a second where neither a flag nor the video says it.
const FRAME_RATE: u32 = 24;
/// How samples are stored in every file that is written.
const PIXEL_FORMATS: [&str; 2] = ["yuv420p", "yuvj420p"];

/// How a completed video is written, and what of the video it cannot keep.
#[derive(Debug)]
pub struct ResultConfig {
    pub writer: VideoWriterConfig,
    pub notes: Vec<String>,
}

impl ResultConfig {
    /// What flags and the video ask for, in a file of a `container`.
    ///
    /// # Errors
    /// If `--save-fps` is no rate, or the video cannot be read.
    pub fn new(
        args: &InpaintArgs,
        video: &VideoSource,
        geometry: &Geometry,
        container: Container,
    ) -> Result<Self> {
        let rate = args.save_fps.as_deref().map(str::parse).transpose();
        let rate: Option<FrameRate> = rate.map_err(anyhow::Error::msg)?;
        let mut this = Self {
            writer: VideoWriterConfig::new(rate.unwrap_or(FrameRate::new(FRAME_RATE, 1))),
            notes: Vec::new(),
        };
        if let VideoSource::File(file) = video {
            this = this.with_shape_of(file).with_times(file, rate)?;
            this = this.with_tracks(args, file, rate, container)?;
        }
        let is_odd = geometry.result.iter().any(|side| !side.is_multiple_of(2));
        if is_odd && container != Container::Webm {
            let [height, width] = geometry.result;
            this.notes.push(format!(
                "{height}×{width} pixels (height × width) become even, as H.264 needs them: the last \
                 row or column is written twice"
            ));
        }
        Ok(this)
    }

    fn with_shape_of(mut self, file: &VideoFile) -> Self {
        let info = file.info();
        self.writer = self.writer.with_shape_of(info);
        if !PIXEL_FORMATS.contains(&info.pixel_format.as_str()) {
            self.notes.push(format!(
                "samples become yuv420p, 8 bits with colour at half resolution, from {}",
                info.pixel_format
            ));
        }
        if info.field_order.is_some() {
            self.notes.push(
                "the video is interlaced and stays so; what moves is completed better after \
                 deinterlacing (ffmpeg -vf yadif)"
                    .into(),
            );
        }
        self
    }

    fn with_times(mut self, file: &VideoFile, rate: Option<FrameRate>) -> Result<Self> {
        let VideoScan { times, damage, .. } = file.scan()?;
        if rate.is_none() {
            self.writer = self.writer.with_times(times.clone());
        }
        if !damage.is_none() {
            self.notes.push(format!("the video {damage}"));
        }
        if !damage.complaints.is_empty() {
            self.notes.push(format!(
                "ffmpeg gives every frame, but says {}",
                damage.complaints.join("; ")
            ));
        }
        Ok(self)
    }

    fn with_tracks(
        mut self,
        args: &InpaintArgs,
        file: &VideoFile,
        rate: Option<FrameRate>,
        container: Container,
    ) -> Result<Self> {
        let tracks = &file.info().tracks;
        let num_sound = tracks
            .iter()
            .filter(|track| track.kind == TrackKind::Sound)
            .count();
        if num_sound > 0 && args.no_audio {
            self.notes
                .push("sound: left out, as --no-audio says".into());
        }
        let Some(source) = file.tracks(!args.no_audio)? else {
            return Ok(self);
        };
        if let Some(rate) = rate
            && changes_times(&file.scan()?.times, rate)
        {
            let note =
                "sound and subtitles: left out, since --save-fps gives the frames other times";
            self.notes.push(note.into());
            return Ok(self);
        }
        let notes = source.notes(container);
        if num_sound > 0 && !args.no_audio && !notes.iter().any(|note| note.starts_with("sound")) {
            self.notes.push("sound: copied".into());
        }
        self.notes.extend(notes);
        self.writer = self.writer.with_tracks(Some(source));
        Ok(self)
    }
}

/// Whether frames at an even rate end more than a frame away from where they did.
fn changes_times(times: &FrameTimes, rate: FrameRate) -> bool {
    let even = FrameTimes::at_rate(rate, times.len());
    let ends = [times, &even].map(|times| times.seconds(times.end()));
    (ends[0] - ends[1]).abs() * rate.per_second() > 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_keeps_the_length_keeps_the_sound() {
        let times = FrameTimes::new(vec![0, 41, 83, 125], 166, 1000);
        assert!(!changes_times(&times, FrameRate::new(24, 1)));
        assert!(changes_times(&times, FrameRate::new(12, 1)));
    }
}
