//! What a directory says about its page: size, samples, and how they are stored.

use super::{
    chunks::{Chunks, Compression},
    directory::Directory,
    error::TiffStackError,
    page::SampleType,
};

/// The most bytes of pixels that one page may claim that has to be decoded: 2 GiB.
const MAX_DECODED_BYTES: u64 = 2 << 30;

/// The most that stored bytes may expand to. Deflate reaches 1032, LZW about
/// 2700 times; a page that claims more than this is not what it seems.
const MAX_EXPANSION: u64 = 4096;

const NEW_SUBFILE_TYPE: u16 = 254;
const SUBFILE_TYPE: u16 = 255;
const IMAGE_WIDTH: u16 = 256;
const IMAGE_LENGTH: u16 = 257;
pub(super) const BITS_PER_SAMPLE: u16 = 258;
const PHOTOMETRIC: u16 = 262;
const IMAGE_DESCRIPTION: u16 = 270;
const ORIENTATION: u16 = 274;
pub(super) const STRIP_OFFSETS: u16 = 273;
const SAMPLES_PER_PIXEL: u16 = 277;
const SAMPLE_FORMAT: u16 = 339;
/// One value for each plane of a MetaMorph stack.
const METAMORPH_PLANES: u16 = 33_629;

/// Bits of NewSubfileType.
const REDUCED: u64 = 1;
const MASK: u64 = 4;

/// Every tag that the general decoder reads.
const DECODER_TAGS: [u16; 19] = [
    256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338, 339, 347, 530,
];

/// Zero-filled bytes of sparse tiles that a page may claim without storing anything: 256 MiB.
const MAX_SPARSE_BYTES: u64 = 256 << 20;

/// A page as its directory describes it, checked against the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PageHeader {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) sample: SampleType,
    pub(super) storage: Storage,
    /// What a user should know about the page, though it is read.
    pub(super) notes: Vec<&'static str>,
}

/// How a page's samples are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Storage {
    /// As they are, in one piece that starts at this byte.
    Contiguous(u64),
    /// In strips or tiles that have to be decoded.
    Chunks(Chunks),
    /// As JPEG, which the general decoder reads. `inverted` if it inverts the samples.
    Jpeg { inverted: bool },
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
        let chunks = Chunks::parse(directory, sample, height, width)?;
        if chunks.in_one_piece(sample).is_none() {
            check_claim(directory, &chunks, sample, height, width)?;
        }
        let photometric = directory.number(PHOTOMETRIC)?.unwrap_or(1);
        let notes = notes(directory, photometric)?;
        let storage = match (chunks.in_one_piece(sample), chunks.compression) {
            (Some(start), _) => Storage::Contiguous(start),
            (None, Compression::Jpeg) => Storage::Jpeg {
                inverted: photometric == 0,
            },
            (None, _) => Storage::Chunks(chunks),
        };
        Ok(Self {
            height,
            width,
            sample,
            storage,
            notes,
        })
    }

    /// Bytes of all samples.
    pub(super) fn num_bytes(&self) -> usize {
        self.height * self.width * self.sample.size()
    }
}

/// Whether the page is a reduced copy of another or a transparency mask, and so no frame.
pub(super) fn is_no_frame(directory: &Directory<'_>) -> Result<bool, TiffStackError> {
    let is_marked = match directory.number(NEW_SUBFILE_TYPE)? {
        Some(kind) => kind & (REDUCED | MASK) != 0,
        None => directory.number(SUBFILE_TYPE)? == Some(2),
    };
    Ok(is_marked)
}

/// What a user should know about a page that is read.
fn notes(directory: &Directory<'_>, photometric: u64) -> Result<Vec<&'static str>, TiffStackError> {
    let mut notes = Vec::new();
    if photometric == 0 {
        notes.push("its pages are marked as white-is-zero; their values are used as they are stored, not inverted");
    }
    if directory.number(ORIENTATION)?.unwrap_or(1) > 1 {
        notes.push(
            "its pages have an orientation tag; they are used as they are stored, not turned",
        );
    }
    Ok(notes)
}

/// The number of planes behind this one directory, and who says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Planes {
    pub(super) num_planes: u64,
    /// The kind of stack, for messages.
    pub(super) kind: &'static str,
    /// Whether the description may be older than the file, so that one plane is right too.
    pub(super) may_be_stale: bool,
}

/// How many planes the directory says follow each other behind it, if it is the only one.
pub(super) fn planes(directory: &Directory<'_>) -> Result<Option<Planes>, TiffStackError> {
    let planes = |num_planes, kind, may_be_stale| Planes {
        num_planes,
        kind,
        may_be_stale,
    };
    if let Some(num_planes) = directory.count(METAMORPH_PLANES) {
        return Ok(Some(planes(num_planes, "a MetaMorph stack", false)));
    }
    if let Some(images) = images_of_imagej(directory)? {
        return Ok(Some(planes(images, "an ImageJ stack", false)));
    }
    let Some(text) = directory.text(IMAGE_DESCRIPTION)? else {
        return Ok(None);
    };
    let text = text.trim_end_matches('\0').trim();
    let Ok(description) = serde_json::from_str::<ShapeDescription>(text) else {
        return Ok(None);
    };
    // The last two numbers are height and width; a last 1 may count the samples of a pixel.
    let (height, width) = size(directory)?;
    let mut shape = &description.shape[..];
    if let [rest @ .., 1] = shape
        && rest.ends_with(&[height as u64, width as u64])
    {
        shape = rest;
    }
    let [outer @ .., rows, columns] = shape else {
        return Ok(None);
    };
    if (*rows, *columns) != (height as u64, width as u64) {
        return Ok(None);
    }
    let num_planes = outer
        .iter()
        .fold(1, |product: u64, &n| product.saturating_mul(n));
    let kind = "a stack with a shape in its description";
    Ok(Some(planes(num_planes, kind, !description.truncated)))
}

/// The description that tifffile writes.
#[derive(serde::Deserialize)]
struct ShapeDescription {
    shape: Vec<u64>,
    /// Whether the directories of all pages but the first were left out.
    #[serde(default)]
    truncated: bool,
}

/// How many images ImageJ says follow each other behind this one directory.
fn images_of_imagej(directory: &Directory<'_>) -> Result<Option<u64>, TiffStackError> {
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
        // Numbers of a palette are measured values too; a page that says nothing is black-is-zero.
        None | Some(0 | 1 | 3) => {}
        Some(other) => {
            return Err(directory.unsupported(format!("has photometric interpretation {other}")));
        }
    }
    let format = directory.number(SAMPLE_FORMAT)?.unwrap_or(1);
    let bits = directory.number(BITS_PER_SAMPLE)?.unwrap_or(1);
    let sample = SampleType::from_tags(format, bits).map_err(|what| directory.unsupported(what))?;
    Ok(sample)
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
    let num_sparse = chunks
        .places
        .iter()
        .filter(|place| **place == (0, 0))
        .count() as u64;
    let stored = stored
        .fold(0, u64::saturating_add)
        .min(directory.file_len());
    let page = (height as u64).saturating_mul(width as u64);
    // Tiles are stored whole, even where they reach over the border.
    let chunk = (chunks.rows as u64).saturating_mul(chunks.columns as u64);
    let size = sample.size() as u64;
    let claimed = page.max(chunk).saturating_mul(size);
    let sparse = num_sparse.saturating_mul(chunk).saturating_mul(size);
    let to_hold = match chunks.compression {
        Compression::None => chunks.total_len(),
        _ => claimed,
    };
    let most = match chunks.compression {
        Compression::None => stored,
        _ => stored.saturating_mul(MAX_EXPANSION),
    };
    let most = most.saturating_add(sparse.min(MAX_SPARSE_BYTES));
    if to_hold > most || claimed > MAX_DECODED_BYTES {
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
