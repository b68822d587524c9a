//! Many files as one stack.

use std::{
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use lru::LruCache;

use super::{
    error::TiffStackError, frame::FrameSource, layout::Layout, page::Page, stack::TiffStack,
};
use crate::{
    folder::{FileKind, FolderError, files_of, natural_cmp},
    lock,
};

/// Files that are open at the same time, at most.
const MAX_OPEN: NonZeroUsize = NonZeroUsize::new(16).expect("invariant: 16 is not 0");

/// TIFF files of one frame size, each with one page or more, read as one stack.
///
/// Every file is opened once, to count its pages; at most 16 are open at any time. Of each file the
/// name and page index are in memory.
///
/// # Example
/// ```
/// # let folder = tempfile::tempdir()?;
/// use burn_memopt_datasets::tiff::{FrameSource, TiffSequence, TiffStackWriter};
///
/// for (name, pages) in [("cell_10.tif", 1), ("cell_9.tif", 2u8)] {
///     let mut writer = TiffStackWriter::create(folder.path().join(name), 1, 1)?;
///     for page in 0..pages {
///         writer.write_frame(&[10 * pages + page])?;
///     }
///     writer.finish()?;
/// }
/// let movie = TiffSequence::open(folder.path())?;
/// assert_eq!(movie.num_frames(), 3);
/// assert_eq!(movie.frame(2)?.pixels, [10.0]); // cell_10 after both pages of cell_9
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct TiffSequence {
    files: Vec<SequenceFile>,
    num_frames: usize,
    notes: Vec<String>,
    open: Mutex<LruCache<usize, Arc<TiffStack>>>,
}

#[derive(Debug)]
struct SequenceFile {
    path: PathBuf,
    /// The sequence's number of its first frame.
    start: usize,
    layout: Arc<Layout>,
}

impl TiffSequence {
    /// Reads all files of a folder that end in `.tif` or `.tiff` and are not hidden, in the order in
    /// which people count: `frame2.tif` before `frame10.tif`.
    ///
    /// # Errors
    /// If the folder cannot be listed or has no such file, a file cannot be opened, or frames are
    /// of different sizes.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, TiffStackError> {
        let folder = folder.as_ref();
        let mut paths = files_of(FileKind::Tiff, folder)
            .map_err(|FolderError { path, source }| TiffStackError::Folder { path, source })?;
        paths.sort_by(|a, b| natural_cmp(&a.to_string_lossy(), &b.to_string_lossy()));
        if paths.is_empty() {
            return Err(TiffStackError::NoFiles {
                path: folder.into(),
            });
        }
        Self::from_files(paths)
    }

    /// Reads files in the order given.
    ///
    /// # Errors
    /// If a file cannot be opened, or frames are of different sizes.
    ///
    /// # Panics
    /// If there is no file.
    pub fn from_files(paths: Vec<PathBuf>) -> Result<Self, TiffStackError> {
        assert!(
            !paths.is_empty(),
            "a sequence must have at least one file, got none"
        );
        let mut open = LruCache::new(MAX_OPEN);
        let mut files: Vec<SequenceFile> = Vec::with_capacity(paths.len());
        let mut start = 0;
        // Each note with the first file that it is about, and with how many there are.
        let mut noted: Vec<(String, String, usize)> = Vec::new();
        for path in paths {
            let stack = TiffStack::open(&path)?;
            check_size(&stack, files.first())?;
            for note in stack.notes() {
                match noted.iter_mut().find(|(known, ..)| known == note) {
                    Some((.., num)) => *num += 1,
                    None => {
                        let name = path.file_name().unwrap_or_default();
                        noted.push((note.clone(), name.to_string_lossy().into_owned(), 1));
                    }
                }
            }
            let layout = stack.layout().clone();
            let num_frames = stack.num_frames();
            open.put(files.len(), Arc::new(stack));
            files.push(SequenceFile {
                path,
                start,
                layout,
            });
            start += num_frames;
        }
        Ok(Self {
            files,
            num_frames: start,
            notes: noted
                .into_iter()
                .map(|(note, file, num)| match num {
                    1 => format!("{file}: {note}"),
                    _ => format!("{num} files, the first {file}: {note}"),
                })
                .collect(),
            open: Mutex::new(open),
        })
    }

    /// The files, in order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// The file, opened again if it was closed.
    fn stack(&self, file: usize) -> Result<Arc<TiffStack>, TiffStackError> {
        let open = lock(&self.open).get(&file).cloned();
        if let Some(stack) = open {
            return Ok(stack);
        }
        let SequenceFile { path, layout, .. } = &self.files[file];
        let stack = Arc::new(TiffStack::reopen(path, layout.clone())?);
        lock(&self.open).put(file, stack.clone());
        Ok(stack)
    }
}

impl FrameSource for TiffSequence {
    /// The folder; that of the first file if these were given.
    fn path(&self) -> &Path {
        let first = &self.files[0].path;
        first.parent().unwrap_or(first)
    }

    /// Of all files; what several have in common is said once.
    fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Of all files.
    fn num_frames(&self) -> usize {
        self.num_frames
    }

    fn height(&self) -> usize {
        self.files[0].layout.height
    }

    fn width(&self) -> usize {
        self.files[0].layout.width
    }

    /// Counted over all files.
    fn page(&self, index: usize) -> Result<Page, TiffStackError> {
        if index >= self.num_frames {
            return Err(TiffStackError::FrameOutOfRange {
                path: self.files[0].path.clone(),
                index,
                num_frames: self.num_frames,
            });
        }
        let file = self.files.partition_point(|file| file.start <= index) - 1;
        let page = index - self.files[file].start;
        let mut page = self.stack(file)?.page(page)?;
        page.index = index;
        Ok(page)
    }
}

fn check_size(stack: &TiffStack, first: Option<&SequenceFile>) -> Result<(), TiffStackError> {
    let Some(first) = first else {
        return Ok(());
    };
    let (height, width) = (stack.height(), stack.width());
    let (expected_height, expected_width) = (first.layout.height, first.layout.width);
    if (height, width) != (expected_height, expected_width) {
        return Err(TiffStackError::FileDiffers {
            path: stack.path().into(),
            height,
            width,
            first: first.path.clone(),
            expected_height,
            expected_width,
        });
    }
    Ok(())
}
