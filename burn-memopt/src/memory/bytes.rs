//! Amounts of memory.
//!
//! Pure.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul, Sub, SubAssign};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An amount of memory in bytes.
///
/// Reads what people write (`"6GiB"`, `"512 MiB"`, `"1.5GB"`, `"1000"`) and shows binary units
/// with one decimal (`6.0 GiB`). Arithmetic saturates: an amount of memory neither wraps around
/// nor goes below zero.
///
/// In files it is written as the exact number of bytes; it is read from an integer or from any
/// text that [`FromStr`] accepts.
///
/// # Exactness
/// Arithmetic and files are exact up to 2^64 - 1 bytes. [`Display`](fmt::Display) rounds to one
/// decimal; a fraction of a byte in the text is dropped.
///
/// # Example
/// ```
/// use burn_memopt::memory::Bytes;
///
/// let budget: Bytes = "1.5GiB".parse()?;
/// assert_eq!(budget, Bytes::mib(1536));
/// assert_eq!(budget.to_string(), "1.5 GiB");
/// assert_eq!(Bytes::mib(1) - Bytes::mib(2), Bytes::ZERO);
/// # Ok::<(), burn_memopt::memory::ParseBytesError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes(u64);

/// A text that is no amount of memory.
#[derive(thiserror::Error, Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseBytesError {
    /// The text is not a number with an optional unit.
    #[error(
        "`{input}` is no amount of memory; write a number of bytes (`1000`) or a number with a unit \
         (`6GiB`, `1.5 GB`), the unit being one of B, KiB, MiB, GiB, TiB (powers of 1024) or KB, \
         MB, GB, TB (powers of 1000)"
    )]
    Malformed {
        /// The text as it was given.
        input: String,
    },
    /// The amount is 2^64 bytes or more.
    #[error(
        "`{input}` is more than {} bytes, the largest amount of memory that can be written",
        u64::MAX
    )]
    TooLarge {
        /// The text as it was given.
        input: String,
    },
}

/// Decimals that count; further ones are below one byte of a tebibyte and are dropped.
const MAX_DECIMALS: usize = 18;

impl Bytes {
    /// No memory at all.
    pub const ZERO: Self = Self(0);

    /// The largest amount, where arithmetic saturates.
    pub const MAX: Self = Self(u64::MAX);

    /// `bytes` bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// `kib` KiB of 1024 bytes each.
    pub const fn kib(kib: u64) -> Self {
        Self(kib.saturating_mul(1 << 10))
    }

    /// `mib` MiB of 1024² bytes each.
    pub const fn mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// `gib` GiB of 1024³ bytes each.
    pub const fn gib(gib: u64) -> Self {
        Self(gib.saturating_mul(1 << 30))
    }

    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The amount in MiB of 1024² bytes, with its fraction.
    pub fn as_mib(self) -> f64 {
        self.0 as f64 / (1u64 << 20) as f64
    }

    /// The least amount, not below this one, that is shown without rounding: what to advise, since
    /// people copy what they read.
    ///
    /// ```
    /// use burn_memopt::memory::Bytes;
    ///
    /// let needed = Bytes::new(5_340_000);
    /// assert_eq!(needed.to_string(), "5.1 MiB");
    /// assert_eq!(needed.to_advise().to_string(), "5.1 MiB");
    /// assert!(needed.to_advise() >= needed);
    /// assert_eq!("5.1 MiB".parse(), Ok(needed.to_advise()));
    /// ```
    pub fn to_advise(self) -> Self {
        let mut advised = self;
        loop {
            match advised.to_string().parse::<Self>() {
                Ok(shown) if shown < self => advised += Self(advised.0 / 64 + 1),
                Ok(shown) => return shown,
                Err(_) => return advised,
            }
        }
    }

    /// This amount times `factor`, rounded down.
    ///
    /// # Panics
    /// If `factor` is negative or not a number.
    pub fn scale(self, factor: f64) -> Self {
        assert!(factor >= 0.0, "factor must be at least 0, got {factor}");
        Self((self.0 as f64 * factor) as u64)
    }

    /// This amount as a share of `whole`: 0.25 for a quarter, `None` if `whole` is zero.
    ///
    /// ```
    /// use burn_memopt::memory::Bytes;
    ///
    /// assert_eq!(Bytes::mib(1).share_of(Bytes::mib(4)), Some(0.25));
    /// assert_eq!(Bytes::mib(1).share_of(Bytes::ZERO), None);
    /// ```
    pub fn share_of(self, whole: Self) -> Option<f64> {
        (whole.0 != 0).then(|| self.0 as f64 / whole.0 as f64)
    }
}

impl From<u64> for Bytes {
    fn from(bytes: u64) -> Self {
        Self(bytes)
    }
}

impl Add for Bytes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Bytes {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Bytes {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl SubAssign for Bytes {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Mul<u64> for Bytes {
    type Output = Self;

    fn mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

impl Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1024 {
            return f.pad(&format!("{} B", self.0));
        }
        let mut amount = self.0 as f64 / 1024.0;
        let mut unit = "KiB";
        for larger in ["MiB", "GiB", "TiB", "PiB", "EiB"] {
            // From 1023.95 on, one decimal would show 1024.0 of the smaller unit.
            if amount < 1023.95 {
                break;
            }
            amount /= 1024.0;
            unit = larger;
        }
        f.pad(&format!("{amount:.1} {unit}"))
    }
}

impl FromStr for Bytes {
    type Err = ParseBytesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || ParseBytesError::Malformed { input: text.into() };
        let too_large = || ParseBytesError::TooLarge { input: text.into() };

        let trimmed = text.trim();
        let number_len = trimmed
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(number_len);
        let unit = unit_bytes(unit.trim_start()).ok_or_else(malformed)?;
        let (whole, decimals) = match number.split_once('.') {
            Some((_, "")) => return Err(malformed()),
            Some((whole, decimals)) => (whole, decimals),
            None => (number, ""),
        };
        let is_digits = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
        if whole.is_empty() || !is_digits(whole) || !is_digits(decimals) {
            return Err(malformed());
        }

        // Whole numbers all the way: a float would be off by some bytes from 2^53 on. A unit is
        // at most 2^40 and 18 decimals are below 2^60, so the fraction fits 128 bits.
        let decimals = &decimals[..decimals.len().min(MAX_DECIMALS)];
        let fraction = match decimals {
            "" => 0,
            digits => digits.parse::<u128>().map_err(|_| malformed())?,
        };
        let fraction = fraction * unit / 10u128.pow(decimals.len() as u32);
        whole
            .parse::<u128>()
            .ok()
            .and_then(|whole| whole.checked_mul(unit))
            .and_then(|bytes| bytes.checked_add(fraction))
            .and_then(|bytes| u64::try_from(bytes).ok())
            .map(Self)
            .ok_or_else(too_large)
    }
}

/// The bytes of one `unit`, in any case; without a unit the number counts bytes.
fn unit_bytes(unit: &str) -> Option<u128> {
    let (base, power) = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => (1024, 0),
        "kib" => (1024, 1),
        "mib" => (1024, 2),
        "gib" => (1024, 3),
        "tib" => (1024, 4),
        "kb" => (1000, 1),
        "mb" => (1000, 2),
        "gb" => (1000, 3),
        "tb" => (1000, 4),
        _ => return None,
    };
    Some(u128::pow(base, power))
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BytesVisitor)
    }
}

struct BytesVisitor;

impl de::Visitor<'_> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of bytes or a text like \"6GiB\"")
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<Bytes, E> {
        Ok(Bytes(bytes))
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Bytes, E> {
        u64::try_from(bytes)
            .map(Bytes)
            .map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests;
