//! The settings of progressive training: stages of growing images.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use serde::Serialize;

/// Settings of progressive training.
#[derive(Clone, Debug, Default, PartialEq, Args, Serialize)]
pub struct StageSettings {
    /// Pixels a side in each of several stages of equal numbers of steps, rising, as in 64,128,256: U-Nets
    /// learn from random crops of that size, a GAN from images that are reduced to it.
    #[arg(long, value_name = "SIDES", help_heading = "Training")]
    pub progressive: Option<ImageSides>,
    /// The peak memory that a step may take, as in 6GiB. With --progressive, of any stage: micro-batches as large as
    /// fit, and more of them a step.
    #[arg(long, value_name = "SIZE", help_heading = "Memory")]
    pub budget: Option<String>,
}

/// Rising sides of images in pixels, two or more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub struct ImageSides(Vec<usize>);

impl ImageSides {
    /// All of them.
    pub fn all(&self) -> &[usize] {
        &self.0
    }
}

impl FromStr for ImageSides {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let side = |side: &str| match side.trim().parse() {
            Ok(0) | Err(_) => Err(format!(
                "must be pixels a side, as in 64,128,256, got {text:?}"
            )),
            Ok(side) => Ok(side),
        };
        let sides = text.split(',').map(side).collect::<Result<Vec<_>, _>>()?;
        if let Some(pair) = sides.windows(2).find(|pair| pair[1] <= pair[0]) {
            return Err(format!("must rise, got {} after {}", pair[1], pair[0]));
        }
        if sides.len() < 2 {
            return Err(format!("must be two sides or more, got {text:?}"));
        }
        Ok(Self(sides))
    }
}

impl fmt::Display for ImageSides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sides: Vec<_> = self.0.iter().map(usize::to_string).collect();
        f.write_str(&sides.join(","))
    }
}

impl From<ImageSides> for String {
    fn from(sides: ImageSides) -> Self {
        sides.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_written_as_they_are_read() {
        let sides: ImageSides = "64, 128,256".parse().unwrap();
        assert_eq!(sides.all(), [64, 128, 256]);
        assert_eq!(sides.to_string(), "64,128,256");
    }

    #[test]
    fn sides_that_do_not_rise_are_refused_by_name() {
        for (text, why) in [
            ("64,32", "must rise, got 32 after 64"),
            ("64,64", "must rise, got 64 after 64"),
            ("64", "must be two sides or more, got \"64\""),
            (
                "64,a",
                "must be pixels a side, as in 64,128,256, got \"64,a\"",
            ),
            (
                "0,64",
                "must be pixels a side, as in 64,128,256, got \"0,64\"",
            ),
        ] {
            assert_eq!(text.parse::<ImageSides>().unwrap_err(), why);
        }
    }
}
