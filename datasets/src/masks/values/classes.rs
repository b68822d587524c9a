//! Which class each value of a folder's masks is.

use std::{fmt, path::PathBuf};

use super::{Counts, MaskValues, Palette, Sums};
use crate::image_file::ImageFileError;

/// The value of pixels that belong to no class, where it is no class itself: many data sets mark
/// the edges of objects with it.
const VOID: u16 = 255;

/// The values of the classes in the masks of a folder. Displayed as a sentence, with a warning for
/// classes that no pixel has.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassRule {
    /// The value of each class.
    values: Vec<u16>,
    /// Whether [`VOID`] is no class.
    has_void: bool,
    shares: Vec<f64>,
}

impl ClassRule {
    /// The share of each class of the pixels that have a class, from 0 to 1.
    pub fn shares(&self) -> &[f64] {
        &self.shares
    }

    /// Decodes all masks and decides which value is which class.
    ///
    /// Values are the numbers of classes, from 0, if all are below `num_classes`; 255 may be more,
    /// for pixels of no class. As many other values as classes are numbered in their order.
    pub(super) fn measure(masks: &[PathBuf], num_classes: usize) -> Result<Self, ImageFileError> {
        let read = |path: &PathBuf| {
            let mask = MaskValues::read(path, Palette::Classes)?;
            let why = match &mask {
                mask if mask.is_lossy => "its format does not keep them exactly",
                mask if mask.is_coloured => "its pixels have colours",
                _ => return Ok(mask),
            };
            Err(ImageFileError::NoClasses {
                path: path.clone(),
                why,
            })
        };
        let counts = Sums::measure(masks, read)?.exact;
        Self::new(&counts, num_classes).map_err(|values| ImageFileError::OtherClasses {
            path: masks[0].parent().unwrap_or(&masks[0]).into(),
            num_classes,
            values,
        })
    }

    /// The values that occur, as text, where they are not so many classes.
    fn new(counts: &Counts, num_classes: usize) -> Result<Self, String> {
        let seen = |value: &u16| counts.all[usize::from(*value)] > 0;
        let mut found: Vec<u16> = (0..=u16::MAX).filter(seen).collect();
        let are_numbers = |values: &[u16]| values.iter().all(|&v| usize::from(v) < num_classes);
        let numbers = || (0..num_classes).map(|number| number as u16).collect();
        let has_void = found.last() == Some(&VOID)
            && num_classes <= usize::from(VOID)
            && are_numbers(&found[..found.len() - 1]);
        let values: Vec<u16> = if has_void || are_numbers(&found) {
            numbers()
        } else if found.len() == num_classes {
            found
        } else {
            const MAX_NAMED: usize = 10;
            let more = if found.len() > MAX_NAMED { ", …" } else { "" };
            let num_found = found.len();
            found.truncate(MAX_NAMED);
            let named: Vec<_> = found.iter().map(u16::to_string).collect();
            return Err(format!("{num_found} values: {}{more}", named.join(", ")));
        };
        let num = |value: &u16| counts.all[usize::from(*value)];
        let all = values.iter().map(num).sum::<u64>().max(1);
        Ok(Self {
            shares: values
                .iter()
                .map(|value| num(value) as f64 / all as f64)
                .collect(),
            values,
            has_void,
        })
    }

    /// The number of each pixel's class, -1 where it has none: `[height, width]`.
    pub(super) fn apply(&self, mask: &MaskValues) -> Vec<f32> {
        let class = |index: usize| match self.values.binary_search(&mask.seen(index)) {
            Ok(class) => class as f32,
            Err(_) => -1.0,
        };
        (0..mask.colours.len()).map(class).collect()
    }
}

impl fmt::Display for ClassRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares: Vec<_> = self
            .shares
            .iter()
            .map(|share| format!("{:.2} %", 100.0 * share))
            .collect();
        write!(
            f,
            "the classes are {} of the mask pixels",
            shares.join(", ")
        )?;
        let are_numbers = self
            .values
            .iter()
            .zip(0..)
            .all(|(value, number)| *value == number);
        if !are_numbers {
            let values: Vec<_> = self.values.iter().map(u16::to_string).collect();
            write!(f, ", of the values {}", values.join(", "))?;
        }
        if self.has_void {
            write!(
                f,
                "; pixels of the value {VOID} belong to no class and do not count"
            )?;
        }
        let missing: Vec<_> = (0..self.shares.len())
            .filter(|&class| self.shares[class] == 0.0)
            .map(|class| class.to_string())
            .collect();
        match &missing[..] {
            [] => Ok(()),
            [class] => write!(f, "; warning: no pixel is of class {class}"),
            classes => write!(
                f,
                "; warning: no pixel is of the classes {}",
                classes.join(", ")
            ),
        }
    }
}
