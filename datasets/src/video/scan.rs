//! One pass over a video file that finds the time of every frame, and what is damaged.

use std::{
    io::{BufRead, BufReader, Read},
    path::Path,
    process::Stdio,
};

use super::{
    damage::{self, CutOff, Damage, Log, MissingFrames},
    error::VideoError,
    info::{Description, probe},
    program::{Ffmpeg, Running, file_argument},
    times::FrameTimes,
};

/// Bytes of a line of messages that are read at once.
const LINE_LEN: u64 = 1 << 16;
/// Bytes of a list of packets that are read, hours of sound behind the last frame.
const TAIL_LEN: u64 = 1 << 26;
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

/// Decodes the whole file, past what is damaged. Damage is patched `exactly` alike in every run where
/// it is asked for, in one thread.
///
/// # Errors
/// If `ffmpeg` cannot be started, or decodes no frame.
pub(super) fn scan(
    path: &Path,
    about: &Description,
    ffmpeg: &Ffmpeg,
    exactly: bool,
) -> Result<VideoScan, VideoError> {
    let log = decode(path, about, ffmpeg, exactly)?;
    // A unit of the file's clock is as many ticks.
    let (unit, denominator) = about.time_base;
    let in_ticks = |units: i64| units.saturating_mul(i64::from(unit));
    let ticks: Vec<_> = log.ticks.iter().map(|tick| tick.map(in_ticks)).collect();
    let is_one_of = |formats: &[&str]| formats.iter().any(|name| about.format.starts_with(name));
    // These containers have a clock of their own, which starts at 0. In others, such as MPEG-TS,
    // time starts anywhere.
    let origin = match is_one_of(&["matroska,webm", "mov,mp4"]) {
        true => 0,
        false => (about.start * f64::from(denominator)).round() as i64,
    };
    let (times, origin) = FrameTimes::repaired(&ticks, origin, denominator, about.info.frame_rate);
    let declared = about.duration.filter(|_| is_one_of(&DECLARING));
    let last = times.starts()[times.len() - 1];
    let tail = tail(path, about, ffmpeg, last.saturating_add(origin)).ok();
    let end = tail.as_ref().and_then(|tail| tail.video_end);
    let end = end.map(|end| end.saturating_sub(origin));
    // Where nothing else is in the file, it ends with the last frame.
    let declared_end = declared
        .filter(|_| about.info.tracks.is_empty())
        .map(|declared| (declared * f64::from(denominator)).round() as i64)
        .filter(|end| *end <= times.end());
    let times = match end.or(declared_end).filter(|end| *end > last) {
        Some(end) => times.ending_at(end),
        None => times,
    };
    let mut damage = log.damage;
    // Nothing is known of a file whose packets cannot be listed.
    let others_end = tail.and_then(|tail| tail.end).unwrap_or(f64::INFINITY);
    // A clock that starts late may count or not in what is declared.
    let own_end = times.seconds(times.end().saturating_add(origin.max(0)));
    let until = others_end.max(own_end);
    let usual = times.seconds(times.usual_interval().unwrap_or(0));
    let falls_short = declared.is_some_and(|end| end - until > (2.0 * usual).max(0.2));
    if falls_short || log.is_cut_off {
        damage.cut_off = Some(CutOff {
            last_frame: times.len() - 1,
            end: times.seconds(times.end()),
            duration: declared.filter(|declared| *declared > own_end),
        });
    }
    if !damage.is_none() {
        damage.missing = missing(&times);
    }
    Ok(VideoScan {
        origin: times.seconds(origin),
        times,
        damage,
    })
}

/// What `ffmpeg` says while it decodes the whole file.
fn decode<'a>(
    path: &Path,
    about: &'a Description,
    ffmpeg: &Ffmpeg,
    exactly: bool,
) -> Result<Log<'a>, VideoError> {
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
    log.is_cut_off = about.format.starts_with("mov") && damage::is_cut_off(path);
    let lost = |source| VideoError::Pipe {
        path: path.into(),
        frame: 0,
        source,
    };
    let (mut stderr, mut line) = (BufReader::new(stderr), Vec::new());
    loop {
        let read = (&mut stderr).take(LINE_LEN).read_until(b'\n', &mut line);
        if read.map_err(lost)? == 0 {
            break;
        }
        log.read(&String::from_utf8_lossy(&line));
        line.clear();
    }
    let mut end = running.end().map_err(lost)?;
    let is_explained = end.status.success() || !log.damage.is_none();
    // A process that was killed has no status of its own.
    if log.ticks.is_empty() || end.status.code().is_none() || !is_explained {
        end.messages = log.damage.messages.join("; ");
        return Err(VideoError::Decode {
            path: path.into(),
            frame: log.ticks.len(),
            source: end,
        });
    }
    Ok(log)
}

/// Frames that a regular video lacks.
fn missing(times: &FrameTimes) -> Vec<MissingFrames> {
    let Some(usual) = times.usual_interval() else {
        return Vec::new();
    };
    let is_usual = |interval: i64| (interval - usual).abs() * 10 <= usual.max(10);
    let num_usual = times
        .intervals()
        .filter(|interval| is_usual(*interval))
        .count();
    // Where frames come at any time, none can be missed.
    if num_usual * 10 < (times.len() - 1) * 8 {
        return Vec::new();
    }
    let gaps = times.intervals().enumerate();
    gaps.filter_map(|(index, interval)| {
        let count = ((interval as f64 / usual as f64).round() as usize).saturating_sub(1);
        (count > 0).then_some(MissingFrames {
            before: index + 1,
            count,
        })
    })
    .collect()
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
                [start, duration].map(|units| (units as i64).saturating_mul(i64::from(numerator)));
            if start == last {
                tail.video_end = Some(start.saturating_add(duration));
            }
        }
    }
    Ok(tail)
}
