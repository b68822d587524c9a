//! Types of samples, and what they are as `f32`.

use sealed::Sealed;

/// What a pixel is stored as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SampleType {
    /// Unsigned, 8 bits.
    U8,
    /// Signed, 8 bits.
    I8,
    /// Unsigned, 16 bits.
    U16,
    /// Signed, 16 bits.
    I16,
    /// Unsigned, 32 bits.
    U32,
    /// Signed, 32 bits.
    I32,
    /// Floating-point, 32 bits.
    F32,
    /// Floating-point, 64 bits.
    F64,
}

impl SampleType {
    /// Bytes of a sample.
    pub fn size(self) -> usize {
        self.tags().1 / 8
    }

    /// The values of the tags SampleFormat and BitsPerSample.
    pub(super) fn tags(self) -> (u16, usize) {
        match self {
            Self::U8 => (1, 8),
            Self::I8 => (2, 8),
            Self::U16 => (1, 16),
            Self::I16 => (2, 16),
            Self::U32 => (1, 32),
            Self::I32 => (2, 32),
            Self::F32 => (3, 32),
            Self::F64 => (3, 64),
        }
    }

    /// The type of these tags, or in words what is not supported.
    pub(super) fn from_tags(format: u64, bits: u64) -> Result<Self, String> {
        Ok(match (format, bits) {
            (1, 8) => Self::U8,
            (2, 8) => Self::I8,
            (1, 16) => Self::U16,
            (2, 16) => Self::I16,
            (1, 32) => Self::U32,
            (2, 32) => Self::I32,
            (3, 32) => Self::F32,
            (3, 64) => Self::F64,
            (1, _) => return Err(format!("has {bits}-bit unsigned samples")),
            (2, _) => return Err(format!("has {bits}-bit signed samples")),
            (3, _) => return Err(format!("has {bits}-bit floating-point samples")),
            _ => return Err(format!("has {bits}-bit undefined or complex samples")),
        })
    }

    /// Appends samples, whole ones, as the nearest `f32`.
    pub(super) fn append_f32(self, bytes: &[u8], big_endian: bool, pixels: &mut Vec<f32>) {
        /// One loop for each type and byte order, so that each is vectorised.
        macro_rules! append {
            ($sample:ty, $convert:expr) => {{
                let convert: fn($sample) -> f32 = $convert;
                let (samples, _) = bytes.as_chunks::<{ size_of::<$sample>() }>();
                match big_endian {
                    true => pixels.extend(
                        samples
                            .iter()
                            .map(|&bytes| convert(<$sample>::from_be_bytes(bytes))),
                    ),
                    false => pixels.extend(
                        samples
                            .iter()
                            .map(|&bytes| convert(<$sample>::from_le_bytes(bytes))),
                    ),
                }
            }};
        }
        match self {
            Self::U8 => append!(u8, f32::from),
            Self::I8 => append!(i8, f32::from),
            Self::U16 => append!(u16, f32::from),
            Self::I16 => append!(i16, f32::from),
            Self::U32 => append!(u32, |sample| sample as f32),
            Self::I32 => append!(i32, |sample| sample as f32),
            Self::F32 => append!(f32, |sample| sample),
            Self::F64 => append!(f64, |sample| sample as f32),
        }
    }
}

/// A Rust number that pixels can be stored as.
pub trait Sample: Sealed {
    /// Its type in a file.
    const TYPE: SampleType;
}

mod sealed {
    pub trait Sealed: bytemuck::Pod {}
}

macro_rules! sample {
    ($($number:ty => $name:ident),*) => {$(
        impl Sealed for $number {}
        impl Sample for $number {
            const TYPE: SampleType = SampleType::$name;
        }
    )*};
}

sample!(u8 => U8, i8 => I8, u16 => U16, i16 => I16, u32 => U32, i32 => I32, f32 => F32, f64 => F64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_byte_orders_give_the_same_numbers() {
        let mut pixels = Vec::new();
        SampleType::I16.append_f32(&[0xff, 0xfe, 0x01, 0x00], true, &mut pixels);
        SampleType::I16.append_f32(&[0xfe, 0xff, 0x00, 0x01], false, &mut pixels);
        assert_eq!(pixels, [-2.0, 256.0, -2.0, 256.0]);
    }

    #[test]
    fn a_type_is_what_its_tags_say() {
        for kind in [SampleType::U8, SampleType::I32, SampleType::F64] {
            let (format, bits) = kind.tags();
            let parsed = SampleType::from_tags(u64::from(format), bits as u64);
            assert_eq!(parsed, Ok(kind));
        }
    }
}
