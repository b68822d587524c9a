//! What a directory says about its page: size, samples, and how they are stored.

use super::{directory::Directory, error::TiffStackError, page::SampleType};

/// The most bytes of pixels that one page may claim that has to be decoded: 2 GiB.
const MAX_DECODED_BYTES: u64 = 2 << 30;

/// The most that stored bytes may expand to. Deflate reaches 1032, LZW about
/// 2700 times; a page that claims more than this is not what it seems.
const MAX_EXPANSION: u64 = 4096;

const IMAGE_WIDTH: u16 = 256;
const IMAGE_LENGTH: u16 = 257;
const BITS_PER_SAMPLE: u16 = 258;
const COMPRESSION: u16 = 259;
const PHOTOMETRIC: u16 = 262;
const IMAGE_DESCRIPTION: u16 = 270;
pub(super) const STRIP_OFFSETS: u16 = 273;
const SAMPLES_PER_PIXEL: u16 = 277;
const ROWS_PER_STRIP: u16 = 278;
const STRIP_BYTE_COUNTS: u16 = 279;
const PREDICTOR: u16 = 317;
const TILE_WIDTH: u16 = 322;
const TILE_LENGTH: u16 = 323;
const TILE_OFFSETS: u16 = 324;
const TILE_BYTE_COUNTS: u16 = 325;
const SAMPLE_FORMAT: u16 = 339;

/// Every tag that the decoder reads.
const DECODER_TAGS: [u16; 19] = [
    256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338, 339, 347, 530,
];

const UNCOMPRESSED: u64 = 1;
const DEFLATE: [u64; 2] = [8, 32946];
/// LZW, JPEG, deflate (both numbers) and PackBits.
const COMPRESSIONS: [u64; 5] = [5, 7, 8, 32946, 32773];

/// A page as its directory describes it, checked against the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PageHeader {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) sample: SampleType,
    pub(super) storage: Storage,
}

/// How a page's samples are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Storage {
    /// As they are, in one piece that starts at this byte.
    Contiguous(u64),
    /// Deflated strips, whose bytes are inside the file.
    Deflate(DeflateStrips),
    /// In another way that the general decoder reads.
    Other,
}

/// Strips from top to bottom, each deflated by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeflateStrips {
    pub(super) rows_per_strip: usize,
    /// Whether samples are stored as differences to their left neighbours.
    pub(super) differences: bool,
    /// Offset and length of each.
    pub(super) strips: Vec<(u64, u64)>,
}

impl PageHeader {
    /// Reads and checks everything that is said about the page.
    ///
    /// Nothing is believed that would make anybody allocate more than the stored bytes can hold.
    pub(super) fn parse(directory: &Directory<'_>) -> Result<Self, TiffStackError> {
        // The decoder would make room for the number of values that a tag claims before it looks
        // for them.
        for tag in DECODER_TAGS {
            directory.check_values(tag)?;
        }
        let (height, width) = size(directory)?;
        let sample = sample_type(directory)?;
        let chunks = chunks(directory)?;
        let storage = storage(directory, &chunks, sample, height, width)?;
        if !matches!(storage, Storage::Contiguous(_)) {
            check_claim(directory, &chunks, sample, height, width)?;
        }
        Ok(Self {
            height,
            width,
            sample,
            storage,
        })
    }

    /// Bytes of all samples.
    pub(super) fn num_bytes(&self) -> usize {
        self.height * self.width * self.sample.size()
    }
}

/// How many images ImageJ says follow each other behind this one directory.
pub(super) fn images_of_imagej(directory: &Directory<'_>) -> Result<Option<u64>, TiffStackError> {
    let text = directory.text(IMAGE_DESCRIPTION)?;
    let text = text.filter(|text| text.starts_with("ImageJ="));
    Ok(text.and_then(|text| {
        let number = text.lines().find_map(|line| line.strip_prefix("images="))?;
        number.trim().parse().ok()
    }))
}

/// Height and width, each at least 1 and below 2³².
fn size(directory: &Directory<'_>) -> Result<(usize, usize), TiffStackError> {
    let side = |tag, name: &str| match directory.number(tag)? {
        Some(side) if side <= u64::from(u32::MAX) => Ok(side),
        Some(side) => Err(directory.corrupt(format!("its {name} is {side}"))),
        None => Err(directory.corrupt(format!("it names no {name}"))),
    };
    let (height, width) = (side(IMAGE_LENGTH, "height")?, side(IMAGE_WIDTH, "width")?);
    if height == 0 || width == 0 {
        return Err(TiffStackError::ZeroSized {
            path: directory.path().into(),
            page: directory.page,
            offset: directory.offset,
            height,
            width,
        });
    }
    Ok((height as usize, width as usize))
}

/// Refuses everything but gray pages in a sample format and compression that can be
/// decoded.
fn sample_type(directory: &Directory<'_>) -> Result<SampleType, TiffStackError> {
    let samples = directory.number(SAMPLES_PER_PIXEL)?.unwrap_or(1);
    if samples != 1 {
        return Err(directory.unsupported(format!("has {samples} samples per pixel, not 1")));
    }
    match directory.number(PHOTOMETRIC)? {
        Some(0 | 1) => {}
        Some(3) => return Err(directory.unsupported("is a palette image".into())),
        Some(other) => {
            return Err(directory.unsupported(format!("has photometric interpretation {other}")));
        }
        None => return Err(directory.corrupt("it names no photometric interpretation".into())),
    }
    let format = directory.number(SAMPLE_FORMAT)?.unwrap_or(1);
    let bits = directory.number(BITS_PER_SAMPLE)?.unwrap_or(1);
    let sample = SampleType::from_tags(format, bits).map_err(|what| directory.unsupported(what))?;
    let compression = compression(directory)?;
    if compression != UNCOMPRESSED && !COMPRESSIONS.contains(&compression) {
        return Err(directory.unsupported(format!("uses compression {compression}")));
    }
    Ok(sample)
}

fn compression(directory: &Directory<'_>) -> Result<u64, TiffStackError> {
    Ok(directory.number(COMPRESSION)?.unwrap_or(UNCOMPRESSED))
}

/// The strips or tiles of a page; each is checked to lie inside the file.
struct Chunks {
    tiled: bool,
    places: Vec<(u64, u64)>,
}

impl Chunks {
    /// The offset of all strips, if they follow each other and each holds its rows exactly;
    /// the last may be longer.
    fn in_one_piece(&self, rows_per_strip: u64, height: u64, row_bytes: u64) -> Option<u64> {
        let (start, _) = *self.places.first()?;
        let mut expected = start;
        let mut rows_left = height;
        for (strip, &(offset, len)) in self.places.iter().enumerate() {
            let rows = rows_left.min(rows_per_strip);
            let bytes = rows.checked_mul(row_bytes)?;
            let is_last = strip + 1 == self.places.len();
            if rows == 0 || offset != expected || len < bytes || (len > bytes && !is_last) {
                return None;
            }
            expected = offset.checked_add(bytes)?;
            rows_left -= rows;
        }
        (rows_left == 0).then_some(start)
    }
}

fn chunks(directory: &Directory<'_>) -> Result<Chunks, TiffStackError> {
    let both = |offsets, counts| match (directory.values(offsets)?, directory.values(counts)?) {
        (Some(offsets), Some(counts)) => Ok(Ok((offsets, counts))),
        (None, None) => Ok(Err(true)),
        _ => Ok(Err(false)),
    };
    let strips = both(STRIP_OFFSETS, STRIP_BYTE_COUNTS)?;
    let tiles = both(TILE_OFFSETS, TILE_BYTE_COUNTS)?;
    let (tiled, (offsets, counts)) = match (strips, tiles) {
        (Ok(strips), Err(true)) => (false, strips),
        (Err(true), Ok(tiles)) => (true, tiles),
        _ => return Err(directory.corrupt("it names neither strips nor tiles completely".into())),
    };
    if offsets.len() != counts.len() {
        let (offsets, counts) = (offsets.len(), counts.len());
        return Err(directory.corrupt(format!("it has {offsets} offsets and {counts} lengths")));
    }
    let places: Vec<_> = offsets.into_iter().zip(counts).collect();
    for &(offset, len) in &places {
        directory.check_inside("a strip or tile of pixels", offset, len)?;
    }
    Ok(Chunks { tiled, places })
}

fn storage(
    directory: &Directory<'_>,
    chunks: &Chunks,
    sample: SampleType,
    height: usize,
    width: usize,
) -> Result<Storage, TiffStackError> {
    let compression = compression(directory)?;
    let predictor = directory.number(PREDICTOR)?.unwrap_or(1);
    // The decoder inverts pages whose zero is white.
    if chunks.tiled || directory.number(PHOTOMETRIC)? != Some(1) {
        return Ok(Storage::Other);
    }
    let height = height as u64;
    let rows_per_strip = directory.number(ROWS_PER_STRIP)?.unwrap_or(height);
    let row_bytes = (width * sample.size()) as u64;
    if compression == UNCOMPRESSED && predictor == 1 {
        let start = chunks.in_one_piece(rows_per_strip, height, row_bytes);
        return Ok(start.map_or(Storage::Other, Storage::Contiguous));
    }
    let is_float = matches!(sample, SampleType::F32 | SampleType::F64);
    let strips_fit =
        rows_per_strip > 0 && height.div_ceil(rows_per_strip) == chunks.places.len() as u64;
    if DEFLATE.contains(&compression)
        && (predictor == 1 || predictor == 2 && !is_float)
        && strips_fit
    {
        return Ok(Storage::Deflate(DeflateStrips {
            rows_per_strip: rows_per_strip.min(height) as usize,
            differences: predictor == 2,
            strips: chunks.places.clone(),
        }));
    }
    Ok(Storage::Other)
}

/// Refuses pages whose stored bytes cannot hold what they claim.
fn check_claim(
    directory: &Directory<'_>,
    chunks: &Chunks,
    sample: SampleType,
    height: usize,
    width: usize,
) -> Result<(), TiffStackError> {
    // Strips may overlap, so the file's length bounds them too.
    let stored = chunks.places.iter().map(|&(_, len)| len);
    let stored = stored
        .fold(0, u64::saturating_add)
        .min(directory.file_len());
    let page = (height as u64).saturating_mul(width as u64);
    // Tiles are stored whole, even where they reach over the border.
    let tile = match (
        directory.number(TILE_LENGTH)?,
        directory.number(TILE_WIDTH)?,
    ) {
        (Some(height), Some(width)) => height.saturating_mul(width),
        _ => 0,
    };
    let claimed = page.max(tile).saturating_mul(sample.size() as u64);
    let most = match compression(directory)? {
        UNCOMPRESSED => stored,
        _ => stored.saturating_mul(MAX_EXPANSION),
    };
    if claimed > most.min(MAX_DECODED_BYTES) {
        return Err(TiffStackError::Implausible {
            path: directory.path().into(),
            page: directory.page,
            offset: directory.offset,
            claimed,
            stored,
        });
    }
    Ok(())
}
