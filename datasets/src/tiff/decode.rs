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

use super::{
    chunks::Chunks,
    directory::{Directory, TiffFile},
    error::TiffStackError,
    header::{PageHeader, Storage},
    page::Decoded,
    samples::{self, Decompressor},
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

/// What decoding a chunk needs besides the result.
#[derive(Default)]
struct Scratch {
    decompressor: Decompressor,
    stored: Vec<u8>,
    /// A decoded chunk that is not a part of the page as it is.
    chunk: Vec<u8>,
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
        let decoded = match &header.storage {
            Storage::Chunks(chunks) => {
                self.decode_chunks(file, &header, chunks, pixels.bytes_mut())
            }
            Storage::Jpeg { inverted } => {
                let decoded = decode_any(file, offset, pixels.bytes_mut());
                if *inverted {
                    pixels
                        .bytes_mut()
                        .iter_mut()
                        .for_each(|byte| *byte = !*byte);
                }
                decoded
            }
            Storage::Contiguous(_) => {
                return Err(TiffStackError::Changed {
                    path: file.path.into(),
                    page,
                });
            }
        };
        match decoded {
            Ok(()) => Ok((header, pixels)),
            Err(error) => Err(TiffStackError::Decode {
                path: file.path.into(),
                page,
                offset,
                source: error,
            }),
        }
    }

    /// Decodes each chunk in one go, where possible straight into the page: several times as fast
    /// as through the streams of the general decoder.
    fn decode_chunks(
        &self,
        file: TiffFile<'_>,
        header: &PageHeader,
        chunks: &Chunks,
        pixels: &mut [u8],
    ) -> Result<(), TiffError> {
        let (have, needed) = (chunks.places.len(), chunks.num_needed());
        if have < needed {
            return Err(invalid(format!(
                "the page needs {needed} strips or tiles and has {have}"
            )));
        }
        let mut scratch = lock(&self.scratch).pop().unwrap_or_default();
        let decoded = (0..needed).try_for_each(|chunk| {
            scratch
                .decode_chunk(file, header, chunks, chunk, pixels)
                .map_err(|error| invalid(format!("strip or tile {chunk}: {error}")))
        });
        lock(&self.scratch).push(scratch);
        decoded
    }
}

impl Scratch {
    /// Decodes one chunk into its place in the page.
    fn decode_chunk(
        &mut self,
        file: TiffFile<'_>,
        header: &PageHeader,
        chunks: &Chunks,
        chunk: usize,
        pixels: &mut [u8],
    ) -> io::Result<()> {
        let (offset, len) = chunks.places[chunk];
        if (offset, len) == (0, 0) {
            return Ok(());
        }
        let size = header.sample.size();
        let (top, left) = (
            chunk / chunks.across * chunks.rows,
            chunk % chunks.across * chunks.columns,
        );
        let (row_len, rows) = (chunks.row_len() as usize, chunks.stored_rows(chunk));
        // No more than what any compression makes of noise: a longer claim is no reason to read it.
        let chunk_len = row_len * rows;
        let most = chunk_len + chunk_len / 2 + 1024;
        let len = usize::try_from(len).unwrap_or(most).min(most);
        self.stored.resize(len, 0);
        file.source.fill_exactly_at(&mut self.stored, offset)?;
        if chunks.reversed {
            let reverse = |byte: &mut u8| *byte = byte.reverse_bits();
            self.stored.iter_mut().for_each(reverse);
        }
        let swapped = file.format.big_endian != cfg!(target_endian = "big");
        let as_it_is = !chunks.tiled && chunks.bits == size * 8;
        if as_it_is {
            let strip = &mut pixels[top * row_len..][..chunk_len];
            self.decompressor
                .decompress(chunks.compression, &self.stored, strip)?;
            samples::restore(strip, row_len, size, chunks.predictor, swapped);
            return Ok(());
        }
        self.chunk.clear();
        self.chunk.resize(chunk_len, 0);
        self.decompressor
            .decompress(chunks.compression, &self.stored, &mut self.chunk)?;
        if chunks.bits == size * 8 {
            samples::restore(&mut self.chunk, row_len, size, chunks.predictor, swapped);
        }
        // Samples of whole bytes are in the file's byte order; packed ones are not.
        if chunks.bits == 24 && !file.format.big_endian {
            let reverse = |sample: &mut [u8]| sample.reverse();
            self.chunk.chunks_exact_mut(3).for_each(reverse);
        }
        // Of chunks at the border, only the part inside the page counts.
        let rows = rows.min(header.height - top);
        let columns = chunks.columns.min(header.width - left);
        for (row, stored) in self.chunk.chunks_exact(row_len).take(rows).enumerate() {
            let start = ((top + row) * header.width + left) * size;
            let target = &mut pixels[start..][..columns * size];
            match chunks.bits == size * 8 {
                true => target.copy_from_slice(&stored[..columns * size]),
                false => samples::unpack(stored, chunks.bits, size, target),
            }
        }
        Ok(())
    }
}

impl fmt::Debug for PageDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageDecoder").finish_non_exhaustive()
    }
}

fn invalid(what: String) -> TiffError {
    TiffError::IoError(io::Error::new(io::ErrorKind::InvalidData, what))
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
