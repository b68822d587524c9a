//! What of a video file cannot be read as it was written: what `ffmpeg` says while it decodes, and
//! whether an MP4 or QuickTime file is cut off, which it does not say.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use super::{info::Description, program::without_address};

/// What of a video file cannot be read as it was written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Damage {
    /// Frames that are there, with wrong pixels; by their number among those that can be read.
    pub damaged: Vec<usize>,
    /// Frames that are not there.
    pub missing: Vec<MissingFrames>,
    /// Where the file ends before its time.
    pub cut_off: Option<CutOff>,
    /// What `ffmpeg` says about it, without repetition.
    pub messages: Vec<String>,
    /// What the decoder complains about although it gives every frame whole; no damage.
    pub complaints: Vec<String>,
}

/// Frames that are missing between two others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MissingFrames {
    /// The frame that follows them.
    pub before: usize,
    /// How many there would be at the usual interval.
    pub count: usize,
}

/// A file that ends before its time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CutOff {
    /// The last frame.
    pub last_frame: usize,
    /// Seconds at which it ends.
    pub end: f64,
    /// Seconds that the container declares, where it does.
    pub duration: Option<f64>,
}

impl Damage {
    /// Whether everything can be read as it was written.
    pub fn is_none(&self) -> bool {
        self.damaged.is_empty()
            && self.missing.is_empty()
            && self.cut_off.is_none()
            && self.messages.is_empty()
    }
}

impl fmt::Display for Damage {
    /// Says what is damaged, as the end of a sentence that begins with the file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(CutOff {
            last_frame,
            end,
            duration,
        }) = self.cut_off
        {
            let of = duration.map(|duration| format!(" of {duration:.2} s"));
            let of = of.unwrap_or_default();
            parts.push(format!(
                "is cut off or unreadable after frame {last_frame}, at {end:.2} s{of}"
            ));
        }
        if !self.damaged.is_empty() {
            parts.push(format!("is damaged in {}", frames(&self.damaged)));
        }
        for MissingFrames { before, count } in &self.missing {
            let noun = if *count == 1 { "frame" } else { "frames" };
            parts.push(format!("lacks {count} {noun} before frame {before}"));
        }
        if parts.is_empty() {
            parts.push("is damaged".into());
        }
        f.write_str(&parts.join(", and "))?;
        match self.messages.is_empty() {
            true => Ok(()),
            false => write!(f, " (ffmpeg: {})", self.messages.join("; ")),
        }
    }
}

/// Names frames, the first few of many.
fn frames(numbers: &[usize]) -> String {
    const SHOWN: usize = 20;
    let shown: Vec<_> = numbers.iter().take(SHOWN).map(usize::to_string).collect();
    let noun = if numbers.len() == 1 {
        "frame"
    } else {
        "frames"
    };
    let more = numbers.len().saturating_sub(SHOWN);
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    format!("{noun} {}{more}", shown.join(", "))
}

/// Different messages about damage that are kept.
const NUM_MESSAGES: usize = 3;
/// What is said of a track without content, such as phones write; no frame is lost by it.
const HARMLESS: &str = "missing mandatory atoms";
/// Times beyond are not believed: sums of them would not be numbers any more.
const LAST_TICK: i64 = 1 << 60;

/// What is printed while the frames are decoded.
pub(super) struct Log<'a> {
    about: &'a Description,
    /// The time of each frame in units of the file's clock, where it has one.
    pub(super) ticks: Vec<Option<i64>>,
    /// Whether a message says that the file ends early.
    pub(super) is_cut_off: bool,
    pub(super) damage: Damage,
}

impl<'a> Log<'a> {
    pub(super) fn new(about: &'a Description) -> Self {
        Self {
            about,
            ticks: Vec::new(),
            is_cut_off: false,
            damage: Damage::default(),
        }
    }

    /// Takes a line.
    pub(super) fn read(&mut self, line: &str) {
        let line = without_address(line.trim_end());
        let (context, rest) = match line
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("] ["))
        {
            Some((context, rest)) => (context, rest),
            None => ("", line.strip_prefix('[').unwrap_or_default()),
        };
        let Some((level, message)) = rest.split_once("] ") else {
            return;
        };
        if context.starts_with("Parsed_metadata") {
            if let Some(time) = message.strip_prefix("frame:") {
                let time = time
                    .split_whitespace()
                    .find_map(|word| word.strip_prefix("pts:"));
                let tick = time.and_then(|tick| tick.parse::<i64>().ok());
                self.ticks
                    .push(tick.map(|tick| tick.clamp(-LAST_TICK, LAST_TICK)));
            }
            return;
        }
        if message.contains("corrupt decoded frame") {
            // Printed right before the frame is handed on.
            self.damage.damaged.push(self.ticks.len());
            return;
        }
        let is_error = matches!(level, "error" | "fatal" | "panic") && !message.contains(HARMLESS);
        let is_of_reading = is_of_reading(context, &self.about.format);
        if message.contains("corrupt input packet") || is_error && is_of_reading {
            self.is_cut_off |= is_about_the_end(message);
            keep(&mut self.damage.messages, context, message);
        } else if is_error && context == self.about.codec {
            keep(&mut self.damage.complaints, context, message);
        }
    }
}

/// Whether a program's error messages are about the file, which they can be with an exit status of
/// zero.
pub(super) fn tells_of_damage(messages: &str, format: &str) -> bool {
    let is_of_file = |line: &str| {
        let context = line
            .strip_prefix('[')
            .and_then(|rest| rest.split_once("] "));
        context.is_some_and(|(context, text)| context == format && !text.contains(HARMLESS))
    };
    messages.lines().any(is_of_file)
}

/// Whether messages with a context are about reading the file, rather than about a frame's content.
fn is_of_reading(context: &str, format: &str) -> bool {
    // Newer programs name their own parts; older ones give no context.
    let of_program = ["vist#", "dec:", "in#"];
    context == format
        || context.is_empty()
        || of_program.iter().any(|part| context.starts_with(part))
}

fn is_about_the_end(message: &str) -> bool {
    ["ended prematurely", "partial file"]
        .iter()
        .any(|words| message.contains(words))
}

fn keep(messages: &mut Vec<String>, context: &str, message: &str) {
    let context = if context.is_empty() {
        String::new()
    } else {
        format!("[{context}] ")
    };
    let message = format!("{context}{message}");
    if messages.len() < NUM_MESSAGES && !messages.contains(&message) {
        messages.push(message);
    }
}

/// Names of parts that hold frames, or say where they are.
const PARTS: [&[u8; 4]; 9] = [
    b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"styp", b"sidx", b"moof",
];

/// Whether a file begins as MP4 and QuickTime files do, and its last part is not whole, or the table of
/// its frames is missing. No if it cannot be read.
pub(super) fn is_cut_off(path: &Path) -> bool {
    let walk = File::open(path).and_then(|file| {
        let len = file.metadata()?.len();
        ends_early(file, len)
    });
    walk.unwrap_or(false)
}

/// The same for `len` bytes.
fn ends_early(mut file: impl Read + Seek, len: u64) -> io::Result<bool> {
    let (mut offset, mut has_table) = (0_u64, false);
    while offset < len {
        // Length and name; a length of 1 stands for one of 8 bytes behind the name.
        let mut start = [0; 16];
        file.seek(SeekFrom::Start(offset))?;
        let read = file.by_ref().take(16).read(&mut start)?;
        let name = [start[4], start[5], start[6], start[7]];
        if read < 8 || !PARTS.contains(&&name) {
            // Anything may follow a whole file, and metadata has other names.
            return Ok(offset > 0 && !has_table);
        }
        let short = u32::from_be_bytes([start[0], start[1], start[2], start[3]]);
        let part = match short {
            // To the end of the file, whole or not.
            0 => return Ok(!has_table),
            1 => u64::from_be_bytes(std::array::from_fn(|index| start[8 + index])),
            short => u64::from(short),
        };
        // Not even as long as what says so.
        if part < 8 {
            return Ok(!has_table);
        }
        offset = offset.saturating_add(part);
        has_table |= &name == b"moov" && offset <= len;
    }
    Ok(offset > len || !has_table)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use rstest::rstest;

    use super::*;

    fn read(lines: &[&str]) -> Log<'static> {
        let about = Box::leak(Box::new(Description {
            format: "matroska,webm".into(),
            codec: "h264".into(),
            ..Description::default()
        }));
        let mut log = Log::new(about);
        lines.iter().for_each(|line| log.read(line));
        log
    }

    const FRAME: &str = "[Parsed_metadata_2 @ 0x55] [info] frame:1    pts:83      pts_time:0.083";

    #[test]
    fn frames_have_times_or_none() {
        let unknown = "[Parsed_metadata_2 @ 0x55] [info] frame:2    pts:NOPTS   pts_time:NOPTS";
        let other = "[info] frame=    2 fps=0.0 q=-0.0";
        let log = read(&[FRAME, other, unknown]);
        assert_eq!(log.ticks, [Some(83), None]);
        assert!(log.damage.is_none());
    }

    #[test]
    fn damage_is_told_from_complaints() {
        let log = read(&[
            "[matroska,webm @ 0x55] [error] File ended prematurely",
            "[warning] file:a.mkv: corrupt decoded frame in stream 0",
            FRAME,
            "[h264 @ 0x55] [error] mmco: unref short failure",
            "[h264 @ 0x55] [warning] Increasing reorder buffer",
            "[matroska,webm @ 0x55] [error] stream 2, missing mandatory atoms, broken header",
            "[error] Error while decoding stream #0:0: Invalid data",
            "[vist#0:0/h264 @ 0x55] [error] Error submitting packet to decoder",
        ]);
        assert!(log.is_cut_off);
        assert_eq!(log.damage.damaged, [0]);
        assert_eq!(log.damage.messages.len(), 3);
        assert_eq!(log.damage.complaints, ["[h264] mmco: unref short failure"]);
    }

    #[test]
    fn a_message_of_the_container_is_of_the_file() {
        assert!(tells_of_damage("[avi] Something went wrong", "avi"));
        assert!(!tells_of_damage("[h264] mmco: unref short failure", "avi"));
    }

    fn part(name: &str, len: u32) -> Vec<u8> {
        let mut part = [&len.to_be_bytes(), name.as_bytes()].concat();
        part.resize(len as usize, 0);
        part
    }

    #[rstest]
    #[case::table_first(&[part("ftyp", 16), part("moov", 24), part("mdat", 40)])]
    #[case::table_last(&[part("ftyp", 16), part("mdat", 40), part("moov", 24)])]
    #[case::fragments(&[part("moov", 24), part("moof", 24), part("mdat", 40)])]
    fn a_file_is_whole_where_its_last_part_is(#[case] parts: &[Vec<u8>]) {
        let file = parts.concat();
        let ends_early = |file: &[u8]| super::ends_early(Cursor::new(file), file.len() as u64);
        assert!(!ends_early(&file).unwrap());
        for len in file.len() - 20..file.len() {
            assert!(ends_early(&file[..len]).unwrap(), "{len}");
        }
        let followed = [&file[..], &[0; 100]].concat();
        assert!(!ends_early(&followed).unwrap());
    }

    #[test]
    fn a_file_without_a_table_is_cut_off_and_text_is_none() {
        let ends_early = |file: Vec<u8>| {
            let len = file.len() as u64;
            super::ends_early(Cursor::new(file), len).unwrap()
        };
        assert!(ends_early([part("ftyp", 16), part("mdat", 40)].concat()));
        assert!(!ends_early(b"no video at all".to_vec()));
    }
}
