//! What a network's numbers mean, taken from the data it learns from.

use burn_memopt_datasets::localizations::Localization;
use burn_memopt_datasets::normalization::Normalization;
use burn_memopt_models::decode::{Attribute, Emitter, FoundEmitter, InputScale, OutputScale};
use serde::Serialize;

/// How much brighter than the brightest emitter, or than the highest background, an output of 1
/// is: values at the end of an activation's range are hard to reach.
const PHOTON_ROOM: f32 = 1.2;
const BACKGROUND_ROOM: f32 = 2.0;

/// What a network's numbers mean, and what the table of emitters knows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Units {
    /// Camera counts to inputs.
    pub input: InputScale,
    /// Outputs to photons and pixels.
    pub output: OutputScale,
    /// Background of a frame without emitters, in photons a pixel: the mean of all that are known.
    pub empty_background: f32,
    /// Whether every emitter has photons.
    pub knows_photons: bool,
    /// Whether every emitter has a position along the optical axis.
    pub knows_z: bool,
    /// Whether every emitter has a background.
    pub knows_background: bool,
}

impl Units {
    /// The units of counts that were measured and of emitters that are known.
    pub fn new<'a>(
        counts: Normalization,
        emitters: impl IntoIterator<Item = &'a Localization>,
    ) -> Self {
        let [mut photons, mut z, mut background] = [AttributeRange::default(); 3];
        for emitter in emitters {
            photons.add(emitter.photons);
            z.add(emitter.z.map(f32::abs));
            background.add(emitter.bg);
        }
        let range = counts.high - counts.low;
        let mut output = OutputScale::new(
            photons.scale(PHOTON_ROOM),
            background.scale(BACKGROUND_ROOM),
        );
        output.z = z.scale(PHOTON_ROOM);
        Self {
            input: InputScale {
                offset: counts.low,
                scale: if range > 0.0 { range } else { 1.0 },
            },
            output,
            empty_background: background.mean(),
            knows_photons: photons.is_known(),
            knows_z: z.is_known(),
            knows_background: background.is_known(),
        }
    }

    /// Attributes that cannot be learned.
    pub fn disabled(&self) -> Vec<Attribute> {
        let known = [
            (Attribute::Photons, self.knows_photons),
            (Attribute::Z, self.knows_z),
        ];
        let unknown = known.into_iter().filter(|(_, is_known)| !is_known);
        unknown.map(|(attribute, _)| attribute).collect()
    }

    /// Attributes that cannot be learned from a generated stack.
    pub fn disabled_when_generated() -> Vec<Attribute> {
        vec![Attribute::Z]
    }

    /// An emitter of the table as a target; what is not known is 0.
    pub fn emitter(&self, row: &Localization) -> Emitter {
        let known = |value: Option<f32>, is_known| value.filter(|_| is_known).unwrap_or_default();
        Emitter {
            x: row.x,
            y: row.y,
            z: known(row.z, self.knows_z),
            photons: known(row.photons, self.knows_photons),
        }
    }

    /// The background of a frame in photons a pixel: the mean of what its emitters say.
    pub fn background(&self, emitters: &[Localization]) -> f32 {
        let known: Vec<f32> = emitters.iter().filter_map(|emitter| emitter.bg).collect();
        if known.is_empty() {
            self.empty_background
        } else {
            known.iter().sum::<f32>() / known.len() as f32
        }
    }

    /// A found emitter as a row of a table.
    pub fn row(&self, frame: usize, found: &FoundEmitter) -> Localization {
        let FoundEmitter { emitter, .. } = found;
        let known = |value: f32, is_known: bool| is_known.then_some(value);
        Localization {
            photons: known(emitter.photons, self.knows_photons),
            photons_sd: known(found.photons_sigma, self.knows_photons),
            z: known(emitter.z, self.knows_z),
            lpz: known(found.z_sigma, self.knows_z),
            bg: known(found.background, self.knows_background),
            lpx: Some(found.x_sigma),
            lpy: Some(found.y_sigma),
            prob: Some(found.prob),
            ..Localization::new(frame, emitter.x, emitter.y)
        }
    }
}

/// What is known of an attribute of the emitters so far.
#[derive(Clone, Copy, Default)]
struct AttributeRange {
    largest: f32,
    sum: f64,
    num_known: usize,
    num_unknown: usize,
}

impl AttributeRange {
    fn add(&mut self, value: Option<f32>) {
        match value {
            Some(value) => {
                self.largest = self.largest.max(value);
                self.sum += f64::from(value);
                self.num_known += 1;
            }
            None => self.num_unknown += 1,
        }
    }

    fn is_known(&self) -> bool {
        self.num_unknown == 0 && self.largest > 0.0
    }

    /// What an output of 1 stands for.
    fn scale(&self, room: f32) -> f32 {
        if self.is_known() {
            room * self.largest
        } else {
            1.0
        }
    }

    fn mean(&self) -> f32 {
        if self.num_known == 0 {
            0.0
        } else {
            (self.sum / self.num_known as f64) as f32
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTS: Normalization = Normalization {
        low: 100.0,
        high: 100.0,
    };

    #[test]
    fn what_one_emitter_lacks_is_not_learned() {
        let known = Localization {
            photons: Some(800.0),
            bg: Some(10.0),
            ..Localization::new(0, 1.0, 2.0)
        };
        let lacking = Localization { bg: None, ..known };
        let units = Units::new(COUNTS, [&known, &lacking]);
        assert_eq!(units.disabled(), [Attribute::Z]);
        assert!(!units.knows_background);
        assert_eq!(units.output.photons, PHOTON_ROOM * 800.0);
        assert_eq!(units.background(&[]), 10.0);
        // A stack of one value is shifted only.
        assert_eq!(units.input.apply(101.0), 1.0);
    }

    #[test]
    fn a_table_of_positions_alone_leaves_positions_alone() {
        let units = Units::new(COUNTS, [&Localization::new(0, 1.0, 2.0)]);
        assert_eq!(units.disabled(), [Attribute::Photons, Attribute::Z]);
        let emitter = units.emitter(&Localization::new(0, 1.0, 2.0));
        assert_eq!((emitter.photons, emitter.z), (0.0, 0.0));
    }
}
