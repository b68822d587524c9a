//! Sound and subtitles that go along with a video.

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use super::program::file_argument;

/// A stream of a video file other than the video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// Its number among all streams of the file.
    pub index: usize,
    /// What it is.
    pub kind: TrackKind,
    /// Its codec, in ffmpeg's words, such as `aac`.
    pub codec: String,
}

/// What a stream of a video file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackKind {
    /// Sound.
    Sound,
    /// Text or pictures that are shown over the video.
    Subtitles,
    /// Another video, or a cover picture.
    Video,
    /// Anything else, such as positions or fonts.
    Other,
}

impl fmt::Display for TrackKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sound => "sound",
            Self::Subtitles => "subtitles",
            Self::Video => "other video",
            Self::Other => "other data",
        })
    }
}

/// The file format of a video that is written, by its extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// `.mp4`, `.m4v`
    Mp4,
    /// `.mov`
    Mov,
    /// `.mkv`
    Matroska,
    /// `.webm`
    Webm,
}

impl Container {
    /// The one of a file name, where its extension is one of these.
    pub fn from_path(path: &Path) -> Option<Self> {
        let extension = path.extension()?.to_str()?.to_ascii_lowercase();
        match extension.as_str() {
            "mp4" | "m4v" => Some(Self::Mp4),
            "mov" => Some(Self::Mov),
            "mkv" => Some(Self::Matroska),
            "webm" => Some(Self::Webm),
            _ => None,
        }
    }

    /// Its name as an output format of `ffmpeg`.
    pub(super) fn format(self) -> &'static str {
        match self {
            Self::Mp4 => "mp4",
            Self::Mov => "mov",
            Self::Matroska => "matroska",
            Self::Webm => "webm",
        }
    }

    /// How a track is written: `copy`, the codec it is converted to, or `None` if it is left out.
    fn codec(self, track: &Track) -> Option<&'static str> {
        let is_one_of = |codecs: &[&str]| codecs.contains(&track.codec.as_str());
        let is_text = is_one_of(&["mov_text", "subrip", "srt", "ass", "ssa", "webvtt", "text"]);
        match (track.kind, self) {
            (TrackKind::Sound, Self::Mp4) => {
                let fits = [
                    "aac", "mp3", "mp2", "ac3", "eac3", "opus", "flac", "alac", "dts",
                ];
                Some(if is_one_of(&fits) { "copy" } else { "aac" })
            }
            (TrackKind::Sound, Self::Mov) => {
                let fits = ["aac", "mp3", "ac3", "eac3", "alac", "amr_nb", "amr_wb"];
                let fits = is_one_of(&fits) || is_one_of(&["pcm_s16le", "pcm_s16be", "pcm_s24le"]);
                Some(if fits { "copy" } else { "aac" })
            }
            (TrackKind::Sound, Self::Webm) => {
                let fits = is_one_of(&["opus", "vorbis"]);
                Some(if fits { "copy" } else { "libopus" })
            }
            (TrackKind::Subtitles, Self::Mp4 | Self::Mov) => match track.codec.as_str() {
                "mov_text" => Some("copy"),
                _ => is_text.then_some("mov_text"),
            },
            (TrackKind::Subtitles, Self::Webm) => match track.codec.as_str() {
                "webvtt" => Some("copy"),
                _ => is_text.then_some("webvtt"),
            },
            (TrackKind::Subtitles, Self::Matroska) if track.codec == "mov_text" => Some("subrip"),
            (TrackKind::Sound | TrackKind::Subtitles, Self::Matroska) => Some("copy"),
            (TrackKind::Video | TrackKind::Other, _) => None,
        }
    }
}

/// Sound and subtitles of a file, to be written next to other pictures.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackSource {
    /// The file.
    pub path: PathBuf,
    /// Seconds of the file's clock that are the start of the new video.
    pub origin: f64,
    /// What is taken from it.
    pub tracks: Vec<Track>,
}

impl TrackSource {
    /// What is not copied into a container, and what happens to it instead.
    pub fn notes(&self, container: Container) -> Vec<String> {
        let note = |track: &Track| {
            let kind = track.kind;
            let codec = match track.codec.as_str() {
                "" => "unknown to ffmpeg",
                codec => codec,
            };
            let format = container.format();
            match container.codec(track) {
                Some("copy") => None,
                Some(other) => Some(format!(
                    "{kind}: encoded as {other}, since {format} does not take {codec}"
                )),
                None => Some(format!("{kind}: left out ({codec})")),
            }
        };
        let mut notes: Vec<String> = self.tracks.iter().filter_map(note).collect();
        notes.dedup();
        notes
    }

    /// Options that read the file as a further input of `ffmpeg`.
    pub(super) fn input(&self) -> Vec<OsString> {
        let offset = format!("{:.6}", -self.origin);
        let mut arguments: Vec<OsString> = ["-itsoffset", &offset].map(Into::into).into();
        arguments.extend(["-protocol_whitelist", "file", "-i"].map(Into::into));
        arguments.push(file_argument(&self.path));
        arguments
    }

    /// Options that write the tracks of input 1.
    pub(super) fn output(&self, container: Container) -> Vec<String> {
        let mut arguments = Vec::new();
        let (mut num_sound, mut num_subtitles) = (0, 0);
        for track in &self.tracks {
            let Some(codec) = container.codec(track) else {
                continue;
            };
            let (letter, number) = match track.kind {
                TrackKind::Sound => ("a", &mut num_sound),
                _ => ("s", &mut num_subtitles),
            };
            arguments.extend(["-map".into(), format!("1:{}", track.index)]);
            arguments.extend([format!("-c:{letter}:{number}"), codec.into()]);
            if codec == "aac" {
                arguments.extend([format!("-b:{letter}:{number}"), "192k".into()]);
            }
            *number += 1;
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn source(tracks: &[(TrackKind, &str)]) -> TrackSource {
        let track = |(index, (kind, codec)): (usize, &(TrackKind, &str))| Track {
            index: index + 1,
            kind: *kind,
            codec: (*codec).into(),
        };
        TrackSource {
            path: "clip.mkv".into(),
            origin: 0.0,
            tracks: tracks.iter().enumerate().map(track).collect(),
        }
    }

    #[rstest]
    #[case("a.mp4", "aac", "copy")]
    #[case("a.mp4", "pcm_s16le", "aac")]
    #[case("a.MOV", "pcm_s16le", "copy")]
    #[case("a.mkv", "pcm_s16le", "copy")]
    #[case("a.webm", "opus", "copy")]
    #[case("a.webm", "aac", "libopus")]
    fn sound_is_copied_where_the_container_takes_it(
        #[case] path: &str,
        #[case] codec: &str,
        #[case] written: &str,
    ) {
        let container = Container::from_path(Path::new(path)).unwrap();
        let source = source(&[(TrackKind::Sound, codec)]);
        let output = source.output(container);
        assert_eq!(output[..4], ["-map", "1:1", "-c:a:0", written]);
        assert_eq!(source.notes(container).is_empty(), written == "copy");
    }

    #[test]
    fn every_track_is_numbered_within_its_kind_and_what_is_left_out_is_named() {
        let source = source(&[
            (TrackKind::Sound, "aac"),
            (TrackKind::Other, "bin_data"),
            (TrackKind::Sound, "ac3"),
            (TrackKind::Subtitles, "subrip"),
            (TrackKind::Subtitles, "dvd_subtitle"),
        ]);
        let output = source.output(Container::Mp4).join(" ");
        let (first, second) = ("-map 1:1 -c:a:0 copy", "-map 1:3 -c:a:1 copy");
        assert_eq!(output, format!("{first} {second} -map 1:4 -c:s:0 mov_text"));
        let notes = source.notes(Container::Mp4);
        let left_out = "subtitles: left out (dvd_subtitle)";
        assert_eq!(notes.len(), 3);
        assert!(notes[0].starts_with("other data: left out") && notes[2] == left_out);
    }
}
