//! Movies of blinking emitters with known truth.
//!
//! Emitters switch on at random, shine for a few frames and switch off. Each is
//! a Gaussian spot integrated over pixels; photons arrive with shot noise, and
//! the camera adds gain, offset and read noise.

use std::path::{Path, PathBuf};

use burn::config::Config;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rand_distr::{Distribution, Geometric, Normal, Poisson};

use super::check_sizes;
use crate::{
    localizations::{Localization, LocalizationError, write_csv},
    tiff::{TiffStackError, TiffStackWriter},
};

/// What a generated movie shows.
#[derive(Config, Debug)]
pub struct EmitterConfig {
    /// Number of frames. The default is `100`.
    #[config(default = 100)]
    pub num_frames: usize,
    /// Height of a frame in pixels. The default is `64`.
    #[config(default = 64)]
    pub height: usize,
    /// Width of a frame in pixels. The default is `64`.
    #[config(default = 64)]
    pub width: usize,
    /// Emitters that shine in a frame, on average; single frames vary as a Poisson
    /// number does. The default is `3.0`.
    #[config(default = 3.0)]
    pub emitters_per_frame: f64,
    /// Frames that an emitter shines for, on average, at least 1. The default is `2.5`.
    #[config(default = 2.5)]
    pub mean_on_frames: f64,
    /// Photons from an emitter in a frame, on average. The default is `1500.0`.
    #[config(default = 1500.0)]
    pub photons: f64,
    /// Standard deviation of the photons between emitters, as a share of
    /// `photons`. The default is `0.25`.
    #[config(default = 0.25)]
    pub photon_spread: f64,
    /// Standard deviation of a spot in pixels. The default is `1.1`.
    #[config(default = 1.1)]
    pub psf_sigma: f64,
    /// Background in photons a pixel. The default is `20.0`.
    #[config(default = 20.0)]
    pub background: f64,
    /// Camera counts for a photon. The default is `2.0`.
    #[config(default = 2.0)]
    pub gain: f64,
    /// Camera counts without light. The default is `100.0`.
    #[config(default = 100.0)]
    pub offset: f64,
    /// Standard deviation of the camera's noise in counts. The default is `3.0`.
    #[config(default = 3.0)]
    pub read_noise: f64,
    /// Seed of everything random: the same configuration makes the same movie.
    /// The default is `0`.
    #[config(default = 0)]
    pub seed: u64,
}

/// A generated movie and the truth about it.
#[derive(Debug, Clone, PartialEq)]
pub struct EmitterMovie {
    /// Height of a frame in pixels.
    pub height: usize,
    /// Width of a frame in pixels.
    pub width: usize,
    /// Camera counts of each frame, row by row.
    pub frames: Vec<Vec<u16>>,
    /// Every emitter in every frame it shines in, by frame.
    pub localizations: Vec<Localization>,
}

/// The files of a movie on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovieFiles {
    /// The TIFF stack.
    pub frames: PathBuf,
    /// The table of localizations.
    pub localizations: PathBuf,
}

impl MovieFiles {
    /// The files that [`EmitterMovie::write`] leaves in `folder`.
    pub fn in_folder(folder: impl AsRef<Path>) -> Self {
        let folder = folder.as_ref();
        Self {
            frames: folder.join("frames.tif"),
            localizations: folder.join("localizations.csv"),
        }
    }
}

/// Why a movie could not be written.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum EmitterError {
    /// The folder could not be created.
    #[error("cannot create the folder {path} for a generated movie: check that it may be written", path = .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        source: std::io::Error,
    },
    /// The frames could not be written.
    #[error(transparent)]
    Frames(#[from] TiffStackError),
    /// The table could not be written.
    #[error(transparent)]
    Localizations(#[from] LocalizationError),
}

impl EmitterMovie {
    /// Generates the movie that `config` describes.
    ///
    /// # Panics
    /// If a size is zero, or a rate, width or noise is negative, not finite or, for
    /// `psf_sigma`, `photons` and `gain`, zero; or if `mean_on_frames` is below 1.
    ///
    /// # Example
    /// ```
    /// use burn_memopt_datasets::synthetic::emitters::{EmitterConfig, EmitterMovie};
    ///
    /// let config = EmitterConfig::new().with_num_frames(4).with_seed(7);
    /// let movie = EmitterMovie::generate(&config);
    /// assert_eq!(movie.frames.len(), 4);
    /// assert_eq!(movie, EmitterMovie::generate(&config));
    /// ```
    pub fn generate(config: &EmitterConfig) -> Self {
        check(config);
        let mut rng = StdRng::seed_from_u64(config.seed);
        let localizations = blink(config, &mut rng);
        let mut rest = localizations.as_slice();
        let frames = (0..config.num_frames)
            .map(|frame| {
                let here = rest.partition_point(|emitter| emitter.frame == frame);
                let (emitters, later) = rest.split_at(here);
                rest = later;
                expose(config, &expected_photons(config, emitters), &mut rng)
            })
            .collect();
        Self {
            height: config.height,
            width: config.width,
            frames,
            localizations,
        }
    }

    /// Writes `frames.tif` and `localizations.csv` into `folder`, creating it.
    ///
    /// # Errors
    /// If the folder or a file cannot be written.
    pub fn write(&self, folder: impl AsRef<Path>) -> Result<MovieFiles, EmitterError> {
        let folder = folder.as_ref();
        std::fs::create_dir_all(folder).map_err(|source| EmitterError::Folder {
            path: folder.into(),
            source,
        })?;
        let files = MovieFiles::in_folder(folder);
        let mut writer = TiffStackWriter::create(&files.frames, self.height, self.width)?;
        for frame in &self.frames {
            writer.write_frame(frame)?;
        }
        writer.finish()?;
        write_csv(&files.localizations, &self.localizations)?;
        Ok(files)
    }
}

fn check(config: &EmitterConfig) {
    check_sizes(config.num_frames, config.height, config.width);
    let least = [
        ("emitters_per_frame", config.emitters_per_frame, 0.0),
        ("mean_on_frames", config.mean_on_frames, 1.0),
        ("photons", config.photons, f64::MIN_POSITIVE),
        ("photon_spread", config.photon_spread, 0.0),
        ("psf_sigma", config.psf_sigma, f64::MIN_POSITIVE),
        ("background", config.background, 0.0),
        ("gain", config.gain, f64::MIN_POSITIVE),
        ("offset", config.offset, 0.0),
        ("read_noise", config.read_noise, 0.0),
    ];
    for (name, value, least) in least {
        assert!(
            value.is_finite() && value >= least,
            "{name} must be finite and at least {least}, got {value}"
        );
    }
}

/// Every emitter in every frame it shines in, by frame.
///
/// Arrivals are a Poisson process that is already under way in the first frame,
/// so no frame is special; lifetimes are geometric, without memory.
fn blink(config: &EmitterConfig, rng: &mut StdRng) -> Vec<Localization> {
    let stop = 1.0 / config.mean_on_frames;
    let lifetime = Geometric::new(stop).expect("invariant: mean_on_frames is at least 1");
    let mut localizations = Vec::new();
    for start in 0..config.num_frames {
        let rate = match start {
            0 => config.emitters_per_frame,
            _ => config.emitters_per_frame * stop,
        };
        for _ in 0..poisson(rate, rng) as u64 {
            let emitter = switch_on(config, start, rng);
            // At least the frame it was switched on in.
            let frames = lifetime.sample(rng).saturating_add(1);
            let end = config.num_frames.min(start.saturating_add(frames as usize));
            localizations.extend((start..end).map(|frame| Localization { frame, ..emitter }));
        }
    }
    localizations.sort_by_key(|emitter| emitter.frame);
    localizations
}

fn switch_on(config: &EmitterConfig, frame: usize, rng: &mut StdRng) -> Localization {
    // Two pixels from the border, so that every emitter can be seen.
    let mut place = |len: usize| {
        let margin = 2f64.min((len - 1) as f64 / 2.0);
        let span = (len - 1) as f64 - 2.0 * margin;
        (margin + span * rng.random::<f64>()) as f32
    };
    let (x, y) = (place(config.width), place(config.height));
    let photons = normal(config.photons, config.photons * config.photon_spread, rng);
    Localization {
        photons: Some(photons.max(0.1 * config.photons) as f32),
        sx: Some(config.psf_sigma as f32),
        sy: Some(config.psf_sigma as f32),
        bg: Some(config.background as f32),
        ..Localization::new(frame, x, y)
    }
}

/// Photons that each pixel expects in a frame.
fn expected_photons(config: &EmitterConfig, emitters: &[Localization]) -> Vec<f64> {
    let (height, width) = (config.height, config.width);
    let mut expected = vec![config.background; height * width];
    for emitter in emitters {
        let along = |centre: f32, len| spot(f64::from(centre), config.psf_sigma, len);
        let (columns, rows) = (along(emitter.x, width), along(emitter.y, height));
        let photons = f64::from(emitter.photons.unwrap_or_default());
        for (row, share) in expected.chunks_exact_mut(width).zip(rows) {
            for (pixel, column) in row.iter_mut().zip(&columns) {
                *pixel += photons * share * column;
            }
        }
    }
    expected
}

/// The share of a Gaussian that falls on each of `len` pixels in a line.
pub(crate) fn spot(centre: f64, sigma: f64, len: usize) -> Vec<f64> {
    let scale = 1.0 / (sigma * std::f64::consts::SQRT_2);
    let below = |edge: f64| libm::erf((edge - centre) * scale);
    (0..len)
        .map(|pixel| 0.5 * (below(pixel as f64 + 0.5) - below(pixel as f64 - 0.5)))
        .collect()
}

/// Camera counts for the photons that the pixels expect.
fn expose(config: &EmitterConfig, expected: &[f64], rng: &mut StdRng) -> Vec<u16> {
    let count = |&photons: &f64| {
        let counts = config.offset + config.gain * poisson(photons, rng);
        // The cast saturates as a camera does.
        normal(counts, config.read_noise, rng).round() as u16
    };
    expected.iter().map(count).collect()
}

fn poisson(rate: f64, rng: &mut StdRng) -> f64 {
    // No rate above zero fails below `MAX_LAMBDA` (about 1.8e19), and a zero rate is a zero.
    Poisson::new(rate).map_or(0.0, |poisson| poisson.sample(rng))
}

fn normal(mean: f64, deviation: f64, rng: &mut StdRng) -> f64 {
    Normal::new(mean, deviation).map_or(mean, |normal| normal.sample(rng))
}

#[cfg(test)]
mod tests;
