//! The rule that fills a network's parameters from their names and shapes.

use regex::Regex;
use serde_json::Value;

use crate::harness;

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// Fills tensors under one gain table and one salt.
pub struct Fill {
    gains: Vec<(Regex, f64)>,
    offsets: Vec<(Regex, f32)>,
    salt: String,
}

impl Fill {
    /// Reads the table `name` of `fill_rule.json`.
    pub fn new(name: &str, salt: &str) -> Self {
        let rule = harness::json("fill_rule.json");
        let gains = entries(&rule["gain_tables"][name]);
        let offsets = entries(&rule["offset_tables"][name]);
        Self {
            gains,
            offsets: offsets.into_iter().map(|(p, v)| (p, v as f32)).collect(),
            salt: salt.into(),
        }
    }

    /// The values of the float tensor `name` of `shape`, row-major.
    pub fn values(&self, name: &str, shape: &[usize]) -> Vec<f32> {
        let seed = self.seed(name);
        let kind = Kind::of(name, shape, self.gain(name));
        let offset = first_match(&self.offsets, name).unwrap_or(0.0);
        let len: usize = shape.iter().product();
        (0..len as u64)
            .map(|i| {
                let value = kind.value(splitmix(seed, i));
                if offset == 0.0 { value } else { offset + value }
            })
            .collect()
    }

    /// FNV-1a over the name and the salt.
    pub fn seed(&self, name: &str) -> u64 {
        let bytes = name.bytes().chain(self.salt.bytes());
        bytes.fold(FNV_OFFSET, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)
        })
    }

    fn gain(&self, name: &str) -> f64 {
        first_match(&self.gains, name).unwrap_or(1.0)
    }
}

/// The sum of all 32-bit patterns.
pub fn bit_sum(values: &[f32]) -> u64 {
    values.iter().map(|v| u64::from(v.to_bits())).sum()
}

fn entries(table: &Value) -> Vec<(Regex, f64)> {
    let entries = table.as_array().map(Vec::as_slice).unwrap_or_default();
    entries
        .iter()
        .map(|entry| {
            let pattern = Regex::new(entry[0].as_str().expect("a pattern")).expect("a regex");
            (pattern, entry[1].as_f64().expect("a number"))
        })
        .collect()
}

fn first_match<T: Copy>(entries: &[(Regex, T)], name: &str) -> Option<T> {
    let found = entries.iter().find(|(pattern, _)| pattern.is_match(name));
    found.map(|&(_, value)| value)
}

/// Output `i` of splitmix64 as a float in [0, 1).
fn splitmix(seed: u64, i: u64) -> f32 {
    let z = seed.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 * (1.0 / 16_777_216.0)
}

/// How a uniform number becomes a value.
enum Kind {
    Constant(f32),
    Symmetric(f32),
    Variance,
    NormWeight,
}

impl Kind {
    fn of(name: &str, shape: &[usize], gain: f64) -> Self {
        let last = name.rsplit('.').next().unwrap_or(name);
        match (last, shape.len()) {
            ("sigma_eps", _) => Self::Constant(0.001),
            ("running_mean", _) => Self::Symmetric(0.1),
            ("running_var", _) => Self::Variance,
            (_, 2..) => {
                let fan: usize = shape[1..].iter().product();
                Self::Symmetric((gain * (3.0 / fan as f64).sqrt()) as f32)
            }
            ("weight", 1) => Self::NormWeight,
            ("bias", _) => Self::Symmetric((gain * 0.05) as f32),
            _ => Self::Symmetric(0.1),
        }
    }

    fn value(&self, u: f32) -> f32 {
        let r = 2.0 * u - 1.0;
        match *self {
            Self::Constant(value) => value,
            Self::Symmetric(amplitude) => amplitude * r,
            Self::Variance => 1.0 + 0.5 * u,
            Self::NormWeight => 1.0 + 0.1f32 * r,
        }
    }
}
