//! Pictures of four coloured solids from known angles.
//!
//! A box, an octahedron, a prism and a pyramid, each face in a colour of its own, on white. The camera
//! looks at the origin from a sphere around it, at any azimuth and from four heights. Nothing is random.

mod polyhedron;

use std::{
    f64::consts::TAU,
    fs,
    path::{Path, PathBuf},
};

use burn::config::Config;
use image::{ImageError, Rgb, RgbImage};

pub use crate::views::ELEVATIONS;

use polyhedron::{Polyhedron, Vector, cross, dot, normalize};

/// Names of the solids in natural order: a class has the number that
/// [`ViewFolder`](crate::views::ViewFolder) gives it.
pub const CLASS_NAMES: [&str; 4] = ["box", "octahedron", "prism", "pyramid"];
/// Distance of the camera from the origin. The solids lie within 0.4 of it.
pub const CAMERA_RADIUS: f64 = 2.5;
/// Angle between the left and the right edge of a picture, in degrees.
pub const FIELD_OF_VIEW: f64 = 20.0;

/// Places within a pixel, along each axis, whose colours are averaged.
const OFFSETS: [f64; 3] = [-1.0 / 3.0, 0.0, 1.0 / 3.0];

/// Which pictures of the solids there are.
#[derive(Config, Debug, PartialEq, Eq)]
pub struct SolidsConfig {
    /// Height and width of a picture in pixels. The default is `32`.
    #[config(default = 32)]
    pub image_size: usize,
    /// Number of azimuths, spread evenly over the circle from 0 on. It divides 360, as azimuths are whole
    /// degrees. The default is `24`.
    #[config(default = 24)]
    pub num_azimuths: usize,
    /// Number of elevations, from the first of [`ELEVATIONS`] on. The default is `4`, all.
    #[config(default = 4)]
    pub num_elevations: usize,
}

impl SolidsConfig {
    /// Refuses what no picture can have.
    fn check(&self) {
        assert!(self.image_size > 0, "image_size must be at least 1, got 0");
        let azimuths = self.num_azimuths;
        assert!(
            azimuths > 0 && 360usize.is_multiple_of(azimuths),
            "azimuths must divide 360, got {azimuths}"
        );
        let (elevations, most) = (self.num_elevations, ELEVATIONS.len());
        assert!(
            (1..=most).contains(&elevations),
            "elevations must be 1 to {most}, got {elevations}"
        );
    }
}

/// A picture of a solid could not be written.
#[derive(thiserror::Error, Debug)]
#[error("cannot write {path}: check that its folder may be written and has room", path = .path.display())]
pub struct SolidsError {
    /// The picture, or its folder.
    pub path: PathBuf,
    /// Why it failed.
    #[source]
    pub source: ImageError,
}

/// Pictures of the solids, each made when it is asked for.
///
/// # Example
/// ```
/// # let folder = tempfile::tempdir()?;
/// use burn_memopt_datasets::synthetic::solids::{Solids, SolidsConfig};
///
/// let solids = Solids::new(SolidsConfig::new().with_num_azimuths(4).with_num_elevations(1));
/// solids.write(folder.path())?;
/// assert!(folder.path().join("pyramid_0_270.png").exists());
/// // The side of the box that faces the camera is red.
/// let [red, green, blue] = solids.render(0, 0, 0.0).get_pixel(16, 16).0;
/// assert!(red > 100 && green < 50 && blue < 50);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # References
/// The camera is that of Schwarz, Liao, Niemeyer and Geiger 2020, "GRAF: Generative Radiance Fields for
/// 3D-Aware Image Synthesis", section 3.2.1.
#[derive(Debug, Clone)]
pub struct Solids {
    config: SolidsConfig,
    solids: [Polyhedron; 4],
}

impl Solids {
    /// The pictures that `config` describes.
    ///
    /// # Panics
    /// If pictures have no pixels, the azimuths do not divide 360, or the elevations are not 1 to 4.
    pub fn new(config: SolidsConfig) -> Self {
        config.check();
        Self {
            config,
            solids: Polyhedron::all(),
        }
    }

    /// The picture of solid `class`, seen from `azimuth` degrees, counted from x towards y, at the height
    /// `ELEVATIONS[elevation]`. Every `azimuth` is possible, also between those that [`write`](Self::write)
    /// takes.
    ///
    /// # Panics
    /// If there is no such class or elevation.
    pub fn render(&self, class: usize, elevation: usize, azimuth: f64) -> RgbImage {
        crate::check_index("class", class, self.solids.len());
        crate::check_index("elevation", elevation, ELEVATIONS.len());
        let solid = &self.solids[class];
        let camera = Camera::new(azimuth, ELEVATIONS[elevation], self.config.image_size);
        let side = self.config.image_size as u32;
        RgbImage::from_fn(side, side, |column, row| {
            let mut sum = [0.0; 3];
            for (down, right) in OFFSETS.iter().flat_map(|&y| OFFSETS.map(|x| (y, x))) {
                let direction = camera.ray(f64::from(column) + right, f64::from(row) + down);
                let face = solid.hit(camera.position, direction);
                let color = face.map_or([255.0; 3], |face| face.color);
                for (sum, value) in sum.iter_mut().zip(color) {
                    *sum += value;
                }
            }
            let samples = OFFSETS.len().pow(2) as f64;
            Rgb(sum.map(|sum| (sum / samples).round() as u8))
        })
    }

    /// Writes all pictures into `folder`, creating it: `box_0_015.png` is the box from the first elevation
    /// and 15°.
    ///
    /// # Errors
    /// If the folder or a file cannot be written.
    pub fn write(&self, folder: impl AsRef<Path>) -> Result<(), SolidsError> {
        let folder = folder.as_ref();
        fs::create_dir_all(folder).map_err(|source| SolidsError {
            path: folder.into(),
            source: source.into(),
        })?;
        for (class, name) in CLASS_NAMES.iter().enumerate() {
            for elevation in 0..self.config.num_elevations {
                for azimuth in (0..360u32).step_by(360 / self.config.num_azimuths) {
                    let path = folder.join(format!("{name}_{elevation}_{azimuth:03}.png"));
                    let picture = self.render(class, elevation, f64::from(azimuth));
                    let written = picture.save(&path);
                    written.map_err(|source| SolidsError { path, source })?;
                }
            }
        }
        Ok(())
    }
}

/// A pinhole camera that looks at the origin.
struct Camera {
    position: Vector,
    /// The directions to the right, up, and away from the origin.
    axes: [Vector; 3],
    /// Half the side of a picture in pixels.
    half: f64,
    /// Focal length in pixels.
    focal: f64,
}

impl Camera {
    /// At `azimuth` degrees and the height `v`, for pictures of `side` pixels.
    fn new(azimuth: f64, v: f64, side: usize) -> Self {
        // The whole turn must give the same picture, which rounding would not.
        let (sin_theta, cos_theta) = (TAU * azimuth.rem_euclid(360.0) / 360.0).sin_cos();
        let (sin_phi, cos_phi) = (1.0 - 2.0 * v).acos().sin_cos();
        let back = [sin_phi * cos_theta, sin_phi * sin_theta, cos_phi];
        let right = normalize(cross([0.0, 0.0, 1.0], back));
        let half = side as f64 / 2.0;
        Self {
            position: back.map(|value| CAMERA_RADIUS * value),
            axes: [right, cross(back, right), back],
            half,
            focal: half / (FIELD_OF_VIEW.to_radians() / 2.0).tan(),
        }
    }

    /// The direction of the ray through a place of the picture, in pixels.
    fn ray(&self, column: f64, row: f64) -> Vector {
        let x = (column - self.half) / self.focal;
        let y = -(row - self.half) / self.focal;
        let [right, up, back] = self.axes;
        [0, 1, 2].map(|axis| dot([x, y, -1.0], [right[axis], up[axis], back[axis]]))
    }
}
