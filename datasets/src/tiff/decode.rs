//! Pages that are stored in another way than in one piece: decoded one at a time.

use std::{
    io::{self, BufReader},
    path::Path,
    sync::Mutex,
};

use ::tiff::{
    TiffError,
    decoder::{Decoder, Limits},
};
use flate2::{Decompress, FlushDecompress};

use super::{
    directory::Directory,
    error::TiffStackError,
    format::Format,
    header::{DeflateStrips, PageHeader, Storage},
    page::Decoded,
    source::{PageReader, Source},
};

/// Decoded bytes of one strip or tile, and compressed ones: 128 MiB at most.
const MAX_CHUNK_BYTES: usize = 128 << 20;

/// Decodes pages of a stack, and keeps what it needs to for the next ones.
#[derive(Debug, Default)]
pub(super) struct PageDecoder {
    /// One for each thread that decodes at the same time.
    scratch: Mutex<Vec<Scratch>>,
}

/// What inflating a strip needs beside the result.
#[derive(Debug)]
struct Scratch {
    inflate: Decompress,
    stored: Vec<u8>,
}

impl PageDecoder {
    /// Decodes the page of the directory at `offset`: its header and its samples, in the byte
    /// order of the machine.
    pub(super) fn decode(
        &self,
        path: &Path,
        source: &Source,
        format: Format,
        page: usize,
        offset: u64,
    ) -> Result<(PageHeader, Decoded), TiffStackError> {
        let directory = Directory::read(path, source, format, page, offset)?;
        let header = PageHeader::parse(&directory)?;
        let mut pixels = Decoded::zeroed(header.num_bytes());
        let decoded = match &header.storage {
            Storage::Deflate(strips) => self
                .inflate(source, format, &header, strips, pixels.bytes_mut())
                .map_err(TiffError::IoError),
            _ => decode_any(source, format, offset, pixels.bytes_mut()),
        };
        match decoded {
            Ok(()) => Ok((header, pixels)),
            Err(error) => Err(TiffStackError::Decode {
                path: path.into(),
                page,
                offset,
                source: error,
            }),
        }
    }

    /// Inflates strips straight into the page: twice as fast as through the streams of the
    /// general decoder, which gives the same.
    fn inflate(
        &self,
        source: &Source,
        format: Format,
        header: &PageHeader,
        strips: &DeflateStrips,
        pixels: &mut [u8],
    ) -> io::Result<()> {
        let spare = self.lock().pop();
        let mut scratch = spare.unwrap_or_else(|| Scratch {
            inflate: Decompress::new(true),
            stored: Vec::new(),
        });
        let size = header.sample.size();
        let strip_len = strips.rows_per_strip * header.width * size;
        for (strip, &(offset, len)) in pixels.chunks_mut(strip_len).zip(&strips.strips) {
            // No more than what deflate makes of noise: a longer claim is no reason to read it.
            let most = strip.len() + strip.len() / 8 + 1024;
            scratch
                .stored
                .resize(usize::try_from(len).unwrap_or(most).min(most), 0);
            source.fill_exactly_at(&mut scratch.stored, offset)?;
            scratch.inflate.reset(true);
            let inflated =
                scratch
                    .inflate
                    .decompress(&scratch.stored, strip, FlushDecompress::Finish);
            inflated.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if scratch.inflate.total_out() != strip.len() as u64 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.lock().push(scratch);
        let swapped = format.big_endian != cfg!(target_endian = "big");
        restore(pixels, header, swapped, strips.differences);
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Scratch>> {
        // A list of spare parts is whole whatever happened.
        self.scratch
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Brings samples into the machine's byte order, and sums up differences to left neighbours.
fn restore(pixels: &mut [u8], header: &PageHeader, swapped: bool, differences: bool) {
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
fn decode_any(
    source: &Source,
    format: Format,
    offset: u64,
    pixels: &mut [u8],
) -> Result<(), TiffError> {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = pixels.len();
    limits.intermediate_buffer_size = MAX_CHUNK_BYTES.max(pixels.len());
    let reader = PageReader::new(source, format.header(offset));
    let mut decoder = Decoder::new(BufReader::new(reader))?.with_limits(limits);
    if decoder.image_buffer_layout()?.complete_len != pixels.len() {
        let error = io::Error::new(io::ErrorKind::InvalidData, "the page changed its size");
        return Err(TiffError::IoError(error));
    }
    decoder.read_image_bytes(pixels)
}
