//! Which files are read, and where their results go.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::output::is_result;
use super::records::PartState;
use crate::report::note_unread;
use crate::settings::UsageError;
use crate::settings::is_same;
use burn_memopt_datasets::folder::{FileKind, files_of};

/// A file and where its result goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub input: PathBuf,
    pub output: PathBuf,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub enum Work {
    /// One file.
    File(Target),
    /// Files of a folder, by name, and the folder of their results.
    Folder(PathBuf, Vec<Target>),
}

impl Work {
    /// Looks at what `input` is.
    ///
    /// # Errors
    /// If it is missing, is nothing that is read, or `output` does not fit it.
    pub fn find(input: &Path, output: &Path) -> Result<Self> {
        let metadata = fs::metadata(input)
            .with_context(|| format!("cannot read {}; check that it exists", input.display()))?;
        if is_same(input, output) {
            refuse(
                "--output must be another file or folder than --input",
                output,
            )?;
        }
        if metadata.is_dir() {
            Self::in_folder(input, output)
        } else {
            Self::single(input, output)
        }
    }

    fn in_folder(input: &Path, output: &Path) -> Result<Self> {
        if output.is_file() {
            refuse("--output of a folder must be a folder", output)?;
        }
        let mut files = files_of(FileKind::Tiff, input)?;
        files.extend(files_of(FileKind::Image, input)?);
        files.sort();
        if files.is_empty() {
            bail!(
                "{} holds no TIFF, PNG or JPEG file, and no BMP, GIF or WebP; give a folder that does",
                input.display()
            );
        }
        note_unread(input)?;
        let mut targets: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
        for file in files {
            let result = output.join(result_name(&file));
            if let Some(other) = targets.insert(result.clone(), file.clone()) {
                bail!(
                    "{} and {} would both be written to {}; rename one of them",
                    other.display(),
                    file.display(),
                    result.display()
                );
            }
        }
        let target = |(output, input)| Target { input, output };
        let targets = targets.into_iter().map(target).collect();
        Ok(Self::Folder(output.into(), targets))
    }

    fn single(input: &Path, output: &Path) -> Result<Self> {
        if !matches!(FileKind::from_name(input), FileKind::Tiff | FileKind::Image) {
            let rule = "--input must be a folder or a file that ends in .tif, .tiff, .png, .jpg, \
                        .jpeg, .jfif, .bmp, .gif or .webp";
            refuse(rule, input)?;
        }
        let output = if output.is_dir() {
            output.join(result_name(input))
        } else {
            output.into()
        };
        if is_same(input, &output) {
            refuse("--output must be another file than --input", &output)?;
        }
        let target = Target {
            input: input.into(),
            output,
        };
        if !target.is_tiff() && !target.is_png() {
            let rule = "--output must be a folder or end in .tif, .tiff or .png";
            refuse(rule, &target.output)?;
        }
        Ok(Self::File(target))
    }

    /// Refuses to write over files that this command did not write.
    ///
    /// # Errors
    /// If there is one, or a file cannot be read.
    pub fn check_free(&self) -> Result<()> {
        let targets = match self {
            Self::File(target) => std::slice::from_ref(target),
            Self::Folder(_, targets) => targets,
        };
        for Target { output, .. } in targets {
            let is_own =
                || is_result(output).with_context(|| format!("cannot read {}", output.display()));
            let is_begun = PartState::find(output).is_some();
            if output.exists() && !is_begun && !is_own()? {
                bail!(
                    "{} is there already and is no result of infer: give another --output, or write \
                     over it with --overwrite",
                    output.display()
                );
            }
        }
        Ok(())
    }

    /// Makes the folder of the results.
    ///
    /// # Errors
    /// If that cannot be done.
    pub fn make_folder(&self) -> Result<()> {
        let folder = match self {
            Self::File(target) => target.output.parent().unwrap_or(Path::new("")),
            Self::Folder(folder, _) => folder,
        };
        fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {} for results", folder.display()))
    }
}

impl Target {
    /// Whether the result is a TIFF stack.
    pub fn is_tiff(&self) -> bool {
        FileKind::from_name(&self.output) == FileKind::Tiff
    }

    fn is_png(&self) -> bool {
        let extension = self.output.extension();
        extension.is_some_and(|extension| extension.eq_ignore_ascii_case("png"))
    }

    /// Refuses a result that cannot hold so many pages.
    ///
    /// # Errors
    /// [`UsageError`] that says what to choose.
    pub fn check_pages(&self, num_pages: usize) -> Result<()> {
        if num_pages > 1 && !self.is_tiff() {
            bail!(UsageError(format!(
                "{} has {num_pages} pages, a PNG file holds one; let --output end in .tif",
                self.input.display()
            )));
        }
        Ok(())
    }
}

/// The name of a file's result: a stack of a stack, a PNG file of an image.
fn result_name(input: &Path) -> PathBuf {
    let name = Path::new(input.file_name().unwrap_or_default());
    match FileKind::from_name(input) {
        FileKind::Tiff => name.into(),
        _ => name.with_extension("png"),
    }
}

fn refuse(rule: &str, got: &Path) -> Result<()> {
    bail!(UsageError(format!("{rule}, got {}", got.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_a_folder_have_the_names_of_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path();
        for name in ["b.JPG", "a.tiff", "c.png", "notes.txt", ".hidden.png"] {
            fs::write(input.join(name), "").unwrap();
        }
        let Work::Folder(_, targets) = Work::find(input, Path::new("out")).unwrap() else {
            panic!("a folder");
        };
        let outputs: Vec<_> = targets.iter().map(|target| target.output.clone()).collect();
        assert_eq!(
            outputs,
            ["out/a.tiff", "out/b.png", "out/c.png"].map(PathBuf::from)
        );

        fs::write(input.join("c.jpeg"), "").unwrap();
        let error = Work::find(input, Path::new("out")).unwrap_err().to_string();
        assert!(
            error.contains("c.jpeg") && error.contains("rename"),
            "{error}"
        );
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("a.png");
        fs::write(&input, "").unwrap();
        for output in [
            &input,
            &folder.path().join("a.bmp"),
            &folder.path().to_path_buf(),
        ] {
            let error = Work::find(&input, output).unwrap_err();
            assert!(error.is::<UsageError>(), "{error}");
        }
        let stack = folder.path().join("b.tif");
        fs::write(&stack, "").unwrap();
        let Work::File(target) = Work::find(&stack, &folder.path().join("c.png")).unwrap() else {
            panic!("a file");
        };
        assert!(target.check_pages(1).is_ok() && target.check_pages(2).is_err());
    }
}
