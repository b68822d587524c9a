//! What the columns of a table mean, by the names that programs give them.

use csv::StringRecord;

use super::{Field, OPTIONAL};

/// What the numbers of a column measure.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Quantity {
    /// A distance along x (0) or y (1), in pixels or nanometres.
    Length {
        axis: usize,
    },
    Photons,
    /// Something that is read as it is written.
    Other,
}

/// Other names of a column of [`OPTIONAL`], with its quantity. A name that is only known with a
/// unit ends in `[]`.
fn names(field: &str) -> (&'static [&'static str], Quantity) {
    let along = |axis| Quantity::Length { axis };
    match field {
        "photons" => (&["phot", "intensity[]"], Quantity::Photons),
        "photons_sd" => (&["phot_sig"], Quantity::Photons),
        "bg" => (&["offset[]"], Quantity::Photons),
        "sx" => (&["sigma", "sigma1"], along(0)),
        "sy" => (&["sigma", "sigma2"], along(1)),
        "lpx" => (&["x_sig", "uncertainty_xy", "uncertainty"], along(0)),
        "lpy" => (&["y_sig", "uncertainty_xy", "uncertainty"], along(1)),
        "lpz" => (&["z_sig", "uncertainty_z"], Quantity::Other),
        _ => (&[], Quantity::Other),
    }
}

/// A column, and how its numbers become values of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Column {
    pub index: usize,
    /// The axis of a length in nanometres, which becomes pixels.
    pub nanometres: Option<usize>,
}

/// Where each column is.
#[derive(Debug)]
pub(super) struct Columns {
    pub frame: usize,
    pub x: Column,
    pub y: Column,
    /// In the order of [`OPTIONAL`].
    pub optional: Vec<(Column, Field, &'static str)>,
    /// Whether the header is that of ThunderSTORM: units in brackets, frames from 1, and positions
    /// in nanometres from the edge of the first pixel.
    pub is_thunderstorm: bool,
}

impl Columns {
    /// Finds the columns in a header; lengths without a unit are in nanometres if `is_nanometres`.
    ///
    /// # Errors
    /// If needed columns are missing: their names.
    pub(super) fn find(header: &StringRecord, is_nanometres: bool) -> Result<Self, Vec<String>> {
        let header: Vec<(String, Option<String>)> = header.iter().map(split_unit).collect();
        let find = |name: &str, quantity| {
            let (name, needs_unit) = match name.strip_suffix("[]") {
                Some(name) => (name, true),
                None => (name, false),
            };
            header
                .iter()
                .enumerate()
                .find_map(|(index, (other, unit))| {
                    if other != name || (needs_unit && unit.is_none()) {
                        return None;
                    }
                    let nanometres = fits(quantity, unit.as_deref(), is_nanometres)?;
                    Some(Column { index, nanometres })
                })
        };
        let mut missing = Vec::new();
        let mut need = |names: &[&str], quantity| {
            let found = names.iter().find_map(|name| find(name, quantity));
            found.unwrap_or_else(|| {
                missing.push(names[0].to_string());
                Column {
                    index: 0,
                    nanometres: None,
                }
            })
        };
        let frame = need(&["frame", "frame_ix"], Quantity::Other).index;
        let x = need(&["x"], Quantity::Length { axis: 0 });
        let y = need(&["y"], Quantity::Length { axis: 1 });
        if !missing.is_empty() {
            return Err(missing);
        }
        let optional = OPTIONAL.into_iter().filter_map(|(name, field)| {
            let (others, quantity) = names(name);
            let mut names = std::iter::once(name).chain(others.iter().copied());
            let column = names.find_map(|name| find(name, quantity))?;
            Some((column, field, name))
        });
        Ok(Self {
            frame,
            x,
            y,
            optional: optional.collect(),
            is_thunderstorm: header[x.index].1.is_some(),
        })
    }

    /// The first column of lengths in nanometres, which have to become pixels.
    pub(super) fn in_nanometres(&self) -> Option<usize> {
        let optional = self.optional.iter().map(|(column, ..)| *column);
        let mut all = [self.x, self.y].into_iter().chain(optional);
        let found = all.find(|column| column.nanometres.is_some())?;
        Some(found.index)
    }
}

/// The name of a column in lower case, and its unit: `x [nm]` is `x` in `nm`.
fn split_unit(text: &str) -> (String, Option<String>) {
    let text = text.trim().to_lowercase();
    match text.strip_suffix(']').and_then(|text| text.split_once('[')) {
        Some((name, unit)) => (name.trim().to_owned(), Some(unit.trim().to_owned())),
        None => (text, None),
    }
}

/// Whether numbers in `unit` can be read as `quantity`: the axis if they are nanometres to be made
/// pixels, and `None` for a unit that is not known.
fn fits(quantity: Quantity, unit: Option<&str>, is_nanometres: bool) -> Option<Option<usize>> {
    match (quantity, unit) {
        (Quantity::Length { axis }, Some("nm")) => Some(Some(axis)),
        (Quantity::Length { .. }, Some("px" | "pixel" | "pixels")) => Some(None),
        (Quantity::Length { axis }, None) => Some(is_nanometres.then_some(axis)),
        (Quantity::Photons, None | Some("photon" | "photons")) => Some(None),
        (Quantity::Other, None | Some("nm")) => Some(None),
        _ => None,
    }
}
