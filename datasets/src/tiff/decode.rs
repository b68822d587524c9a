//! Pages that are stored in another way than in one piece: decoded one at a time.

use std::{
    fmt,
    io::{self, BufReader, Read, Seek, SeekFrom},
    sync::Mutex,
};

use ::tiff::{
    TiffError,
    decoder::{Decoder, Limits},
};
use flate2::{Decompress, FlushDecompress, Status};

use super::{
    directory::{Directory, TiffFile},
    error::TiffStackError,
    header::{DeflateStrips, PageHeader, Storage},
    page::Decoded,
};
use crate::{lock, shared_file::SharedFile};

/// Decoded bytes of one strip or tile, and compressed ones: 128 MiB at most.
const MAX_CHUNK_BYTES: usize = 128 << 20;

/// Decodes pages of a stack, and keeps what it needs to for the next ones.
#[derive(Default)]
pub(super) struct PageDecoder {
    /// One for each thread that decodes at the same time.
    scratch: Mutex<Vec<Scratch>>,
}

/// What inflating a strip needs besides the result.
struct Scratch {
    inflate: Decompress,
    stored: Vec<u8>,
}

impl PageDecoder {
    /// Decodes the page of the directory at `offset`: its header and its samples, in the byte
    /// order of the machine.
    pub(super) fn decode(
        &self,
        file: TiffFile<'_>,
        page: usize,
        offset: u64,
    ) -> Result<(PageHeader, Decoded), TiffStackError> {
        let directory = Directory::read(file, page, offset)?;
        let header = PageHeader::parse(&directory)?;
        let mut pixels = Decoded::zeroed(header.num_bytes());
        let inflated = match &header.storage {
            Storage::Deflate(strips) => {
                self.inflate(file.source, &header, strips, pixels.bytes_mut())
            }
            _ => false,
        };
        if inflated {
            let swapped = file.format.big_endian != cfg!(target_endian = "big");
            restore(pixels.bytes_mut(), &header, swapped);
            return Ok((header, pixels));
        }
        match decode_any(file, offset, pixels.bytes_mut()) {
            Ok(()) => Ok((header, pixels)),
            Err(error) => Err(TiffStackError::Decode {
                path: file.path.into(),
                page,
                offset,
                source: error,
            }),
        }
    }

    /// Inflates strips straight into the page, each in one go: several times as fast as through
    /// the streams of the general decoder.
    ///
    /// Returns whether every strip was there and as long as its rows. What to make of others, and
    /// what is wrong with damaged ones, is for the general decoder to say.
    fn inflate(
        &self,
        source: &SharedFile,
        header: &PageHeader,
        strips: &DeflateStrips,
        pixels: &mut [u8],
    ) -> bool {
        let spare = lock(&self.scratch).pop();
        let mut scratch = spare.unwrap_or_else(|| Scratch {
            inflate: Decompress::new(true),
            stored: Vec::new(),
        });
        let strip_len = strips.rows_per_strip * header.width * header.sample.size();
        let mut pieces = pixels.chunks_mut(strip_len).zip(&strips.strips);
        let inflated = pieces.all(|(strip, &(offset, len))| {
            // No more than what deflate makes of noise: a longer claim is no reason to read it.
            let most = strip.len() + strip.len() / 8 + 1024;
            let len = usize::try_from(len).unwrap_or(most).min(most);
            scratch.stored.resize(len, 0);
            source.fill_exactly_at(&mut scratch.stored, offset).is_ok()
                && inflate_strip(&mut scratch.inflate, &scratch.stored, strip)
        });
        lock(&self.scratch).push(scratch);
        inflated
    }
}

impl fmt::Debug for PageDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageDecoder").finish_non_exhaustive()
    }
}

/// Inflates one strip; returns whether it is whole and has the expected length.
fn inflate_strip(inflate: &mut Decompress, stored: &[u8], strip: &mut [u8]) -> bool {
    inflate.reset(true);
    let done = inflate.decompress(stored, strip, FlushDecompress::Finish);
    done.is_ok_and(|status| status == Status::StreamEnd)
        && inflate.total_out() == strip.len() as u64
}

/// Brings samples into the machine's byte order, and sums up differences to left neighbours.
fn restore(pixels: &mut [u8], header: &PageHeader, swapped: bool) {
    let differences = matches!(&header.storage, Storage::Deflate(strips) if strips.differences);
    /// One loop for each size of a sample.
    macro_rules! restore {
        ($sample:ty) => {{
            const SIZE: usize = size_of::<$sample>();
            for row in pixels.chunks_exact_mut(header.width * SIZE) {
                let (samples, _) = row.as_chunks_mut::<SIZE>();
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
    match header.sample.size() {
        1 => restore!(u8),
        2 => restore!(u16),
        4 => restore!(u32),
        _ => restore!(u64),
    }
}

/// Decodes whatever the `tiff` crate reads.
fn decode_any(file: TiffFile<'_>, offset: u64, pixels: &mut [u8]) -> Result<(), TiffError> {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = pixels.len();
    limits.intermediate_buffer_size = MAX_CHUNK_BYTES.max(pixels.len());
    let reader = PageReader {
        source: file.source,
        header: file.format.header(offset),
        position: 0,
    };
    let mut decoder = Decoder::new(BufReader::new(reader))?.with_limits(limits);
    if decoder.image_buffer_layout()?.complete_len != pixels.len() {
        let error = io::Error::new(io::ErrorKind::InvalidData, "the page changed its size");
        return Err(TiffError::IoError(error));
    }
    decoder.read_image_bytes(pixels)
}

/// The file as it would be if its first page were the page wanted.
///
/// The decoder finds pages by walking a chain from the header. Serving it a
/// header that points to the wanted page makes any page a constant-time
/// access, without state that threads would have to share.
#[derive(Debug)]
struct PageReader<'a> {
    source: &'a SharedFile,
    header: Vec<u8>,
    position: u64,
}

impl Read for PageReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let header_len = self.header.len() as u64;
        let count = if self.position < header_len {
            let mut rest = &self.header[self.position as usize..];
            rest.read(buffer)?
        } else {
            self.source.read_at(buffer, self.position)?
        };
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for PageReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::End(delta) => self.source.len().checked_add_signed(delta),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
