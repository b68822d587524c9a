//! Words, drawn upright once and then laid on images in any direction.

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};

use super::{WatermarkConfig, between};

/// Pixels of the drawing for one of the image, along each axis,
const OVERSAMPLING: f32 = 2.0;
/// as long as a line has no more than these: to thicken strokes takes the fourth power of them.
const MAX_DRAWN_HEIGHT: f32 = 256.0;
/// What strokes are thickened by on each side, least and most, as shares of the line's height:
/// light type would be lost in a picture.
const THICKENING: [f32; 2] = [0.01, 0.05];

/// A word, drawn upright.
pub(super) struct Word {
    /// What it says.
    pub text: String,
    /// Share of each pixel of the drawing that is covered, row by row.
    coverage: Vec<f32>,
    height: usize,
    width: usize,
    /// Pixels of the drawing for one of the image, along each axis.
    scale: f32,
}

impl Word {
    /// Draws a random word with lines of `line_height` pixels.
    pub fn random(line_height: f32, rng: &mut StdRng) -> Self {
        let fonts = [
            epaint_default_fonts::HACK_REGULAR,
            epaint_default_fonts::UBUNTU_LIGHT,
        ];
        let font = fonts[rng.random_range(0..fonts.len())];
        let font =
            FontRef::try_from_slice(font).expect("invariant: the fonts of the crate are whole");
        let text = random_text(rng);
        let thickening = line_height * rng.random_range(THICKENING[0]..THICKENING[1]);
        let scale = OVERSAMPLING.min(MAX_DRAWN_HEIGHT / line_height);
        Self::draw(text, &font, line_height, scale).thickened(scale * thickening)
    }

    fn draw(text: String, font: &FontRef, line_height: f32, scale: f32) -> Self {
        let line_height = scale * line_height;
        let font = font.as_scaled(PxScale::from(line_height));
        let mut pen = 0.0;
        let mut outlines = Vec::new();
        for letter in text.chars() {
            let mut glyph = font.scaled_glyph(letter);
            glyph.position = point(pen, font.ascent());
            pen += font.h_advance(glyph.id);
            outlines.extend(font.outline_glyph(glyph));
        }
        // What a letter reaches beyond its line has room too.
        let margin = (line_height / 4.0).ceil();
        let (height, width) = (
            (line_height + 2.0 * margin) as usize,
            (pen + 2.0 * margin) as usize,
        );
        let mut coverage = vec![0f32; height * width];
        for outline in outlines {
            let corner = outline.px_bounds().min;
            outline.draw(|x, y, share| {
                let column = (corner.x + margin) as usize + x as usize;
                let row = (corner.y + margin) as usize + y as usize;
                if row < height && column < width {
                    let pixel = &mut coverage[row * width + column];
                    *pixel = pixel.max(share.min(1.0));
                }
            });
        }
        Self {
            text,
            coverage,
            height,
            width,
            scale,
        }
    }

    /// The word with strokes that are `by` pixels of the drawing wider on each side.
    fn thickened(mut self, by: f32) -> Self {
        let reach = by.ceil() as isize;
        let line = -reach..=reach;
        let square = line
            .clone()
            .flat_map(|row| line.clone().map(move |column| (row, column)));
        // A pixel at the edge of the disk counts by the part of it inside.
        let disk: Vec<_> = square
            .map(|(row, column)| {
                let distance = ((row * row + column * column) as f32).sqrt();
                (row, column, (by + 1.0 - distance).clamp(0.0, 1.0))
            })
            .collect();
        let covered = |row: usize, column: usize| {
            let shares = disk.iter().map(|&(down, right, weight)| {
                weight * self.pixel(row as isize + down, column as isize + right)
            });
            shares.fold(0.0, f32::max)
        };
        let (height, width) = (self.height, self.width);
        self.coverage = (0..height * width)
            .map(|at| covered(at / width, at % width))
            .collect();
        self
    }

    /// The share of each pixel of an image that the word covers where it is placed.
    pub fn cover(&self, placement: &Placement, height: usize, width: usize) -> Vec<f32> {
        // Four samples a pixel give soft edges in every direction.
        const PARTS: [f32; 2] = [-0.25, 0.25];
        let share = |row: f32, column: f32| {
            let samples = PARTS
                .map(|down| PARTS.map(|right| self.sample(placement, row + down, column + right)));
            (samples.as_flattened().iter().sum::<f32>() / 4.0).min(1.0)
        };
        (0..height * width)
            .map(|at| share((at / width) as f32, (at % width) as f32))
            .collect()
    }

    /// The coverage at a place of the image.
    fn sample(&self, placement: &Placement, row: f32, column: f32) -> f32 {
        let [height, width] = [self.height, self.width].map(|side| side as f32 / self.scale);
        let [across, along] = placement.within(row, column, [height, width]);
        self.interpolate(
            self.scale * (across + 0.5 * height) - 0.5,
            self.scale * (along + 0.5 * width) - 0.5,
        )
    }

    /// Bilinear between four pixels of the drawing.
    fn interpolate(&self, row: f32, column: f32) -> f32 {
        let (top, left) = (row.floor(), column.floor());
        let (down, right) = (row - top, column - left);
        let at =
            |rows: isize, columns: isize| self.pixel(top as isize + rows, left as isize + columns);
        let line = |rows| at(rows, 0) * (1.0 - right) + at(rows, 1) * right;
        line(0) * (1.0 - down) + line(1) * down
    }

    /// Nothing is covered outside the drawing.
    fn pixel(&self, row: isize, column: isize) -> f32 {
        let inside =
            (0..self.height as isize).contains(&row) && (0..self.width as isize).contains(&column);
        match inside {
            true => self.coverage[row as usize * self.width + column as usize],
            false => 0.0,
        }
    }
}

/// Share of the watermarks that are horizontal.
const HORIZONTAL: f64 = 0.3;

/// Where a word is on an image, once or like bricks in a wall.
pub(super) struct Placement {
    /// Row and column of its middle, in pixels.
    center: [f32; 2],
    /// Sine and cosine of its direction.
    direction: (f32, f32),
    /// Gaps between repetitions, row and column, in pixels; `None` if there are none.
    gaps: Option<[f32; 2]>,
}

impl Placement {
    /// A random place, with the middle of the word in the middle half of the image.
    pub fn random(config: &WatermarkConfig, rng: &mut StdRng) -> Self {
        let mut middle = |side: usize| (side as f64 * between(0.25, 0.75, rng)) as f32;
        let center = [middle(config.height), middle(config.width)];
        let angle = match rng.random_bool(HORIZONTAL) {
            true => 0.0,
            false => between(-config.max_angle, config.max_angle, rng).to_radians() as f32,
        };
        let gaps = rng.random_bool(config.tiled).then(|| {
            let gap = |most| between(0.0, most, &mut *rng) as f32;
            [config.min_text_height, config.max_text_height].map(gap)
        });
        Self {
            center,
            direction: libm::sincosf(angle),
            gaps,
        }
    }

    /// The place of the image at (`row`, `column`) within a word of `size`, its height and
    /// width: across its lines and along them, from its middle.
    pub fn within(&self, row: f32, column: f32, [height, width]: [f32; 2]) -> [f32; 2] {
        let (row, column) = (row - self.center[0], column - self.center[1]);
        let (sin, cos) = self.direction;
        let mut across = cos * row - sin * column;
        let mut along = cos * column + sin * row;
        if let Some(gaps) = self.gaps {
            let (line, period) = (height + gaps[0], width + gaps[1]);
            let number = (across / line).round();
            across -= number * line;
            along += 0.5 * period * number.rem_euclid(2.0);
            along -= (along / period).round() * period;
        }
        [across, along]
    }
}

const VOWELS: &[u8] = b"aeiou";
const CONSONANTS: &[u8] = b"bcdfghjklmnprstvwxz";
const SIGNS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ0123456789";

/// A made-up word, a sign as on products, a number, or any of them behind "©".
fn random_text(rng: &mut StdRng) -> String {
    let text = match rng.random_range(0..4) {
        0 => made_up(rng),
        1 => made_up(rng).to_uppercase(),
        2 => (0..rng.random_range(3..8))
            .map(|_| pick(SIGNS, rng))
            .collect(),
        _ => rng.random_range(100..100_000u32).to_string(),
    };
    match rng.random_bool(0.1) {
        true => format!("© {text}"),
        false => text,
    }
}

/// Two to four syllables, the first letter large.
fn made_up(rng: &mut StdRng) -> String {
    let mut word = String::from(pick(CONSONANTS, rng).to_ascii_uppercase());
    word.push(pick(VOWELS, rng));
    for _ in 0..rng.random_range(1..4) {
        word.extend([pick(CONSONANTS, rng), pick(VOWELS, rng)]);
    }
    word
}

fn pick(letters: &[u8], rng: &mut StdRng) -> char {
    letters.choose(rng).copied().map_or(' ', char::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    /// Lines' heights squared that a word covers.
    fn area(line_height: f32) -> f32 {
        let word = Word::random(line_height, &mut StdRng::seed_from_u64(7));
        word.coverage.iter().sum::<f32>() / (word.scale * line_height).powi(2)
    }

    #[test]
    fn a_large_word_is_a_small_one_magnified() {
        let word = Word::random(2000.0, &mut StdRng::seed_from_u64(7));
        assert!(word.height <= 2 * MAX_DRAWN_HEIGHT as usize);
        let (small, large) = (area(64.0), area(2000.0));
        assert!((small - large).abs() < 0.1 * small, "{small}, {large}");
    }
}
