//! The bytes of a strip or tile: decompressed, and made into numbers of the machine.
//!
//! Pure.

use std::io;

use flate2::{Decompress, FlushDecompress};
use weezl::BitOrder;

use super::chunks::{Compression, Predictor};

/// Brings rows of whole samples into the machine's byte order, and sums up differences.
/// `swapped` says whether the file's order is the other one.
pub(super) fn restore(
    bytes: &mut [u8],
    row_len: usize,
    size: usize,
    predictor: Predictor,
    swapped: bool,
) {
    if predictor == Predictor::Float {
        let mut sums = vec![0; row_len];
        for row in bytes.chunks_exact_mut(row_len) {
            restore_float(row, size, &mut sums);
        }
        return;
    }
    let differences = predictor == Predictor::Horizontal;
    /// One loop for each size of a sample.
    macro_rules! restore {
        ($sample:ty) => {{
            for row in bytes.chunks_exact_mut(row_len) {
                let (samples, _) = row.as_chunks_mut::<{ size_of::<$sample>() }>();
                if swapped {
                    samples.iter_mut().for_each(|sample| sample.reverse());
                }
                if differences {
                    let mut left: $sample = 0;
                    for sample in samples {
                        left = left.wrapping_add(<$sample>::from_ne_bytes(*sample));
                        *sample = left.to_ne_bytes();
                    }
                }
            }
        }};
    }
    match size {
        1 => restore!(u8),
        2 => restore!(u16),
        4 => restore!(u32),
        _ => restore!(u64),
    }
}

/// Restores a row of floating-point numbers whose bytes are stored by significance, all the most
/// significant ones first whatever the file's byte order, each as a difference to the one before.
fn restore_float(row: &mut [u8], size: usize, sums: &mut [u8]) {
    let mut left = 0u8;
    for (sum, byte) in sums.iter_mut().zip(&*row) {
        left = left.wrapping_add(*byte);
        *sum = left;
    }
    let columns = row.len() / size;
    for (column, sample) in row.chunks_exact_mut(size).enumerate() {
        for (significance, byte) in sample.iter_mut().enumerate() {
            *byte = sums[significance * columns + column];
        }
        if cfg!(target_endian = "little") {
            sample.reverse();
        }
    }
}

/// Unpacks a row of samples of `bits` each, the most significant bit first whatever the file's
/// byte order, into samples of `size` bytes.
pub(super) fn unpack(stored: &[u8], bits: usize, size: usize, target: &mut [u8]) {
    let (mut pending, mut num_pending) = (0u64, 0);
    let mut bytes = stored.iter();
    for sample in target.chunks_exact_mut(size) {
        while num_pending < bits {
            pending = pending << 8 | u64::from(*bytes.next().unwrap_or(&0));
            num_pending += 8;
        }
        num_pending -= bits;
        // Bits above those pending belong to earlier samples.
        let value = pending >> num_pending & ((1 << bits) - 1);
        let value = value.to_le_bytes();
        sample.copy_from_slice(&value[..size]);
        if cfg!(target_endian = "big") {
            sample.reverse();
        }
    }
}

/// Decompresses chunks; what that needs is kept for the next one.
pub(super) struct Decompressor {
    inflate: Decompress,
}

impl Default for Decompressor {
    fn default() -> Self {
        Self {
            inflate: Decompress::new(true),
        }
    }
}

impl Decompressor {
    /// Fills `chunk`. Bytes behind what it needs are left alone, as every reader does.
    ///
    /// # Errors
    /// If `stored` is damaged or holds less.
    pub(super) fn decompress(
        &mut self,
        compression: Compression,
        stored: &[u8],
        chunk: &mut [u8],
    ) -> io::Result<()> {
        let filled = match compression {
            Compression::None => {
                let len = stored.len().min(chunk.len());
                chunk[..len].copy_from_slice(&stored[..len]);
                len
            }
            Compression::Deflate => {
                self.inflate.reset(true);
                let done = self
                    .inflate
                    .decompress(stored, chunk, FlushDecompress::Finish);
                done.map_err(|error| invalid(error.to_string()))?;
                self.inflate.total_out() as usize
            }
            Compression::Lzw => lzw(stored, chunk)?,
            Compression::PackBits => pack_bits(stored, chunk),
            Compression::Zstd => zstd(stored, chunk)?,
            Compression::Jpeg => unreachable!("invariant: JPEG is for the general decoder"),
        };
        if filled < chunk.len() {
            return Err(invalid(format!(
                "it holds {filled} bytes of pixels, not {}",
                chunk.len()
            )));
        }
        Ok(())
    }
}

/// Returns the number of bytes filled.
fn lzw(stored: &[u8], chunk: &mut [u8]) -> io::Result<usize> {
    // Writers older than TIFF 6.0 stored codes from the least significant bit on. A strip starts
    // with the code 256 in nine bits, so that the two are told apart as libtiff does.
    let is_old = matches!(stored, [0, second, ..] if second & 1 == 1);
    let mut decoder = match is_old {
        true => weezl::decode::Decoder::new(BitOrder::Lsb, 8),
        false => weezl::decode::Decoder::with_tiff_size_switch(BitOrder::Msb, 8),
    };
    let (mut read, mut filled) = (0, 0);
    while filled < chunk.len() {
        let step = decoder.decode_bytes(&stored[read..], &mut chunk[filled..]);
        read += step.consumed_in;
        filled += step.consumed_out;
        match step.status {
            Ok(weezl::LzwStatus::Ok) if step.consumed_in + step.consumed_out > 0 => {}
            Ok(_) => break,
            Err(error) => return Err(invalid(error.to_string())),
        }
    }
    Ok(filled)
}

/// Returns the number of bytes filled.
fn pack_bits(stored: &[u8], chunk: &mut [u8]) -> usize {
    let (mut read, mut filled) = (0, 0);
    while filled < chunk.len()
        && let Some(&control) = stored.get(read)
    {
        read += 1;
        let rest = &mut chunk[filled..];
        match control {
            0..128 => {
                let Some(literal) = stored.get(read..=read + usize::from(control)) else {
                    break;
                };
                let len = literal.len().min(rest.len());
                rest[..len].copy_from_slice(&literal[..len]);
                (read, filled) = (read + literal.len(), filled + len);
            }
            128 => {}
            _ => {
                let Some(&byte) = stored.get(read) else {
                    break;
                };
                let len = (257 - usize::from(control)).min(rest.len());
                rest[..len].fill(byte);
                (read, filled) = (read + 1, filled + len);
            }
        }
    }
    filled
}

/// Returns the number of bytes filled.
fn zstd(stored: &[u8], chunk: &mut [u8]) -> io::Result<usize> {
    use io::Read;
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(stored)
        .map_err(|error| invalid(error.to_string()))?;
    let mut filled = 0;
    while filled < chunk.len() {
        match decoder.read(&mut chunk[filled..])? {
            0 => break,
            len => filled += len,
        }
    }
    Ok(filled)
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packed_samples_unpack_to_what_they_were(
            bits in 1usize..=32, values in prop::collection::vec(any::<u32>(), 1..20),
        ) {
            let values: Vec<_> = values.iter().map(|&value| u64::from(value) & ((1 << bits) - 1)).collect();
            let mut stored = vec![0u8; (values.len() * bits).div_ceil(8)];
            for (place, bit) in values.iter().flat_map(|value| (0..bits).rev().map(move |bit| value >> bit & 1)).enumerate() {
                stored[place / 8] |= (bit as u8) << (7 - place % 8);
            }
            let mut target = vec![0; values.len() * 4];
            unpack(&stored, bits, 4, &mut target);
            let read = target.chunks_exact(4).map(|v| u64::from(u32::from_ne_bytes(v.try_into().unwrap())));
            prop_assert!(read.eq(values));
        }
    }

    #[test]
    fn floats_by_significance_are_put_together() {
        let values = [1.5f32, -2.25];
        let [a, b] = values.map(f32::to_be_bytes);
        let planes: Vec<u8> = (0..4).flat_map(|byte| [a[byte], b[byte]]).collect();
        let mut row = planes.clone();
        for byte in 1..8 {
            row[byte] = planes[byte].wrapping_sub(planes[byte - 1]);
        }
        restore(&mut row, 8, 4, Predictor::Float, true);
        let read = row
            .chunks_exact(4)
            .map(|v| f32::from_ne_bytes(v.try_into().unwrap()));
        assert!(read.eq(values));
    }
}
