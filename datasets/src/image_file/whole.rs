//! Whether the bytes of a file are a whole picture, and the only one.

use std::io::{self, BufRead, Read, Seek};

use image::{
    AnimationDecoder, ImageDecoder, ImageFormat, ImageResult, Limits,
    codecs::{gif::GifDecoder, png::PngDecoder, webp::WebPDecoder},
};
use memchr::memchr;

/// Bytes of a JPEG picture up to its end-of-image marker; `None` where the file ends before. Phones
/// put a movie or another picture behind it.
pub(super) fn jpeg_len(bytes: &[u8]) -> Option<usize> {
    // After the start-of-image marker.
    let mut at = 2;
    loop {
        // A marker is 0xff, any number of times, and a code. What is between two segments is the
        // compressed scan, in which 0xff is always followed by zero or a restart marker.
        at += memchr(0xff, bytes.get(at..)?)?;
        at += bytes[at..].iter().position(|&byte| byte != 0xff)?;
        let code = bytes[at];
        at += 1;
        match code {
            0xd9 => return Some(at),
            0x00 | 0x01 | 0xd0..=0xd8 => {}
            _ => {
                let len = bytes.get(at..at + 2)?;
                at += usize::from(u16::from_be_bytes([len[0], len[1]])).max(2);
            }
        }
    }
}

/// Whether a PNG file has its last chunk. Reads the heads of the chunks and skips their contents.
pub(super) fn png_is_whole(file: &mut (impl BufRead + Seek), len: u64) -> io::Result<bool> {
    // After the signature.
    let mut at = 8;
    while at + 12 <= len {
        file.seek(io::SeekFrom::Start(at))?;
        let mut head = [0; 8];
        file.read_exact(&mut head)?;
        // Length, kind, contents, checksum.
        let contents = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        at += 12 + u64::from(contents);
        if &head[4..] == b"IEND" {
            return Ok(at <= len);
        }
    }
    Ok(false)
}

/// Whether there is another picture behind the first.
pub(super) fn has_more(bytes: &[u8], format: ImageFormat, limits: Limits) -> ImageResult<bool> {
    let mut cursor = io::Cursor::new(bytes);
    Ok(match format {
        ImageFormat::Gif => {
            let mut decoder = GifDecoder::new(cursor)?;
            decoder.set_limits(limits)?;
            let frames = decoder.into_frames();
            frames.take(2).filter(Result::is_ok).count() > 1
        }
        ImageFormat::Png => PngDecoder::new(cursor)?.is_apng()?,
        ImageFormat::WebP => WebPDecoder::new(cursor)?.has_animation(),
        ImageFormat::Tiff => next_directory(&mut cursor).is_some_and(|offset| offset > 0),
        _ => false,
    })
}

/// Whether no entry of a TIFF file's first directory claims more bytes than the file has, which are
/// `len`. The decoder takes memory for what they claim.
pub(super) fn tiff_claims_fit(file: &mut (impl Read + Seek), len: u64) -> bool {
    let Some(directory) = Directory::first(file) else {
        return true;
    };
    let claims = (0..directory.num_entries).map_while(|index| {
        // Tag, type, number of values, and the values or their offset.
        let at = index.saturating_mul(directory.entry_len);
        let at = at.saturating_add(directory.start);
        let kind = directory.order.number(file, at.saturating_add(2), 2)?;
        let at = at.saturating_add(4);
        let count = directory.order.number(file, at, directory.offset_len)?;
        let size = match kind {
            3 | 8 => 2,
            4 | 9 | 11 | 13 => 4,
            5 | 10 | 12 | 16..=18 => 8,
            _ => 1,
        };
        Some(count.saturating_mul(size))
    });
    claims.max().unwrap_or(0) <= len
}

/// Where a TIFF file's second directory is; zero where it has none.
fn next_directory(file: &mut (impl Read + Seek)) -> Option<u64> {
    let first = Directory::first(file)?;
    let entries = first.num_entries.checked_mul(first.entry_len)?;
    let end = first.start.checked_add(entries)?;
    first.order.number(file, end, first.offset_len)
}

/// A directory of a TIFF file: entries of one length, and then the offset of the next directory.
struct Directory {
    order: ByteOrder,
    start: u64,
    num_entries: u64,
    entry_len: u64,
    offset_len: usize,
}

impl Directory {
    /// A file's first directory. BigTIFF has wider numbers, and its offset 4 bytes later.
    fn first(file: &mut (impl Read + Seek)) -> Option<Self> {
        let order = match ByteOrder::Big.number(file, 0, 2)? {
            0x4949 => ByteOrder::Little,
            _ => ByteOrder::Big,
        };
        let (first, count_len, entry_len, offset_len) = match order.number(file, 2, 2)? {
            43 => (order.number(file, 8, 8)?, 8, 20, 8),
            _ => (order.number(file, 4, 4)?, 2, 12, 4),
        };
        Some(Self {
            order,
            start: first.checked_add(count_len as u64)?,
            num_entries: order.number(file, first, count_len)?,
            entry_len,
            offset_len,
        })
    }
}

/// Which byte of a number comes first in a TIFF file.
#[derive(Clone, Copy)]
enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    /// The number of `len` bytes, 8 at the most, at a place of a file.
    fn number(self, file: &mut (impl Read + Seek), at: u64, len: usize) -> Option<u64> {
        let mut digits = [0; 8];
        let digits = &mut digits[..len];
        file.seek(io::SeekFrom::Start(at)).ok()?;
        file.read_exact(digits).ok()?;
        let append = |number: u64, digit: &u8| number << 8 | u64::from(*digit);
        Some(match self {
            Self::Little => digits.iter().rev().fold(0, append),
            Self::Big => digits.iter().fold(0, append),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jpeg_picture_ends_at_its_own_marker() {
        let head = [0xff, 0xd8, 0xff, 0xe1, 0, 4, 0xff, 0xd9, 0xff, 0xda, 0, 2];
        let scan = [1, 0xff, 0, 0xff, 0xd0, 2];
        let whole = [&head[..], &scan, &[0xff, 0xff, 0xd9]].concat();
        assert_eq!(jpeg_len(&whole), Some(whole.len()));
        let movie = [&whole[..], b"moov", &[0xff, 0xda, 9, 9]].concat();
        assert_eq!(jpeg_len(&movie), Some(whole.len()));
        for len in 0..whole.len() {
            assert_eq!(jpeg_len(&whole[..len]), None, "{len} bytes");
        }
    }

    #[test]
    fn the_second_directory_of_a_tiff_file_is_found_in_either_byte_order() {
        let next = |bytes: &[u8]| next_directory(&mut io::Cursor::new(bytes));
        let claims_fit =
            |bytes: &[u8]| tiff_claims_fit(&mut io::Cursor::new(bytes), bytes.len() as u64);
        let little = *b"II\x2a\0\x08\0\0\0\x01\0............\x63\0\0\0";
        assert_eq!(next(&little), Some(0x63));
        let big = *b"MM\0\x2a\0\0\0\x08\0\x01............\0\0\0\0";
        assert_eq!(next(&big), Some(0));
        assert_eq!(next(&big[..20]), None);
        // One entry of no type, whose number of values is that of four dots.
        assert!(!claims_fit(&little) && claims_fit(&big[..10]));
        let mut few = little;
        few[14..18].copy_from_slice(&[3, 0, 0, 0]);
        assert!(claims_fit(&few));
    }
}
