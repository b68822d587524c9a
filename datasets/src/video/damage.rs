//! What of a video file cannot be read as it was written.

use std::fmt;

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
