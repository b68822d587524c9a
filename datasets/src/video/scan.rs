//! One pass over a video file that finds the time of every frame, and what is damaged.

use std::{
    fmt,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::Stdio,
};

use super::{
    error::VideoError,
    info::{Description, probe},
    mp4,
    program::{Ffmpeg, Running, file_argument, without_address},
    times::FrameTimes,
};

/// Bytes of a line of messages that are read at once.
const LINE_LEN: u64 = 1 << 16;
/// Bytes of a list of packets that are read, hours of sound behind the last frame.
const TAIL_LEN: u64 = 1 << 26;
/// Different messages about damage that are kept.
const NUM_MESSAGES: usize = 3;
/// Containers whose declared duration was written when the video was made, and not guessed.
const DECLARING: [&str; 5] = ["matroska,webm", "mov,mp4", "avi", "flv", "asf"];

/// What a pass over all frames has found.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoScan {
    /// When each frame is shown.
    pub times: FrameTimes,
    /// Seconds of the file's clock that are 0 in [`times`](Self::times).
    pub origin: f64,
    /// What cannot be read as it was written.
    pub damage: Damage,
}

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

/// Decodes the whole file, past what is damaged.
///
/// # Errors
/// If `ffmpeg` cannot be started, or decodes no frame.
pub(super) fn scan(
    path: &Path,
    about: &Description,
    ffmpeg: &Ffmpeg,
    exactly: bool,
) -> Result<VideoScan, VideoError> {
    let mut command = ffmpeg.ffmpeg();
    command.args(["-nostats", "-loglevel", "level+info", "-copyts"]);
    if exactly {
        command.args(["-threads", "1"]);
    }
    command.args(["-protocol_whitelist", "file", "-i"]);
    command.arg(file_argument(path));
    // Every version prints the time of a frame in this way, into its messages: what comes there
    // before a frame is about this frame or one before it.
    let (numerator, denominator) = about.time_base;
    let print =
        format!("settb={numerator}/{denominator},metadata=add:key=t:value=t,metadata=print");
    command.args(["-map", "0:V:0", "-vf", &print, "-f", "null", "-"]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let (mut running, stderr) = Running::start_with_log(&mut command)?;
    let mut log = Log::new(about);
    let lost = |source| VideoError::Pipe {
        path: path.into(),
        frame: 0,
        source,
    };
    if about.format.starts_with("mov") && mp4::is_cut_off(path) {
        log.is_cut_off = true;
    }
    let (mut stderr, mut line) = (BufReader::new(stderr), Vec::new());
    while (&mut stderr)
        .take(LINE_LEN)
        .read_until(b'\n', &mut line)
        .map_err(lost)?
        > 0
    {
        log.read(&String::from_utf8_lossy(&line));
        line.clear();
    }
    let mut end = running.end().map_err(lost)?;
    let is_explained = end.status.success() || !log.damage.is_none();
    if log.ticks.is_empty() || end.status.code().is_none() || !is_explained {
        end.messages = log.damage.messages.join("; ");
        return Err(VideoError::Decode {
            path: path.into(),
            frame: log.ticks.len(),
            source: end,
        });
    }
    // A unit of the file's clock is as many ticks.
    let unit = i64::from(numerator);
    let seconds = |ticks: i64| ticks as f64 / f64::from(denominator);
    let ticks: Vec<_> = log
        .ticks
        .iter()
        .map(|tick| tick.map(|tick| tick * unit))
        .collect();
    // These containers have a clock of their own, which starts at 0. In others, such as MPEG-TS,
    // time starts anywhere.
    let starts_at_zero = ["matroska,webm", "mov,mp4"];
    let origin = match starts_at_zero
        .iter()
        .any(|name| about.format.starts_with(name))
    {
        true => 0,
        false => (about.start * f64::from(denominator)).round() as i64,
    };
    let (times, origin) = FrameTimes::repaired(&ticks, origin, denominator, about.info.frame_rate);
    let last = times.starts()[times.len() - 1];
    let tail = tail(path, about, ffmpeg, last + origin).ok();
    let mut damage = log.damage;
    let declared = about
        .duration
        .filter(|_| DECLARING.iter().any(|name| about.format.starts_with(name)));
    let end = tail.as_ref().and_then(|tail| tail.video_end);
    let end = end.map(|end| end - origin).filter(|end| *end > last);
    let times = match end {
        Some(end) => times.ending_at(end),
        // Where nothing else is in the file, it ends with the last frame.
        None => match declared.filter(|_| about.info.tracks.is_empty()) {
            Some(declared) => {
                let end = (declared * f64::from(denominator)).round() as i64;
                let is_next = end > last && end <= times.end();
                if is_next { times.ending_at(end) } else { times }
            }
            None => times,
        },
    };
    let usual = seconds(times.usual_interval().unwrap_or(0));
    // A clock that starts late may count or not in what is declared.
    let others_end = tail.and_then(|tail| tail.end);
    let until = others_end
        .unwrap_or(0.0)
        .max(seconds(times.end() + origin.max(0)));
    let falls_short = others_end.is_some()
        && declared.is_some_and(|declared| declared - until > (2.0 * usual).max(0.2));
    if falls_short || log.is_cut_off {
        damage.cut_off = Some(CutOff {
            last_frame: times.len() - 1,
            end: seconds(times.end()),
            duration: declared.filter(|declared| *declared > until),
        });
    }
    if !damage.is_none() {
        damage.missing = missing(&times);
    }
    Ok(VideoScan {
        times,
        origin: seconds(origin),
        damage,
    })
}

/// Frames that a regular video lacks.
fn missing(times: &FrameTimes) -> Vec<MissingFrames> {
    let Some(usual) = times.usual_interval() else {
        return Vec::new();
    };
    let intervals = || times.starts().windows(2).map(|pair| pair[1] - pair[0]);
    let is_usual = |interval: i64| (interval - usual).abs() * 10 <= usual.max(10);
    let num_usual = intervals().filter(|interval| is_usual(*interval)).count();
    // Where frames come at any time, none can be missed.
    if num_usual * 10 < (times.len() - 1) * 8 {
        return Vec::new();
    }
    let gaps = intervals().enumerate();
    gaps.filter_map(|(index, interval)| {
        let count = ((interval as f64 / usual as f64).round() as usize).saturating_sub(1);
        (count > 0).then_some(MissingFrames {
            before: index + 1,
            count,
        })
    })
    .collect()
}

/// What is printed while the frames are decoded.
struct Log<'a> {
    about: &'a Description,
    ticks: Vec<Option<i64>>,
    is_cut_off: bool,
    damage: Damage,
}

impl<'a> Log<'a> {
    fn new(about: &'a Description) -> Self {
        Self {
            about,
            ticks: Vec::new(),
            is_cut_off: false,
            damage: Damage::default(),
        }
    }

    fn read(&mut self, line: &str) {
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
                self.ticks.push(time.and_then(|tick| tick.parse().ok()));
            }
            return;
        }
        if message.contains("corrupt decoded frame") {
            // Printed right before the frame is handed on.
            self.damage.damaged.push(self.ticks.len());
            return;
        }
        let is_error = matches!(level, "error" | "fatal" | "panic");
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
        context.is_some_and(|(context, _)| context == format)
    };
    messages.lines().any(is_of_file)
}

/// Whether messages with a context are about reading the file, rather than about a frame's content.
fn is_of_reading(context: &str, format: &str) -> bool {
    // Newer programs name their own parts; older ones give no context.
    let of_program = ["", "vist#", "dec:", "in#"];
    context == format
        || of_program
            .iter()
            .any(|part| context == *part || !part.is_empty() && context.starts_with(part))
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

/// The end of a file, by its packets.
#[derive(Default)]
struct Tail {
    /// Tick of the file's clock at which the last frame ends, where the file says.
    video_end: Option<i64>,
    /// Seconds of the file's clock at which the last of all streams ends.
    end: Option<f64>,
}

/// Reads the packets from about `last` on, the time of the last frame.
fn tail(path: &Path, about: &Description, ffmpeg: &Ffmpeg, last: i64) -> Result<Tail, VideoError> {
    let (numerator, denominator) = about.time_base;
    let from = (last as f64 / f64::from(denominator) - 1.0).max(0.0);
    let mut ffprobe = ffmpeg.ffprobe();
    let fields = "packet=stream_index,pts,pts_time,duration,duration_time";
    ffprobe.args(["-show_entries", fields, "-of", "compact=p=0"]);
    ffprobe.args(["-read_intervals", &format!("{from:.3}%")]);
    let packets = probe(path, &mut ffprobe, TAIL_LEN)?;
    let mut tail = Tail::default();
    for packet in String::from_utf8_lossy(&packets).lines() {
        let fields: Vec<_> = packet
            .split('|')
            .filter_map(|field| field.split_once('='))
            .collect();
        let field = |name: &str| {
            let field = fields.iter().find(|(field, _)| *field == name)?;
            field.1.parse::<f64>().ok()
        };
        if let Some(start) = field("pts_time") {
            let end = start + field("duration_time").unwrap_or(0.0);
            tail.end = Some(tail.end.map_or(end, |other| other.max(end)));
        }
        let is_video = field("stream_index") == Some(about.stream as f64);
        if let (true, Some(start), Some(duration)) = (is_video, field("pts"), field("duration")) {
            let [start, duration] =
                [start, duration].map(|units| units as i64 * i64::from(numerator));
            if start == last {
                tail.video_end = Some(start + duration);
            }
        }
    }
    Ok(tail)
}
