//! The messages of `ffmpeg` while it decodes: times of frames, and what is damaged.

use super::{damage::Damage, info::Description, program::without_address};

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

#[cfg(test)]
mod tests {
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
}
