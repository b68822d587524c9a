//! Data: several loader threads against one, and frames of TIFF stacks, mapped and deflated.

use std::{
    fs::File,
    hint::black_box,
    io::{BufReader, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::{
    data::{
        dataloader::batcher::Batcher,
        dataset::{Dataset, DatasetError},
    },
    tensor::Device,
};
use burn_memopt::{chunked::BoxError, memory::Bytes};
use burn_memopt_datasets::{
    lazy::LazyDataset,
    loader::{Loader, LoaderConfig},
    shuffle::mix,
    tiff::{FrameSource, TiffStack, TiffStackWriter},
};
use flate2::{read::DeflateDecoder, write::DeflateEncoder};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use tiff::{
    decoder::{Decoder, DecodingResult},
    encoder::{Compression, Predictor, TiffEncoder, colortype::Gray16},
};

use crate::bench::{Bench, Runs};

/// Bytes of a page: 512×512 pixels of 16 bits.
const PAGE_BYTES: usize = 512 * 512 * 2;
/// Different pages; the others repeat them.
const NUM_DIFFERENT: usize = 8;
const BATCH_SIZE: usize = 8;
/// Room for four batches.
const PREFETCH_BYTES: u64 = (4 * BATCH_SIZE * PAGE_BYTES) as u64;

/// Deflated pages in memory. To load one is to inflate it, which only takes the processor's time.
#[derive(Clone)]
struct Pages {
    deflated: Arc<Vec<Vec<u8>>>,
    len: usize,
}

impl Pages {
    /// Pages that look like a camera's: a slope, and noise in the low bits.
    fn generate(len: usize) -> Result<Self, std::io::Error> {
        let page = |number: usize| {
            let pixels = (0..PAGE_BYTES as u64 / 2).flat_map(|pixel| {
                let noise = mix(number as u64, pixel) % 32;
                ((100 + pixel % 512 / 4 + noise) as u16).to_le_bytes()
            });
            let mut deflate = DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
            deflate.write_all(&pixels.collect::<Vec<u8>>())?;
            deflate.finish()
        };
        let pages: Result<_, _> = (0..NUM_DIFFERENT).map(page).collect();
        Ok(Self {
            deflated: Arc::new(pages?),
            len,
        })
    }
}

impl Dataset<Vec<u8>> for Pages {
    fn get(&self, index: usize) -> Result<Vec<u8>, DatasetError> {
        let mut page = Vec::with_capacity(PAGE_BYTES);
        DeflateDecoder::new(&self.deflated[index % NUM_DIFFERENT][..])
            .read_to_end(&mut page)
            .map_err(DatasetError::new)?;
        Ok(page)
    }

    fn len(&self) -> usize {
        self.len
    }
}

impl LazyDataset<Vec<u8>> for Pages {
    fn item_bytes(&self, _index: usize) -> u64 {
        PAGE_BYTES as u64
    }
}

/// Batches are their items.
struct Collect;

impl Batcher<Vec<u8>, Vec<Vec<u8>>> for Collect {
    fn batch(&self, pages: Vec<Vec<u8>>, _device: &Device) -> Vec<Vec<u8>> {
        pages
    }
}

type PageLoader = Loader<Vec<u8>, Vec<Vec<u8>>>;

/// Two workers against one. The work is the host's, whatever the device.
pub(crate) fn workers(bench: &mut Bench) -> Result<(), BoxError> {
    let pages = Pages::generate(bench.pick(192, 16))?;
    let loaders = [loader(&pages, 1)?, loader(&pages, 2)?];
    // The first epoch warms up, and shows that the items are the same.
    let orders: Vec<Vec<Vec<u8>>> = loaders
        .iter()
        .map(|loader| epoch(loader, |page| page[..64].to_vec()))
        .collect::<Result<_, _>>()?;
    let runs = Runs {
        // What is in flight, and the batch that the consumer holds.
        predicted: Some(Bytes::new(
            PREFETCH_BYTES + (BATCH_SIZE * PAGE_BYTES) as u64,
        )),
        exact: Some(orders[1] == orders[0]),
        ..Runs::on_host(&["plain", "workers=2"], pages.len)
    };
    bench.runs(&runs, |variant| {
        epoch(&loaders[variant], |page| page.len()).map(drop)
    })
}

fn loader(pages: &Pages, workers: usize) -> Result<PageLoader, BoxError> {
    let config = LoaderConfig::new(BATCH_SIZE)
        .with_workers(workers)
        .with_prefetch_bytes(PREFETCH_BYTES);
    Ok(Loader::new(
        pages.clone(),
        Collect,
        config,
        &Device::flex(),
    )?)
}

/// Takes all batches of an epoch as fast as they come, and what `look` sees in each page.
fn epoch<T>(loader: &PageLoader, look: impl Fn(&[u8]) -> T) -> Result<Vec<T>, BoxError> {
    let mut seen = Vec::new();
    for batch in loader.batches() {
        let batch = batch?;
        seen.extend(batch.iter().map(|page| look(page)));
    }
    Ok(seen)
}

/// Height and width of a frame in pixels.
const SIDE: usize = 256;

/// Two stacks of the same frames of 256×256 noisy `u16` pixels.
#[derive(Debug, Clone)]
pub struct TiffFiles {
    /// Uncompressed, all pixels in one piece.
    pub contiguous: PathBuf,
    /// Deflated with horizontal differences, a strip a page.
    pub deflate: PathBuf,
}

/// In what order frames are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// From the first to the last.
    Sequential,
    /// Each once, shuffled.
    Random,
}

impl TiffFiles {
    /// Frames of the stacks in the table.
    pub const NUM_FRAMES: usize = 400;

    /// Writes both stacks into `folder`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(folder: &Path, num_frames: usize) -> Result<Self, BoxError> {
        let files = Self::in_folder(folder);
        let mut writer = TiffStackWriter::create(&files.contiguous, SIDE, SIDE)?;
        let mut encoder = TiffEncoder::new(File::create(&files.deflate)?)?
            .with_compression(Compression::Deflate(Default::default()))
            .with_predictor(Predictor::Horizontal);
        let mut rng = StdRng::seed_from_u64(0);
        for _ in 0..num_frames {
            // As a camera shows a dim background: about 100 counts, noise of some ten.
            let noise = |rng: &mut StdRng| (0..4).map(|_| rng.random_range(0..16)).sum::<u16>();
            let frame: Vec<u16> = (0..SIDE * SIDE).map(|_| 70 + noise(&mut rng)).collect();
            writer.write_frame(&frame)?;
            let side = SIDE as u32;
            let mut image = encoder.new_image::<Gray16>(side, side)?;
            image.rows_per_strip(side)?;
            image.write_data(&frame)?;
        }
        writer.finish()?;
        Ok(files)
    }

    /// The stacks that [`write`](Self::write) left in `folder`.
    pub fn in_folder(folder: &Path) -> Self {
        Self {
            contiguous: folder.join("contiguous.tif"),
            deflate: folder.join("deflate.tif"),
        }
    }
}

impl Order {
    /// The frames in this order.
    pub fn frames(self, num_frames: usize) -> Vec<usize> {
        let mut frames: Vec<_> = (0..num_frames).collect();
        if self == Self::Random {
            frames.shuffle(&mut StdRng::seed_from_u64(1));
        }
        frames
    }
}

/// Shows each frame once, as it is stored.
///
/// # Errors
/// If the stack cannot be read or does not hold `u16` pixels of this machine's byte order.
pub fn visit_frames(
    stack: &TiffStack,
    order: Order,
    mut visit: impl FnMut(&[u16]),
) -> Result<(), BoxError> {
    for index in order.frames(stack.num_frames()) {
        let page = stack.page(index)?;
        let pixels = page.as_slice();
        visit(pixels.ok_or("the stack must hold u16 pixels of this machine's byte order")?);
    }
    Ok(())
}

/// All frames in memory, then asked for.
fn visit_in_memory(
    path: &Path,
    order: Order,
    mut visit: impl FnMut(&[u16]),
) -> Result<(), tiff::TiffError> {
    let mut decoder = Decoder::new(BufReader::new(File::open(path)?))?;
    let mut frames = Vec::new();
    loop {
        match decoder.read_image()? {
            DecodingResult::U16(pixels) => frames.push(pixels),
            other => panic!("frames must be u16, got {other:?}"),
        }
        if !decoder.more_images() {
            break;
        }
        decoder.next_image()?;
    }
    for index in order.frames(frames.len()) {
        visit(&frames[index]);
    }
    Ok(())
}

/// Copies every frame of a stack to one place: read into memory first, and lazily. Pages of the
/// contiguous stack are mapped, those of the deflated one inflated when they are asked for.
pub(crate) fn tiff(
    bench: &mut Bench,
    file: fn(TiffFiles) -> PathBuf,
    order: Order,
) -> Result<(), BoxError> {
    let folder = tempfile::tempdir()?;
    let num_frames = bench.pick(TiffFiles::NUM_FRAMES, 40);
    let files = TiffFiles::write(folder.path(), num_frames)?;
    let path = file(files);
    let read = |variant: usize, visit: &mut dyn FnMut(&[u16])| match variant {
        0 => Ok(visit_in_memory(&path, order, visit)?),
        _ => {
            let stack = TiffStack::open(&path)?;
            visit_frames(&stack, order, visit)
        }
    };
    let mut sums = [Vec::new(), Vec::new()];
    for (variant, sums) in sums.iter_mut().enumerate() {
        read(variant, &mut |frame| sums.push(sum_of(frame)))?;
    }
    let mut place = vec![0; SIDE * SIDE];
    let runs = Runs {
        exact: Some(sums[0] == sums[1]),
        ..Runs::on_host(&["plain", "lazy"], num_frames)
    };
    bench.runs(&runs, |variant| {
        read(variant, &mut |frame| {
            black_box(&mut place).copy_from_slice(frame);
        })
    })
}

/// The sum of all pixels of a frame.
pub fn sum_of(frame: &[u16]) -> u64 {
    frame.iter().map(|&pixel| u64::from(pixel)).sum()
}
