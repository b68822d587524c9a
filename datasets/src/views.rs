//! Folders of square images with where each was taken from: class, elevation and azimuth.
//!
//! These are the data of networks that learn objects from views of them. The labels are in the names of
//! the files or in a table, or there are none. [`solids`](crate::synthetic::solids) generates such a folder.

mod error;
mod labels;
mod names;

use std::path::Path;

use burn::data::dataset::{Dataset, DatasetError};
use image::Rgba;

use crate::{image_file, lazy::LazyDataset, shuffle::epoch_order};

pub use error::ViewError;
pub use labels::{ELEVATIONS, Labels, ViewLabel};

use labels::View;

/// An image, decoded, and where it was taken from.
#[derive(Debug, Clone, PartialEq)]
pub struct ViewItem {
    /// Red, then green, then blue, each row by row, from -1 to 1: `[3, height, width]`. What is transparent
    /// is white.
    pub pixels: Vec<f32>,
    /// What the image shows and where it was taken from, where that is known.
    pub label: Option<ViewLabel>,
    /// The file without extension, relative to the folder.
    pub name: String,
}

/// The images of a folder, decoded when they are asked for.
///
/// Only names and labels are in memory. The items are in natural order of their names, `box_0_5` before
/// `box_0_15`, or in the order of the table.
///
/// Classes are numbered in natural order of their names. Where all of them are numbers, they must be the
/// numbers from 0 on, and each keeps its own.
///
/// # Example
/// ```
/// # let folder = tempfile::tempdir()?;
/// use burn_memopt_datasets::synthetic::solids::{Solids, SolidsConfig};
/// use burn_memopt_datasets::views::{Labels, ViewFolder};
///
/// Solids::new(SolidsConfig::new().with_num_azimuths(6)).write(folder.path())?;
/// let views = ViewFolder::open(folder.path(), Labels::default())?;
/// assert_eq!(views.class_names(), ["box", "octahedron", "prism", "pyramid"]);
/// let label = views.label(1).unwrap();
/// assert_eq!((label.class, label.elevation, label.azimuth), (0, 0, 60));
///
/// let (training, held_out) = views.split(0.25, 7)?;
/// assert_eq!(training.item(0)?.pixels.len(), 3 * 32 * 32);
/// assert_eq!(held_out.size(), [32, 32]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ViewFolder {
    views: Vec<View>,
    class_names: Vec<String>,
    num_elevations: usize,
    size: [usize; 2],
}

impl ViewFolder {
    /// Finds the images of `folder` and their labels, and checks the sizes of all images by their headers.
    /// Decodes none.
    ///
    /// Images that a table does not name are left out.
    ///
    /// # Errors
    /// If the folder or the table cannot be read or is empty, a name does not match the pattern, a table
    /// lacks a column, names a file twice or one that does not exist; if an elevation is not 0 to 3, an
    /// azimuth is not 0 to 359, or classes are numbers with a gap; if a file is cut off, or images are not
    /// square or not of one size.
    pub fn open(folder: impl AsRef<Path>, labels: Labels) -> Result<Self, ViewError> {
        let (views, class_names) = labels::read(folder.as_ref(), labels)?;
        let elevations = views.iter().filter_map(|view| Some(view.label?.elevation));
        let num_elevations = elevations.max().map_or(0, |highest| highest + 1);
        let (height, width) = image_file::check(&views[0].path)?;
        if height != width {
            return Err(ViewError::NotSquare {
                path: views[0].path.clone(),
                height,
                width,
            });
        }
        let opened = Self {
            views,
            class_names,
            num_elevations,
            size: [height, width],
        };
        for view in &opened.views[1..] {
            opened.check_size(view, image_file::check(&view.path)?)?;
        }
        Ok(opened)
    }

    /// Names of the classes; the place of a name is the number of its class. Empty without labels.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// One more than the largest elevation index; 0 without labels.
    pub fn num_elevations(&self) -> usize {
        self.num_elevations
    }

    /// Height and width of every image in pixels, which are equal.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// Where image `index` was taken from, where that is known. Decodes nothing.
    ///
    /// # Panics
    /// If there is no item `index`.
    pub fn label(&self, index: usize) -> Option<ViewLabel> {
        crate::check_index("item", index, self.views.len());
        self.views[index].label
    }

    /// Decodes item `index`.
    ///
    /// # Errors
    /// If the file cannot be read, or has another size than when the folder was opened.
    ///
    /// # Panics
    /// If there is no item `index`.
    pub fn item(&self, index: usize) -> Result<ViewItem, ViewError> {
        crate::check_index("item", index, self.views.len());
        let view = &self.views[index];
        let (image, _) = image_file::decode(&view.path)?;
        self.check_size(view, (image.height() as usize, image.width() as usize))?;
        let image = image.into_rgba8();
        let planes = (0..3).flat_map(|channel| {
            let pixels = image.pixels();
            pixels.map(move |pixel| over_white(pixel, channel) / 127.5 - 1.0)
        });
        Ok(ViewItem {
            pixels: planes.collect(),
            label: view.label,
            name: view.name.clone(),
        })
    }

    /// Splits into images to train on and images that are held out, both in the order that they have here.
    ///
    /// The held out ones are the first in a shuffle by `seed`, `share` of all (rounded), so that the same
    /// seed always holds out the same; one image at least stays. Classes keep their numbers in both.
    ///
    /// # Errors
    /// If a class would have no image to train on.
    ///
    /// # Panics
    /// If `share` is not at least 0 and below 1.
    pub fn split(&self, share: f64, seed: u64) -> Result<(Self, Self), ViewError> {
        assert!(
            (0.0..1.0).contains(&share),
            "share must be at least 0 and below 1, got {share}"
        );
        let len = self.views.len();
        let num_held_out = (share * len as f64).round() as usize;
        let num_held_out = num_held_out.min(len.saturating_sub(1));
        let mut is_held_out = vec![false; len];
        for &index in &epoch_order(Some(seed), 0, len)[..num_held_out] {
            is_held_out[index] = true;
        }
        let part = |held_out: bool| {
            let views = self.views.iter().zip(&is_held_out);
            let views = views.filter(|&(_, &is_held_out)| is_held_out == held_out);
            Self {
                views: views.map(|(view, _)| view.clone()).collect(),
                class_names: self.class_names.clone(),
                ..*self
            }
        };
        let training = part(false);
        for (class, name) in self.class_names.iter().enumerate() {
            let mut labels = training.views.iter().filter_map(|view| view.label);
            if !labels.any(|label| label.class == class) {
                return Err(ViewError::ClassHeldOut {
                    class: name.clone(),
                });
            }
        }
        Ok((training, part(true)))
    }

    /// Compares the size of `view`, as (height, width), with that of all.
    fn check_size(&self, view: &View, (height, width): (usize, usize)) -> Result<(), ViewError> {
        if [height, width] == self.size {
            return Ok(());
        }
        Err(ViewError::SizeDiffers {
            first: self.views[0].path.clone(),
            first_height: self.size[0],
            first_width: self.size[1],
            second: view.path.clone(),
            second_height: height,
            second_width: width,
        })
    }
}

impl Dataset<ViewItem> for ViewFolder {
    fn get(&self, index: usize) -> Result<ViewItem, DatasetError> {
        self.item(index).map_err(DatasetError::new)
    }

    fn len(&self) -> usize {
        self.views.len()
    }
}

impl LazyDataset<ViewItem> for ViewFolder {
    fn item_bytes(&self, index: usize) -> u64 {
        crate::check_index("item", index, self.views.len());
        let [height, width] = self.size;
        (3 * height * width * size_of::<f32>() + size_of::<ViewItem>()) as u64
    }
}

/// A colour value from 0 to 255 as it looks on white paper.
fn over_white(pixel: &Rgba<u8>, channel: usize) -> f32 {
    let alpha = f32::from(pixel[3]) / 255.0;
    255.0 - alpha * (255.0 - f32::from(pixel[channel]))
}
