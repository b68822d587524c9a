//! Which rows of a table are inside the frames of a stack.

use std::path::Path;

use super::CountError;
use crate::{
    localizations::{Localization, LocalizationError, Table},
    tiff::FrameSource,
};

/// How far outside the frame, in pixels, an emitter may be fitted.
const BORDER: f32 = 1.0;
/// Rows outside the frames that a message names; the others are counted.
const ROWS_NAMED: usize = 3;
/// If more than one row in so many is outside, the table is of another stack or in another unit.
const ONE_OUTSIDE_IN: usize = 3;

/// The rows that are inside the frames, and notes on the others.
pub(super) fn rows_inside(
    stack: &dyn FrameSource,
    path: &Path,
    table: Table,
) -> Result<(Vec<Localization>, Vec<String>), CountError> {
    let num_rows = table.rows.len();
    if num_rows == 0 {
        return Err(LocalizationError::NoRows { path: path.into() }.into());
    }
    let num_frames = stack.num_frames();
    let mut notes = Vec::new();
    if let Some(note) = begins_at_one(&table.rows, num_frames) {
        notes.push(format!("{}: {note}", path.display()));
    }
    let (mut inside, mut outside) = (Vec::with_capacity(num_rows), Vec::new());
    for (row, line) in table.rows.into_iter().zip(table.lines) {
        match check_emitter(stack, &row) {
            Ok(()) => inside.push(row),
            Err(_) => outside.push((row, line)),
        }
    }
    if outside.is_empty() {
        return Ok((inside, notes));
    }
    let (num_outside, named) = (outside.len(), name(&outside));
    let (height, width) = (stack.height(), stack.width());
    if num_outside * ONE_OUTSIDE_IN > num_rows {
        return Err(CountError::RowsOutside {
            table: path.into(),
            stack: stack.path().into(),
            outside: num_outside,
            rows: num_rows,
            named,
            num_frames,
            height,
            width,
        });
    }
    notes.push(format!(
        "{}: left out {num_outside} of {num_rows} rows, which are outside the {num_frames} frames \
         of {height}×{width} pixels: {named}",
        path.display(),
    ));
    Ok((inside, notes))
}

/// A note if the frames of `rows` seem to be counted from 1.
fn begins_at_one(rows: &[Localization], num_frames: usize) -> Option<String> {
    let frames = || rows.iter().map(|row| row.frame);
    let (first, last) = (frames().min()?, frames().max()?);
    let ends_behind = last == num_frames;
    if first == 0 || (first > 1 && !ends_behind) {
        return None;
    }
    let end = match ends_behind {
        true => format!(
            " and frame {last} is behind the last frame, {}",
            num_frames - 1
        ),
        false => String::new(),
    };
    Some(format!(
        "frame 0 is never named{end}. If the table counts frames from 1, subtract 1 from its frames"
    ))
}

/// Names the first of some rows, which have their lines, and counts the others.
fn name(rows: &[(Localization, u64)]) -> String {
    let named = rows.iter().take(ROWS_NAMED).map(|(row, line)| {
        let Localization { frame, x, y, .. } = row;
        format!("line {line} (frame {frame}, x = {x}, y = {y})")
    });
    let named = named.collect::<Vec<_>>().join(", ");
    match rows.len().saturating_sub(ROWS_NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

/// Refuses an emitter that is in no frame, or outside its frame.
pub(super) fn check_emitter(
    stack: &dyn FrameSource,
    emitter: &Localization,
) -> Result<(), CountError> {
    let &Localization { frame, x, y, .. } = emitter;
    let (height, width) = (stack.height(), stack.width());
    let path = || stack.path().to_path_buf();
    if frame >= stack.num_frames() {
        return Err(CountError::FrameOutOfRange {
            path: path(),
            frame,
            num_frames: stack.num_frames(),
        });
    }
    let inside = |at: f32, len: usize| at >= -0.5 - BORDER && at <= len as f32 - 0.5 + BORDER;
    if !inside(x, width) || !inside(y, height) {
        return Err(CountError::OutsideFrame {
            path: path(),
            frame,
            x,
            y,
            height,
            width,
        });
    }
    Ok(())
}
