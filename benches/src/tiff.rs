//! Frames of a TIFF stack, in order and at random, mapped and deflated.

use std::{
    fs::File,
    hint::black_box,
    io::BufReader,
    path::{Path, PathBuf},
};

use burn_memopt_datasets::tiff::{TiffStack, TiffStackWriter};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};
use tiff::{
    decoder::{Decoder, DecodingResult},
    encoder::{Compression, Predictor, TiffEncoder, colortype::Gray16},
};

use crate::{Row, measure::compare_epochs};

/// Height and width of a frame in pixels.
const SIDE: usize = 256;
const NUM_FRAMES: usize = 400;

/// Two stacks of the same 400 frames of 256×256 noisy `u16` pixels.
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
    /// Writes both stacks into `folder`.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(folder: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let files = Self::in_folder(folder);
        let mut writer = TiffStackWriter::create(&files.contiguous, SIDE, SIDE)?;
        let mut encoder = TiffEncoder::new(File::create(&files.deflate)?)?
            .with_compression(Compression::Deflate(Default::default()))
            .with_predictor(Predictor::Horizontal);
        let mut rng = StdRng::seed_from_u64(0);
        for _ in 0..NUM_FRAMES {
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
) -> Result<(), String> {
    for index in order.frames(stack.num_frames()) {
        let page = stack.page(index).map_err(|error| error.to_string())?;
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

/// A stack whose pages are mapped, against one that is read into memory first.
pub(crate) fn mapped(order: Order) -> Result<Vec<Row>, String> {
    compare(|files| files.contiguous, order)
}

/// A stack whose pages are inflated when asked for, against one that is read into memory first.
pub(crate) fn deflate(order: Order) -> Result<Vec<Row>, String> {
    compare(|files| files.deflate, order)
}

/// Opens the stack and copies every frame to one place, in both ways in turn.
fn compare(file: fn(TiffFiles) -> PathBuf, order: Order) -> Result<Vec<Row>, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let files = TiffFiles::write(folder.path()).map_err(|error| error.to_string())?;
    let path = file(files);
    let read = |variant: usize, visit: &mut dyn FnMut(&[u16])| match variant {
        0 => visit_in_memory(&path, order, visit).map_err(|error| error.to_string()),
        _ => {
            let stack = TiffStack::open(&path).map_err(|error| error.to_string())?;
            visit_frames(&stack, order, visit)
        }
    };
    let mut sums = [Vec::new(), Vec::new()];
    for (variant, sums) in sums.iter_mut().enumerate() {
        read(variant, &mut |frame| sums.push(sum_of(frame)))?;
    }
    let mut place = vec![0; SIDE * SIDE];
    let rows = compare_epochs(["plain", "lazy"], NUM_FRAMES, |variant| {
        read(variant, &mut |frame| {
            black_box(&mut place).copy_from_slice(frame);
        })
    });
    let with_exact = |row| Row {
        exact: Some(sums[0] == sums[1]),
        ..row
    };
    Ok(rows?.into_iter().map(with_exact).collect())
}

/// The sum of all pixels of a frame.
pub fn sum_of(frame: &[u16]) -> u64 {
    frame.iter().map(|&pixel| u64::from(pixel)).sum()
}
