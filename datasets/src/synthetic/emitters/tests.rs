use super::*;
use crate::{
    localizations::read_csv,
    tiff::{FrameSource, TiffStack},
};

#[test]
fn a_written_movie_reads_back_as_it_was_generated() {
    let folder = tempfile::tempdir().unwrap();
    let config = EmitterConfig::new()
        .with_num_frames(6)
        .with_height(20)
        .with_width(24);
    let movie = EmitterMovie::generate(&config);
    let files = movie.write(folder.path().join("new/folder")).unwrap();
    let stack = TiffStack::open(&files.frames).unwrap();
    assert_eq!(
        (stack.num_frames(), stack.height(), stack.width()),
        (6, 20, 24)
    );
    for (index, frame) in movie.frames.iter().enumerate() {
        let counts: Vec<u16> = stack
            .frame(index)
            .unwrap()
            .pixels
            .iter()
            .map(|&p| p as u16)
            .collect();
        assert_eq!(&counts, frame);
    }
    assert_eq!(read_csv(files.localizations).unwrap(), movie.localizations);
}

#[test]
fn the_number_of_emitters_varies_around_its_mean() {
    let config = EmitterConfig::new()
        .with_num_frames(2000)
        .with_height(4)
        .with_width(4);
    let movie = EmitterMovie::generate(&config);
    let mut counts = vec![0u32; 2000];
    for emitter in &movie.localizations {
        counts[emitter.frame] += 1;
    }
    let mean = movie.localizations.len() as f64 / 2000.0;
    // Neighbouring frames share emitters, so the mean of 2000 is worth about 500
    // independent ones: a standard error of 0.08.
    assert!((mean - 3.0).abs() < 0.3, "mean {mean}");
    assert!(counts.contains(&0) && counts.iter().any(|&count| count >= 7));
}

#[test]
fn a_spot_spreads_its_photons_and_loses_none() {
    let line = spot(10.3, 1.1, 21);
    assert!((line.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    let centre: f64 = line
        .iter()
        .enumerate()
        .map(|(pixel, share)| pixel as f64 * share)
        .sum();
    assert!((centre - 10.3).abs() < 1e-6);
}

#[test]
fn the_camera_reports_gain_offset_and_shot_noise() {
    let config = EmitterConfig::new()
        .with_emitters_per_frame(0.0)
        .with_num_frames(20)
        .with_read_noise(0.0);
    let movie = EmitterMovie::generate(&config);
    assert!(movie.localizations.is_empty());
    let counts: Vec<f64> = movie.frames.concat().into_iter().map(f64::from).collect();
    let mean = counts.iter().sum::<f64>() / counts.len() as f64;
    let variance = counts
        .iter()
        .map(|count| (count - mean).powi(2))
        .sum::<f64>()
        / counts.len() as f64;
    // 20 photons at a gain of 2: mean 100 + 40, variance 4 · 20.
    assert!((mean - 140.0).abs() < 0.2, "mean {mean}");
    assert!((variance - 80.0).abs() < 2.0, "variance {variance}");
}

#[test]
fn another_seed_makes_another_movie() {
    let config = EmitterConfig::new().with_num_frames(2);
    let other = config.clone().with_seed(1);
    assert_ne!(
        EmitterMovie::generate(&config),
        EmitterMovie::generate(&other)
    );
}

#[test]
#[should_panic(expected = "psf_sigma must be finite")]
fn a_spot_without_width_is_refused() {
    EmitterMovie::generate(&EmitterConfig::new().with_psf_sigma(0.0));
}
