//! Questions about images of coloured squares, with known answers.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use burn::config::Config;
use image::{ImageError, Rgb, RgbImage};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;

/// Colours that a square can have, and their names.
const COLOURS: [(&str, [u8; 3]); 4] = [
    ("red", [220, 40, 40]),
    ("green", [40, 180, 60]),
    ("blue", [50, 80, 220]),
    ("yellow", [230, 210, 40]),
];

/// A set of images that each show one square, and a question about each.
///
/// Items with even numbers ask for the colour of the square, the others for its side.
#[derive(Config, Debug, PartialEq, Eq)]
pub struct VqaSetConfig {
    /// Number of images, and of questions.
    pub num_items: usize,
    /// Height and width of an image in pixels, each at least 4. The default is `[32, 32]`.
    #[config(default = "[32, 32]")]
    pub size: [usize; 2],
    /// Seed of everything random: the same configuration makes the same files. The default is
    /// `0`.
    #[config(default = 0)]
    pub seed: u64,
}

/// Why a set of questions could not be written.
#[derive(thiserror::Error, Debug)]
#[non_exhaustive]
pub enum VqaSetError {
    /// The folder or the questions could not be written.
    #[error("cannot write {path}: check that its folder may be written and has room", path = .path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why the system refused.
        #[source]
        source: io::Error,
    },
    /// An image could not be written.
    #[error("cannot write the image {path}: check that its folder may be written and has room", path = .path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: ImageError,
    },
}

/// What an image shows.
struct Square {
    colour: usize,
    is_right: bool,
    top: usize,
    left: usize,
    side: usize,
}

impl VqaSetConfig {
    /// Writes `vqa.jsonl` and its images, `images/0.png` and so on, into `folder`, and returns the
    /// path of the former. An item is in memory while it is written.
    ///
    /// # Errors
    /// If a file cannot be written.
    ///
    /// # Panics
    /// If a side of the images is below 4 pixels.
    pub fn write(&self, folder: impl AsRef<Path>) -> Result<PathBuf, VqaSetError> {
        let [height, width] = self.size;
        assert!(
            height >= 4 && width >= 4,
            "size must be at least 4 by 4 pixels, got {height} by {width}"
        );
        let path = folder.as_ref().join("vqa.jsonl");
        let images = folder.as_ref().join("images");
        let failed = |path: &Path| {
            let path = path.into();
            move |source| VqaSetError::Write { path, source }
        };
        fs::create_dir_all(&images).map_err(failed(&images))?;
        let file = File::create(&path).map_err(failed(&path))?;
        let mut file = BufWriter::new(file);
        let mut rng = StdRng::seed_from_u64(self.seed);
        for number in 0..self.num_items {
            let square = self.draw(&mut rng);
            let image = images.join(format!("{number}.png"));
            let written = self.paint(&square, &mut rng).save(&image);
            written.map_err(|source| VqaSetError::Image {
                path: image,
                source,
            })?;
            writeln!(file, "{}", square.ask(number)).map_err(failed(&path))?;
        }
        file.flush().map_err(failed(&path))?;
        Ok(path)
    }

    /// Draws a square in one half of the image.
    fn draw(&self, rng: &mut StdRng) -> Square {
        let [height, width] = self.size;
        let half = width / 2;
        let side = height.min(half) / 2;
        let is_right = rng.random_bool(0.5);
        let start = if is_right { width - half } else { 0 };
        Square {
            colour: rng.random_range(0..COLOURS.len()),
            is_right,
            top: rng.random_range(0..=height - side),
            left: start + rng.random_range(0..=half - side),
            side,
        }
    }

    /// Paints a square on noise.
    fn paint(&self, square: &Square, rng: &mut StdRng) -> RgbImage {
        let [height, width] = self.size;
        let is_inside =
            |start: usize, at: u32| (start..start + square.side).contains(&(at as usize));
        RgbImage::from_fn(width as u32, height as u32, |x, y| {
            if is_inside(square.left, x) && is_inside(square.top, y) {
                Rgb(COLOURS[square.colour].1)
            } else {
                Rgb([rng.random_range(100..140); 3])
            }
        })
    }
}

impl Square {
    /// The record about the image `number`.
    fn ask(&self, number: usize) -> serde_json::Value {
        let (question, answer) = match number % 2 {
            0 => ("What colour is the square?", COLOURS[self.colour].0),
            _ if self.is_right => ("On which side is the square?", "right"),
            _ => ("On which side is the square?", "left"),
        };
        json!({
            "image": format!("images/{number}.png"),
            "question": question,
            "answer": answer,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jsonl::{VqaConfig, VqaDataset};

    #[test]
    fn answers_are_what_the_images_show() {
        let folder = tempfile::tempdir().unwrap();
        let config = VqaSetConfig::new(20).with_size([9, 14]).with_seed(3);
        let path = config.write(folder.path()).unwrap();
        let questions = VqaDataset::<u8>::open(path, &VqaConfig::new()).unwrap();
        for index in 0..20 {
            let item = questions.item(index).unwrap();
            let pixel = |at: usize| [0, 1, 2].map(|channel| item.image[channel * 9 * 14 + at]);
            let at = (0..9 * 14)
                .find(|at| pixel(*at)[0] != pixel(*at)[1])
                .unwrap();
            let answer = if index % 2 == 0 {
                let named =
                    |(name, colour): &(&'static str, _)| (*colour == pixel(at)).then_some(*name);
                COLOURS.iter().find_map(named).unwrap()
            } else if at % 14 < 7 {
                "left"
            } else {
                "right"
            };
            assert_eq!(item.answers, [answer], "item {index}");
        }
    }

    #[test]
    fn the_same_configuration_makes_the_same_files() {
        let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let read = |folder: &Path| {
            let path = VqaSetConfig::new(3).write(folder).unwrap();
            let image = fs::read(folder.join("images/2.png")).unwrap();
            (fs::read(path).unwrap(), image)
        };
        assert_eq!(read(first.path()), read(second.path()));
    }
}
