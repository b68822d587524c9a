//! The generated movie that a run without data learns from.

use std::path::Path;

use anyhow::Result;
use burn_memopt_datasets::synthetic::emitters::{EmitterConfig, EmitterMovie, MovieFiles};

/// The movie in `folder`, generated if it is not there yet.
///
/// # Errors
/// If it cannot be written.
pub fn movie_in(folder: &Path, config: &EmitterConfig) -> Result<MovieFiles> {
    let files = MovieFiles::in_folder(folder);
    if files.frames.is_file() && files.localizations.is_file() {
        return Ok(files);
    }
    Ok(EmitterMovie::generate(config).write(folder)?)
}
