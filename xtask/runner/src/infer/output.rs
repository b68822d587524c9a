//! The result of a file: rows that are written as they become final.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use burn_memopt::chunked::{BoxError, RowSink};
use burn_memopt::files;
use burn_memopt_datasets::tiff::{FrameSource, TiffStack, TiffStackError, TiffStackWriter};

use super::records::PartState;
use super::target::Target;
use crate::train::most_probable;

/// How often rows are brought to the disk for certain. What is computed in between is lost if the
/// process is ended.
const SYNC_EVERY: Duration = Duration::from_millis(100);
/// What results name as their software.
const SOFTWARE: &str = "burn-memopt infer";
/// Bytes at both ends of a result, one of which has the name: the front of a PNG file, and the end of
/// a stack.
const NAMED_WITHIN: u64 = 256;
/// What is 1 in a PNG file.
const PNG_ONE: f32 = 65535.0;

/// A result that is being written, under a name of its own until it is whole.
///
/// The rows go to a TIFF stack, of which a PNG file is made at the end: so both can be resumed.
pub struct Output {
    target: Target,
    part: PathBuf,
    writer: TiffStackWriter,
    state: PartState,
    height: u64,
    /// Row, of all pages, that the pages which run now start with.
    first_row: u64,
    /// Planes of the model's result: of several, the number of the largest is written.
    channels: usize,
    /// The rows of each of several pages that run together, until all are there: rows of all of them
    /// come at once, and the file has them page by page.
    pages: Vec<Vec<f32>>,
    synced: Instant,
}

impl Output {
    /// Resumes `state`, or begins if it has no row.
    ///
    /// # Errors
    /// If the file cannot be written, or holds fewer rows.
    pub fn open(
        target: &Target,
        state: PartState,
        [channels, height, width]: [usize; 3],
    ) -> Result<Self, TiffStackError> {
        let part = PartState::part_of(&target.output);
        let whole = if target.is_tiff() {
            &target.output
        } else {
            &part
        };
        let rows = state.rows_done;
        let writer = TiffStackWriter::resume::<f32>(whole, &part, height, width, rows)?;
        let writer = writer.with_software(SOFTWARE);
        Ok(Self {
            target: target.clone(),
            part,
            writer,
            state,
            height: height as u64,
            first_row: 0,
            channels,
            pages: Vec::new(),
            synced: Instant::now(),
        })
    }

    /// Rows that were written, of all pages.
    pub fn rows_done(&self) -> u64 {
        self.writer.num_rows()
    }

    /// Takes the rows of pages from `page` on.
    pub fn start(&mut self, page: usize) {
        self.first_row = page as u64 * self.height;
    }

    /// Brings all rows to the disk and notes them down as done.
    ///
    /// # Errors
    /// If the disk is full.
    pub fn sync(&mut self) -> Result<()> {
        self.writer.sync()?;
        self.state.rows_done = self.writer.num_rows();
        self.state.save(&self.target.output)?;
        self.synced = Instant::now();
        Ok(())
    }

    /// Gives the result its name. Returns how many pixels a PNG file could not show, as they are below
    /// 0 or above 1.
    ///
    /// # Errors
    /// If the disk is full.
    pub fn finish(mut self) -> Result<u64> {
        self.sync()?;
        self.writer.finish()?;
        let mut num_clipped = 0;
        if !self.target.is_tiff() {
            let has_classes = self.channels > 1;
            num_clipped = write_png(&self.part, &self.target.output, has_classes)?;
            fs::remove_file(&self.part)
                .with_context(|| format!("cannot remove {}", self.part.display()))?;
        }
        PartState::remove(&self.target.output)?;
        Ok(num_clipped)
    }
}

impl RowSink for Output {
    fn begin(&mut self, [num_pages, _, height, width]: [usize; 4]) -> Result<usize, BoxError> {
        let num_kept = if num_pages > 1 { num_pages } else { 0 };
        let page = |_| Vec::with_capacity(height * width);
        self.pages = (0..num_kept).map(page).collect();
        Ok((self.writer.num_rows() - self.first_row) as usize)
    }

    fn write(&mut self, rows: Range<usize>, pixels: &[f32]) -> Result<(), BoxError> {
        if self.pages.is_empty() {
            self.writer
                .write_rows(&most_probable(pixels, self.channels))?;
        } else {
            let of_pages = pixels.chunks(pixels.len() / self.pages.len());
            for (page, pixels) in self.pages.iter_mut().zip(of_pages) {
                page.extend_from_slice(&most_probable(pixels, self.channels));
            }
            if (rows.end as u64) < self.height {
                return Ok(());
            }
            for page in std::mem::take(&mut self.pages) {
                self.writer.write_rows(&page)?;
            }
        }
        if self.synced.elapsed() >= SYNC_EVERY {
            self.sync().map_err(Into::<BoxError>::into)?;
        }
        Ok(())
    }
}

/// Whether a file is a result of this command, and not another one that would be lost.
///
/// # Errors
/// If the file cannot be read.
pub fn is_result(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let mut ends = Vec::new();
    (&file).take(NAMED_WITHIN).read_to_end(&mut ends)?;
    file.seek(SeekFrom::Start(len.saturating_sub(NAMED_WITHIN)))?;
    file.take(NAMED_WITHIN).read_to_end(&mut ends)?;
    let name = SOFTWARE.as_bytes();
    Ok(ends.windows(name.len()).any(|part| part == name))
}

/// Makes a PNG file of the only page of a stack, of shares of 65,535 or of the numbers of classes.
fn write_png(stack: &Path, target: &Path, has_classes: bool) -> Result<u64> {
    let stack = TiffStack::open(stack)?;
    let page = stack.page(0)?;
    let [height, width] = [stack.height(), stack.width()];
    let mut num_clipped = 0;
    // Of 16 bits, the high byte first.
    let mut pixels = Vec::with_capacity(2 * height * width);
    for row in 0..height {
        for value in page.patch(row..row + 1, 0..width) {
            let value = if has_classes {
                value as u16
            } else {
                num_clipped += u64::from(!(0.0..=1.0).contains(&value));
                (value.clamp(0.0, 1.0) * PNG_ONE).round() as u16
            };
            pixels.extend(value.to_be_bytes());
        }
    }
    files::write(target, |out| {
        let mut encoder = png::Encoder::new(out, width as u32, height as u32);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.set_depth(png::BitDepth::Sixteen);
        encoder.add_text_chunk("Software".into(), SOFTWARE.into())?;
        let mut image = encoder.write_header()?;
        image.write_image_data(&pixels)?;
        Ok(image.finish()?)
    })
    .with_context(|| format!("cannot write {}", target.display()))?;
    Ok(num_clipped)
}
