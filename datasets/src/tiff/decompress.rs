//! Compressed bytes of a strip or tile made into as many bytes as it has.

use std::io;

use flate2::{Decompress, FlushDecompress};
use weezl::BitOrder;

use super::chunks::Compression;

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
