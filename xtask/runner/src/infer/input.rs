//! Images and stacks, of which windows are read.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use burn::tensor::{Device, Tensor, TensorData};
use burn_memopt::chunked::{BoxError, ImageSource};
use burn_memopt_datasets::image_file;
use burn_memopt_datasets::normalization::Normalization;
use burn_memopt_datasets::tiff::{FrameSource, Page, TiffStack, TiffStackError};
use image::DynamicImage;

use super::model::Trained;
use burn_memopt_datasets::folder::FileKind;

/// What a model runs on: pages of one size.
pub struct Input {
    path: PathBuf,
    pages: Pages,
    normalization: Option<Normalization>,
}

enum Pages {
    /// Read by window where it is memory-mapped; the page that was decoded last is kept.
    Stack(TiffStack, RefCell<Option<Page>>),
    /// Decoded as a whole, as PNG and JPEG cannot be read otherwise.
    Picture(DynamicImage),
}

impl Input {
    /// Opens a file for `model`.
    ///
    /// # Errors
    /// If it is missing, damaged or of another kind, or its channels do not fit the model.
    pub fn open(path: &Path, model: &Trained) -> Result<Self> {
        let pages = match FileKind::from_name(path) {
            FileKind::Tiff => {
                let stack = TiffStack::open_checked(path)?;
                crate::report::print_notes(&stack);
                let decoded = RefCell::default();
                // A page that has to be decoded is in memory from now on, when windows are chosen.
                patch(&stack, &decoded, 0, 0..1, 0..1)?;
                Pages::Stack(stack, decoded)
            }
            _ => Pages::Picture(image_file::decode(path)?.0),
        };
        let channels = match &pages {
            Pages::Picture(image) if image.color().has_color() => 3,
            _ => 1,
        };
        let is_stack = matches!(pages, Pages::Stack(..));
        // Gray pictures are shown to a model of colours as in training: all three alike.
        if channels != model.channels && (channels == 3 || is_stack) {
            bail!(
                "{} has {channels} channel{}, the model takes {}: give {}",
                path.display(),
                if channels == 1 { "" } else { "s" },
                model.channels,
                match model.channels {
                    1 => "gray images or TIFF stacks, as it was trained on",
                    _ => "PNG or JPEG images, as it was trained on",
                },
            );
        }
        Ok(Self {
            path: path.into(),
            pages,
            normalization: model.normalization,
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of pages; 1 for a picture.
    pub fn num_pages(&self) -> usize {
        match &self.pages {
            Pages::Stack(stack, _) => stack.num_frames(),
            Pages::Picture(_) => 1,
        }
    }

    /// Height and width of a page in pixels.
    pub fn size(&self) -> [usize; 2] {
        match &self.pages {
            Pages::Stack(stack, _) => [stack.height(), stack.width()],
            Pages::Picture(image) => [image.height() as usize, image.width() as usize],
        }
    }

    /// Channels that the model gets.
    fn channels(&self) -> usize {
        if self.normalization.is_some() { 1 } else { 3 }
    }

    /// The pixels of a rectangle as the model was trained on them, channel by channel.
    fn pixels(
        &self,
        page: usize,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Result<Vec<f32>, TiffStackError> {
        let mut pixels = match &self.pages {
            Pages::Stack(stack, decoded) => patch(stack, decoded, page, rows, columns)?,
            Pages::Picture(image) => {
                let [left, width] = [columns.start, columns.len()].map(|side| side as u32);
                let [top, height] = [rows.start, rows.len()].map(|side| side as u32);
                let part = image.crop_imm(left, top, width, height);
                match self.channels() {
                    1 => gray(part),
                    _ => planes(part),
                }
            }
        };
        if let Some(normalization) = &self.normalization {
            normalization.apply(&mut pixels);
        }
        Ok(pixels)
    }
}

/// A rectangle of a page. A page that is a view of the file is requested again each time, which lets
/// the system take back what was read; one that has to be decoded is kept for its next window.
fn patch(
    stack: &TiffStack,
    decoded: &RefCell<Option<Page>>,
    index: usize,
    rows: Range<usize>,
    columns: Range<usize>,
) -> Result<Vec<f32>, TiffStackError> {
    let mut decoded = decoded.borrow_mut();
    if let Some(page) = decoded.as_ref().filter(|page| page.index() == index) {
        return Ok(page.patch(rows, columns));
    }
    *decoded = None;
    let page = stack.page(index)?;
    let pixels = page.patch(rows, columns);
    *decoded = (!page.is_mapped()).then_some(page);
    Ok(pixels)
}

/// Gray values as they are stored.
fn gray(image: DynamicImage) -> Vec<f32> {
    match image {
        DynamicImage::ImageLuma8(image) => image.into_raw().into_iter().map(f32::from).collect(),
        DynamicImage::ImageLumaA8(image) => image.pixels().map(|p| f32::from(p.0[0])).collect(),
        DynamicImage::ImageLumaA16(image) => image.pixels().map(|p| f32::from(p.0[0])).collect(),
        other => other
            .to_luma16()
            .into_raw()
            .into_iter()
            .map(f32::from)
            .collect(),
    }
}

/// Colours from 0 to 1: `[height, width, 3]` -> `[3, height, width]`.
fn planes(image: DynamicImage) -> Vec<f32> {
    let pixels = image.to_rgb32f().into_raw();
    let channel = |channel: usize| pixels.iter().skip(channel).step_by(3).copied();
    (0..3).flat_map(channel).collect()
}

/// Pages of a file that run together, on the device of the model.
pub struct PageGroup<'a> {
    /// The file.
    pub input: &'a Input,
    /// The pages.
    pub pages: Range<usize>,
    /// The device.
    pub device: &'a Device,
}

impl ImageSource for PageGroup<'_> {
    fn dims(&self) -> [usize; 4] {
        let [height, width] = self.input.size();
        [self.pages.len(), self.input.channels(), height, width]
    }

    fn read(
        &self,
        image: usize,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Result<Tensor<4>, BoxError> {
        let dims = [1, self.input.channels(), rows.len(), columns.len()];
        let pixels = self.input.pixels(self.pages.start + image, rows, columns)?;
        Ok(Tensor::from_data(
            TensorData::new(pixels, dims),
            self.device,
        ))
    }
}
