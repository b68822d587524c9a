//! Patterns for surfaces that are to be told apart and followed.

use std::f64::consts::TAU;

use rand::{RngExt, rngs::StdRng};

/// A smooth pattern without end: a colour, and waves of several lengths over it.
#[derive(Debug, Clone)]
pub(super) struct Texture {
    color: [f64; 3],
    waves: [Wave; 5],
}

#[derive(Debug, Clone)]
struct Wave {
    /// Radians a row and a column.
    rows: f64,
    columns: f64,
    phase: f64,
    /// Of each colour: mostly bright and dark, as in photographs, from -26 to 26.
    amplitude: [f64; 3],
}

impl Texture {
    /// Draws a pattern.
    pub(super) fn new(rng: &mut StdRng) -> Self {
        let color = [(); 3].map(|()| rng.random_range(60.0..196.0));
        // Wavelengths in pixels, from edges to shades.
        let waves = [5.0, 8.0, 13.0, 29.0, 61.0].map(|length: f64| {
            let direction = rng.random_range(0.0..TAU);
            let bright = rng.random_range(-20.0..20.0);
            Wave {
                rows: TAU / length * libm::sin(direction),
                columns: TAU / length * libm::cos(direction),
                phase: rng.random_range(0.0..TAU),
                amplitude: [(); 3].map(|()| bright + rng.random_range(-6.0..6.0)),
            }
        });
        Self { color, waves }
    }

    /// Red, green and blue at a place in pixels.
    pub(super) fn color(&self, y: f64, x: f64) -> [u8; 3] {
        let mut color = self.color;
        for wave in &self.waves {
            let height = libm::sin(wave.rows * y + wave.columns * x + wave.phase);
            for (value, amplitude) in color.iter_mut().zip(wave.amplitude) {
                *value += amplitude * height;
            }
        }
        // The cast saturates.
        color.map(|value| value.round() as u8)
    }
}
