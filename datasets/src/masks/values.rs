//! Which pixels of masks are object, or of which class, decided over all files of a folder at their
//! full depth.

mod classes;
mod stored;

use std::{
    fmt,
    num::NonZero,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{image_file::ImageFileError, lock};
pub use classes::ClassRule;
pub(crate) use stored::{MaskValues, Palette};

/// What the values of the masks of a folder mean. Displayed as a sentence.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum MaskRule {
    /// Object and background.
    Object(ObjectRule),
    /// Several classes.
    Classes(ClassRule),
}

impl MaskRule {
    /// Decodes all masks and decides: object and background, or so many classes.
    pub(crate) fn measure(
        masks: &[PathBuf],
        num_classes: Option<usize>,
    ) -> Result<Self, ImageFileError> {
        Ok(match num_classes {
            None => Self::Object(ObjectRule::measure(masks)?),
            Some(num) => Self::Classes(ClassRule::measure(masks, num)?),
        })
    }

    /// Decodes a mask: 1 on the object and 0 elsewhere, or the number of each pixel's class and -1
    /// where it has none, `[height, width]`.
    pub(crate) fn read(&self, path: &Path) -> Result<(usize, usize, Vec<f32>), ImageFileError> {
        let palette = match self {
            Self::Object(_) => Palette::Object,
            Self::Classes(_) => Palette::Classes,
        };
        let mask = MaskValues::read(path, palette)?;
        let values = match self {
            Self::Object(rule) => rule.at_least(rule.least, &mask),
            Self::Classes(rule) => rule.apply(&mask),
        };
        Ok((mask.height, mask.width, values))
    }

    /// The share of all pixels that is not background, from 0 to 1.
    pub fn object_share(&self) -> f64 {
        match self {
            Self::Object(rule) => rule.object_share(),
            Self::Classes(rule) => rule.shares().iter().skip(1).sum(),
        }
    }
}

impl fmt::Display for MaskRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(rule) => rule.fmt(f),
            Self::Classes(rule) => rule.fmt(f),
        }
    }
}

/// Which values of the masks of a folder are object. Displayed as a sentence, with a warning where no
/// pixel or every pixel is object.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ObjectRule {
    /// Whether the object is in the alpha channel alone.
    by_alpha: bool,
    /// The least value of an object in files that keep values exactly.
    least: u16,
    /// The least value that belongs to the object in part, such as its edge after resampling.
    least_edge: u16,
    object_share: f64,
}

/// The least value of an object where the format does not keep values exactly.
const LEAST_IN_LOSSY: u16 = 128;

impl ObjectRule {
    /// The share of all pixels that is object, from 0 to 1.
    pub fn object_share(&self) -> f64 {
        self.object_share
    }

    /// Decodes all masks and decides what is object in them.
    pub(crate) fn measure(masks: &[PathBuf]) -> Result<Self, ImageFileError> {
        let read = |path: &PathBuf| MaskValues::read(path, Palette::Object);
        Ok(Sums::measure(masks, read)?.object_rule())
    }

    /// 1 on the object with its edges and 0 elsewhere: `[height, width]`.
    #[cfg(feature = "video")]
    pub(crate) fn apply_with_edges(&self, mask: &MaskValues) -> Vec<u8> {
        self.at_least(self.least_edge, mask)
    }

    fn at_least<T: From<bool>>(&self, least: u16, mask: &MaskValues) -> Vec<T> {
        let least = if mask.is_lossy { LEAST_IN_LOSSY } else { least };
        let value = |index: usize| match &mask.alpha {
            Some(alpha) if self.by_alpha => alpha[index],
            _ => mask.seen(index),
        };
        let indices = 0..mask.colours.len();
        indices
            .map(|index| T::from(value(index) >= least))
            .collect()
    }
}

impl fmt::Display for ObjectRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} % of the mask pixels are object",
            100.0 * self.object_share
        )?;
        if self.by_alpha {
            f.write_str(", by the alpha channel: the colour is the same everywhere")?;
        } else if self.least > 1 {
            write!(
                f,
                ", from the value {} on: smaller ones are noise or edges",
                self.least
            )?;
        }
        if self.object_share == 0.0 {
            f.write_str("; warning: no mask has an object")?;
        } else if self.object_share == 1.0 {
            f.write_str("; warning: every pixel is object, so there is nothing to tell apart")?;
        }
        Ok(())
    }
}

/// How often each value occurs.
struct Counts {
    /// In all pixels.
    all: Vec<u64>,
    /// In pixels whose neighbours to the right and below have the same value.
    flat: Vec<u64>,
}

/// What all masks of a folder have together.
#[derive(Default)]
struct Sums {
    exact: Counts,
    exact_alpha: Counts,
    lossy: Counts,
    /// Least and largest stored colour and opacity.
    colours: Option<(u16, u16)>,
    opacity: Option<(u16, u16)>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            all: vec![0; 1 << 16],
            flat: vec![0; 1 << 16],
        }
    }
}

impl Counts {
    fn add(&mut self, width: usize, len: usize, value: impl Fn(usize) -> u16) {
        for index in 0..len {
            let at = value(index);
            let right = (index + 1) % width == 0 || value(index + 1) == at;
            let below = index + width >= len || value(index + width) == at;
            self.all[usize::from(at)] += 1;
            self.flat[usize::from(at)] += u64::from(right && below);
        }
    }

    fn merge(&mut self, other: &Self) {
        for (mine, other) in [(&mut self.all, &other.all), (&mut self.flat, &other.flat)] {
            for (mine, other) in mine.iter_mut().zip(other) {
                *mine += other;
            }
        }
    }

    /// The least value of an object, and of its edge.
    ///
    /// Classes and instances are areas of one value, so every value but zero is object. A mask of two
    /// values that went through a lossy format or a resampling has other values too, but few next to
    /// each other that are alike: there half of the largest value is the limit.
    fn least(&self) -> (u16, u16) {
        /// A mask with noise has an object brighter than this.
        const MIN_BRIGHT: usize = 64;
        /// Fewer pixels of other values than this do not say what they are.
        const MIN_OTHERS: u64 = 16;
        let top = self.all.iter().rposition(|&count| count > 0).unwrap_or(0);
        if top < MIN_BRIGHT {
            return (1, 1);
        }
        let (bright, eighth) = (top - top / 16, top / 8);
        let sum = |counts: &[u64]| counts.iter().sum::<u64>();
        let (others, flat) = (sum(&self.all[1..bright]), sum(&self.flat[1..bright]));
        let between = sum(&self.all[eighth + 1..top - eighth]);
        let is_noise =
            others >= MIN_OTHERS && flat * 2 < others && between <= sum(&self.all[bright..]);
        if is_noise {
            ((top / 2 + 1) as u16, (eighth + 1) as u16)
        } else {
            (1, 1)
        }
    }

    fn num_from(&self, least: u16) -> u64 {
        self.all[usize::from(least)..].iter().sum()
    }
}

impl Sums {
    /// Decodes all masks, on all processors.
    fn measure(
        masks: &[PathBuf],
        read: impl Fn(&PathBuf) -> Result<MaskValues, ImageFileError> + Sync,
    ) -> Result<Self, ImageFileError> {
        let next = AtomicUsize::new(0);
        let sum = Mutex::new(Ok(Self::default()));
        let work = || {
            let mut mine = Self::default();
            while let Some(path) = masks.get(next.fetch_add(1, Ordering::Relaxed)) {
                match read(path) {
                    Ok(values) => mine.add(&values),
                    Err(error) => {
                        *lock(&sum) = Err(error);
                        return;
                    }
                }
            }
            if let Ok(sum) = lock(&sum).as_mut() {
                sum.merge(&mine);
            }
        };
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        thread::scope(|scope| {
            for _ in 0..threads.min(masks.len()) {
                scope.spawn(work);
            }
        });
        sum.into_inner()
            .unwrap_or_else(|broken| broken.into_inner())
    }

    fn add(&mut self, mask: &MaskValues) {
        let len = mask.colours.len();
        let counts = if mask.is_lossy {
            &mut self.lossy
        } else {
            &mut self.exact
        };
        counts.add(mask.width, len, |index| mask.seen(index));
        self.colours = widest(self.colours, range(&mask.colours));
        if let Some(alpha) = &mask.alpha {
            self.exact_alpha.add(mask.width, len, |index| alpha[index]);
            self.opacity = widest(self.opacity, range(alpha));
        }
    }

    fn merge(&mut self, other: &Self) {
        self.exact.merge(&other.exact);
        self.exact_alpha.merge(&other.exact_alpha);
        self.lossy.merge(&other.lossy);
        self.colours = widest(self.colours, other.colours);
        self.opacity = widest(self.opacity, other.opacity);
    }

    fn object_rule(&self) -> ObjectRule {
        let varies = |range: Option<(u16, u16)>| range.is_some_and(|(least, most)| least < most);
        let by_alpha = varies(self.opacity) && !varies(self.colours);
        let counts = if by_alpha {
            &self.exact_alpha
        } else {
            &self.exact
        };
        let (least, least_edge) = counts.least();
        let mut object = counts.num_from(least);
        let mut all = counts.num_from(0);
        if !by_alpha {
            object += self.lossy.num_from(LEAST_IN_LOSSY);
            all += self.lossy.num_from(0);
        }
        ObjectRule {
            by_alpha,
            least,
            least_edge,
            object_share: object as f64 / all.max(1) as f64,
        }
    }
}

fn range(values: &[u16]) -> Option<(u16, u16)> {
    Some((*values.iter().min()?, *values.iter().max()?))
}

fn widest(one: Option<(u16, u16)>, other: Option<(u16, u16)>) -> Option<(u16, u16)> {
    match (one, other) {
        (Some(one), Some(other)) => Some((one.0.min(other.0), one.1.max(other.1))),
        (one, other) => one.or(other),
    }
}
