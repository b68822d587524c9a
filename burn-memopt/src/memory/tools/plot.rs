use std::io::Cursor;
use std::sync::{Arc, Once};

use image::{ImageFormat, imageops};
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::{FontStyle, register_font};

use super::MemorySample;
use crate::memory::Bytes;

/// Drawing and encoding fail in several ways that mean the same to the caller.
pub(super) type PlotError = Box<dyn std::error::Error + Send + Sync>;

/// The moment a phase began.
#[derive(Debug, Clone)]
pub(super) struct PhaseMark {
    pub seconds: f64,
    pub phase: Arc<str>,
}

/// Width and height in pixels.
const SIZE: (u32, u32) = (1200, 640);

/// Drawn at twice the size and scaled down: text keeps its spacing and lines get smooth edges.
/// All lengths below are in pixels of the drawing.
const OVERSAMPLING: u32 = 2;
const DRAWN: (u32, u32) = (OVERSAMPLING * SIZE.0, OVERSAMPLING * SIZE.1);

const FONT: &str = "sans-serif";
const TEXT: RGBColor = RGBColor(45, 52, 60);
const MUTED: RGBColor = RGBColor(120, 128, 136);
const NAME: RGBColor = RGBColor(88, 96, 104);
const GRID: RGBColor = RGBColor(228, 231, 234);

/// Height above the chart, for the title and the legend.
const HEADER: u32 = 156;

/// Left end of title and legend.
const INDENT: i32 = 48;

/// Marks closer together than this are drawn as one.
const MIN_MARK_DISTANCE: i32 = 8;

/// Lines of phase names inside the chart; a name that fits none is left out.
const MAX_LABEL_LINES: usize = 3;

/// Characters of a phase name that are shown.
const MAX_LABEL_LEN: usize = 28;

type Canvas<'a> = DrawingArea<BitMapBackend<'a>, Shift>;
type Chart<'a> = ChartContext<'a, BitMapBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// One quantity over time.
struct Line {
    name: &'static str,
    color: RGBColor,
    width: u32,
    amount: fn(&MemorySample) -> Option<Bytes>,
}

/// In drawing order: what matters most comes last, on top.
const LINES: [Line; 5] = [
    Line {
        name: "process",
        color: RGBColor(150, 160, 170),
        width: 5,
        amount: |row| row.process_rss,
    },
    Line {
        name: "live peak",
        color: RGBColor(247, 189, 126),
        width: 3,
        amount: |row| row.live_peak,
    },
    Line {
        name: "live",
        color: RGBColor(222, 110, 20),
        width: 5,
        amount: |row| row.live,
    },
    Line {
        name: "device peak",
        color: RGBColor(134, 182, 232),
        width: 3,
        amount: |row| row.device_peak,
    },
    Line {
        name: "device in use",
        color: RGBColor(23, 105, 190),
        width: 5,
        amount: |row| row.device_in_use,
    },
];

/// Gives plots a font, so that they look the same on every machine and need none installed.
///
/// [`MemoryTracker::plot`](super::MemoryTracker::plot) calls it. A program that draws with
/// `plotters` by itself, or through criterion, in the same build calls it once before, since
/// `plotters` is compiled here without access to the system's fonts. The font becomes `sans-serif`.
pub fn register_plot_font() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        let font = epaint_default_fonts::UBUNTU_LIGHT;
        let registered = register_font(FONT, FontStyle::Normal, font);
        debug_assert!(registered.is_ok(), "the font of the crate is a font");
    });
}

/// Draws the history and encodes it as PNG.
pub(super) fn draw(rows: &[MemorySample], marks: &[PhaseMark]) -> Result<Vec<u8>, PlotError> {
    register_plot_font();
    let mut pixels = vec![255; (DRAWN.0 * DRAWN.1 * 3) as usize];
    {
        let canvas = BitMapBackend::with_buffer(&mut pixels, DRAWN).into_drawing_area();
        draw_header(&canvas, rows)?;
        draw_chart(&canvas, rows, marks)?;
        canvas.present()?;
    }
    let drawn = image::RgbImage::from_raw(DRAWN.0, DRAWN.1, pixels)
        .ok_or("the pixels do not fill the picture")?;
    let mut png = Cursor::new(Vec::new());
    imageops::thumbnail(&drawn, SIZE.0, SIZE.1).write_to(&mut png, ImageFormat::Png)?;
    Ok(png.into_inner())
}

/// The title, and for every line with data its colour, name and highest amount.
fn draw_header(canvas: &Canvas, rows: &[MemorySample]) -> Result<(), PlotError> {
    let title = (FONT, 54).into_font().color(&TEXT);
    canvas.draw(&Text::new("Memory over time", (INDENT, 26), title))?;
    let style = (FONT, 35).into_font().color(&TEXT);
    let mut left = INDENT;
    for line in &LINES {
        let Some(highest) = rows.iter().filter_map(line.amount).max() else {
            continue;
        };
        let swatch = [(left, 108), (left + 36, 115)];
        canvas.draw(&Rectangle::new(swatch, line.color.filled()))?;
        let text = format!("{}, max {highest}", line.name);
        let (width, _) = canvas.estimate_text_size(&text, &style)?;
        canvas.draw(&Text::new(text, (left + 50, 95), style.clone()))?;
        left += width as i32 + 98;
    }
    if left == INDENT {
        let style = style.color(&MUTED);
        canvas.draw(&Text::new("no samples", (left, 95), style))?;
    }
    Ok(())
}

fn draw_chart(
    canvas: &Canvas,
    rows: &[MemorySample],
    marks: &[PhaseMark],
) -> Result<(), PlotError> {
    let amounts = LINES
        .iter()
        .flat_map(|line| rows.iter().filter_map(line.amount));
    let highest = amounts.max().unwrap_or_default().as_mib();
    // Room above the lines, for the names of the phases if there are any.
    let headroom = if marks.is_empty() { 1.05 } else { 1.22 };
    let top = (highest * headroom).max(1.0);
    let last_row = rows.last().map_or(0.0, |row| row.seconds);
    let last_mark = marks.last().map_or(0.0, |mark| mark.seconds);
    let end = last_row.max(last_mark).max(1e-3);

    let mut chart = ChartBuilder::on(canvas)
        .margin_top(HEADER)
        .margin_right(60)
        .margin_bottom(24)
        .margin_left(16)
        .x_label_area_size(104)
        .y_label_area_size(164)
        .build_cartesian_2d(0.0..end, 0.0..top)?;
    let (end_decimals, top_decimals) = (decimals(end), decimals(top));
    chart
        .configure_mesh()
        .bold_line_style(GRID.stroke_width(OVERSAMPLING))
        .light_line_style(TRANSPARENT)
        .axis_style(MUTED.stroke_width(OVERSAMPLING))
        .set_all_tick_mark_size(10)
        .label_style((FONT, 34).into_font().color(&TEXT))
        .axis_desc_style((FONT, 36).into_font().color(&TEXT))
        .x_desc("seconds")
        .y_desc("MiB")
        .x_labels(12)
        .y_labels(9)
        .x_label_formatter(&|seconds| format!("{seconds:.end_decimals$}"))
        .y_label_formatter(&|mib| format!("{mib:.top_decimals$}"))
        .draw()?;
    for line in &LINES {
        draw_line(&mut chart, rows, line)?;
    }
    draw_marks(canvas, &mut chart, marks, top)
}

/// Segments with round joints: the joints of a plotters polyline shoot out far beyond the chart
/// where a line turns back, as memory does every step.
fn draw_line(chart: &mut Chart, rows: &[MemorySample], line: &Line) -> Result<(), PlotError> {
    let points: Vec<(f64, f64)> = rows
        .iter()
        .filter_map(|row| Some((row.seconds, (line.amount)(row)?.as_mib())))
        .collect();
    let style = line.color.stroke_width(line.width);
    chart.draw_series(
        points
            .windows(2)
            .map(|ends| PathElement::new([ends[0], ends[1]], style)),
    )?;
    let joint = |&point| Circle::new(point, line.width / 2, line.color.filled());
    chart.draw_series(points.iter().map(joint))?;
    Ok(())
}

/// Decimals that distinguish about ten labels on an axis from zero to `end`.
fn decimals(end: f64) -> usize {
    (1.0 - end.log10().floor()).clamp(0.0, 5.0) as usize
}

/// A vertical line where a phase began, its name to the right of it at the top.
fn draw_marks<'a>(
    canvas: &Canvas<'a>,
    chart: &mut Chart<'a>,
    marks: &[PhaseMark],
    top: f64,
) -> Result<(), PlotError> {
    let mut last_left = i32::MIN;
    let mut names = Vec::new();
    for mark in marks {
        let (left, ceiling) = chart.backend_coord(&(mark.seconds, top));
        let name = shortened(&mark.phase);
        if left.saturating_sub(last_left) < MIN_MARK_DISTANCE
            && let Some((_, _, last_name)) = names.last_mut()
        {
            // The later phase is the one that lasts.
            *last_name = name;
            continue;
        }
        last_left = left;
        let ends = [(mark.seconds, 0.0), (mark.seconds, top)];
        let style = MUTED.mix(0.7).stroke_width(OVERSAMPLING);
        chart.draw_series([PathElement::new(ends, style)])?;
        names.push((left, ceiling, name));
    }
    draw_names(canvas, names)
}

/// Names at their left ends, each on the first line where it has room.
fn draw_names(canvas: &Canvas, names: Vec<(i32, i32, String)>) -> Result<(), PlotError> {
    let style = (FONT, 32).into_font().color(&NAME);
    let mut free_from = [i32::MIN; MAX_LABEL_LINES];
    for (mark, ceiling, name) in names {
        let (width, height) = canvas.estimate_text_size(&name, &style)?;
        let (left, right) = (mark + 10, mark + 14 + width as i32);
        let free = free_from.iter().position(|&free| free <= left);
        let Some(line) = free.filter(|_| right < DRAWN.0 as i32) else {
            continue;
        };
        free_from[line] = right + 10;
        let line_height = height as i32 + 12;
        let upper = ceiling + 8 + line as i32 * line_height;
        // Other marks may pass behind the name.
        let backing = [(left - 4, upper), (right, upper + line_height - 2)];
        canvas.draw(&Rectangle::new(backing, WHITE.filled()))?;
        canvas.draw(&Text::new(name, (left, upper + 4), style.clone()))?;
    }
    Ok(())
}

fn shortened(phase: &str) -> String {
    match phase.char_indices().nth(MAX_LABEL_LEN) {
        Some((end, _)) => format!("{}…", &phase[..end]),
        None => phase.into(),
    }
}

#[cfg(test)]
mod tests;
