//! What people read.

use std::time::Duration;

use burn_memopt::memory::Bytes;
use indicatif::HumanDuration;

use super::event::Row;

/// So many of something.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// An amount, or that it is unknown.
pub fn shown(bytes: Option<Bytes>) -> String {
    bytes.map_or("unknown".into(), |bytes| bytes.to_string())
}

/// One line of progress.
pub fn line(
    done: usize,
    all: usize,
    memory: [Option<Bytes>; 2],
    seconds_left: Option<f64>,
) -> String {
    let [now, peak] = memory.map(shown);
    let mut line = format!("window {done}/{all}  memory {now}, peak {peak}");
    if let Some(seconds) = seconds_left {
        let left = Duration::from_secs(seconds.ceil() as u64);
        line += &format!("  {} left", HumanDuration(left));
    }
    line
}

/// One line a file, for people.
pub fn table(rows: &[Row]) -> String {
    let header = [
        "file", "pages", "pixels", "window", "windows", "seconds", "result",
    ];
    let cells = rows.iter().map(|row| {
        [
            row.input.clone(),
            row.pages.to_string(),
            format!("{}×{}", row.height, row.width),
            format!("{}×{}", row.window[0], row.window[1]),
            row.windows_run.to_string(),
            format!("{:.1}", row.seconds),
            row.output.clone(),
        ]
    });
    let lines: Vec<_> = std::iter::once(header.map(Into::into))
        .chain(cells)
        .collect();
    let width = |column: usize| {
        let lens = lines
            .iter()
            .map(|line: &[String; 7]| line[column].chars().count());
        lens.max().unwrap_or(0)
    };
    let widths: [usize; 7] = std::array::from_fn(width);
    let line = |cells: &[String; 7]| {
        let padded = cells.iter().zip(widths);
        let padded = padded.map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    lines.iter().map(line).collect()
}
