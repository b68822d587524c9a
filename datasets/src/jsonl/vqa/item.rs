//! From a record to its item: where the image is, how large, and its pixels.

use std::{
    fs,
    marker::PhantomData,
    path::{Component, Path, PathBuf},
};

use super::{
    VqaConfig, VqaError, VqaItem,
    record::{Fields, VqaRecord},
};
use crate::{
    image_file::{self, ImageFileError, Pixel, planes},
    jsonl::JsonlRecord,
};

/// Makes items of the records of one file.
#[derive(Debug)]
pub(super) struct Images<P> {
    /// The JSON Lines file, for errors.
    path: PathBuf,
    root: PathBuf,
    config: VqaConfig,
    pixels: PhantomData<fn() -> P>,
}

impl<P: Pixel> Images<P> {
    pub(super) fn new(path: &Path, config: &VqaConfig) -> Self {
        let folder = path.parent().unwrap_or(Path::new(""));
        Self {
            path: path.into(),
            root: config.root.clone().unwrap_or_else(|| folder.into()),
            config: config.clone(),
            pixels: PhantomData,
        }
    }

    /// The fields of a record.
    pub(super) fn parse(&self, record: &JsonlRecord) -> Result<VqaRecord, VqaError> {
        Ok(record.parse_as(Fields(&self.config), &self.path)?)
    }

    /// The whole item of a record.
    pub(super) fn load(&self, record: &JsonlRecord) -> Result<VqaItem<P>, VqaError> {
        let number = record.number;
        let fields = self.parse(record)?;
        let image_path = self.locate(number, &fields.image)?;
        self.check_size(number, &image_path)?;
        let damaged = |source| self.damaged(number, source);
        let (image, _) = image_file::decode(&image_path).map_err(damaged)?;
        Ok(VqaItem {
            record: number,
            height: image.height() as usize,
            width: image.width() as usize,
            image: planes(&image),
            image_path,
            question: fields.question,
            answers: fields.answers,
        })
    }

    /// Bytes of a record's item: from the configured size, or from the header of its image; those
    /// of its text alone where the image cannot be found, and so not be loaded.
    pub(super) fn item_bytes(
        &self,
        text_len: u64,
        record: impl FnOnce() -> Option<JsonlRecord>,
    ) -> u64 {
        let from_header = || {
            let record = record()?;
            let fields = self.parse(&record).ok()?;
            let path = self.locate(record.number, &fields.image).ok()?;
            image_file::size(&path).ok()
        };
        let size = match self.config.image_size {
            Some([height, width]) => Some((height, width)),
            None => from_header(),
        };
        let image = size.map_or(0, |size| image_bytes::<P>(size));
        image + text_len + size_of::<VqaItem<P>>() as u64
    }

    /// The file of an image, which exists.
    fn locate(&self, record: u64, image: &str) -> Result<PathBuf, VqaError> {
        let inside = self.config.allow_outside_root.then(|| image.into());
        let inside = inside.or_else(|| inside_root(Path::new(image)));
        let Some(inside) = inside else {
            return Err(VqaError::OutsideRoot {
                path: self.path.clone(),
                record,
                image: image.into(),
                root: self.root.clone(),
            });
        };
        let file = self.root.join(inside);
        match fs::metadata(&file) {
            Ok(metadata) if metadata.is_file() => Ok(file),
            // To open a pipe would wait for a writer, and a device may never end.
            Ok(_) => Err(VqaError::NotAFile {
                path: self.path.clone(),
                record,
                image: file,
            }),
            Err(source) => Err(VqaError::MissingImage {
                path: self.path.clone(),
                record,
                image: file,
                source,
            }),
        }
    }

    /// Checks the size that the header claims, before anything is decoded.
    fn check_size(&self, record: u64, image: &Path) -> Result<(), VqaError> {
        let found = image_file::size(image).map_err(|source| self.damaged(record, source))?;
        if let Some([height, width]) = self.config.image_size
            && found != (height, width)
        {
            return Err(VqaError::SizeDiffers {
                path: self.path.clone(),
                record,
                image: image.into(),
                found_height: found.0,
                found_width: found.1,
                height,
                width,
            });
        }
        let (needed, allowed) = (image_bytes::<P>(found), self.config.max_image_bytes);
        if needed > allowed {
            return Err(VqaError::TooLarge {
                path: self.path.clone(),
                record,
                image: image.into(),
                needed,
                allowed,
            });
        }
        Ok(())
    }

    fn damaged(&self, record: u64, source: ImageFileError) -> VqaError {
        VqaError::Image {
            path: self.path.clone(),
            record,
            source,
        }
    }
}

/// Bytes of three planes of `(height, width)`.
fn image_bytes<P>((height, width): (usize, usize)) -> u64 {
    let num_values = (height as u64)
        .saturating_mul(width as u64)
        .saturating_mul(3);
    num_values.saturating_mul(size_of::<P>() as u64)
}

/// A path without `..`, if it stays below where it starts.
///
/// The steps back are taken here and not by the system, for which `link/..` is not
/// where `link` is.
fn inside_root(path: &Path) -> Option<PathBuf> {
    let mut inside = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => inside.push(name),
            Component::CurDir => {}
            Component::ParentDir if inside.pop() => {}
            _ => return None,
        }
    }
    Some(inside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::plain("a/b.png", Some("a/b.png"))]
    #[case::steps_within("a/../b/./c.png", Some("b/c.png"))]
    #[case::step_out("../b.png", None)]
    #[case::step_out_by_detour("a/../../b.png", None)]
    #[case::absolute("/etc/passwd", None)]
    #[cfg_attr(windows, case::drive("C:\\b.png", None))]
    fn paths_stay_inside_the_root(#[case] path: &str, #[case] inside: Option<&str>) {
        assert_eq!(
            inside_root(Path::new(path)).as_deref(),
            inside.map(Path::new)
        );
    }
}
