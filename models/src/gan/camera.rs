use std::f64::consts::TAU;

use burn::config::Config;
use burn::tensor::{Device, Tensor, TensorData};
use burn_memopt::impl_tensors;

/// A pinhole camera on a sphere, looking at its centre.
///
/// # References
/// Schwarz et al. 2020, "GRAF", arXiv:2007.02442, section 3.1.
#[derive(Config, Debug, PartialEq)]
pub struct Camera {
    /// Height and width of an image in pixels.
    pub size: [usize; 2],
    /// Width of the field of view in degrees. The default is `20.0`.
    #[config(default = 20.0)]
    pub field_of_view: f64,
    /// Distance to the centre. The default is `2.5`.
    #[config(default = 2.5)]
    pub radius: f64,
}

/// Where the camera is: its axes and its place, in columns, `[3][4]`.
pub type Pose = [[f64; 4]; 3];

impl Camera {
    /// Pixels of the focal length.
    pub fn focal(&self) -> f64 {
        let half_angle = self.field_of_view.to_radians() / 2.0;
        self.size[1] as f64 / 2.0 / half_angle.tan()
    }

    /// The pose at `azimuth`, a share of a turn, and at `height`, 1 at the south pole and 0 at the north pole.
    /// Both spread poses evenly over the sphere if they are drawn evenly.
    pub fn pose(&self, azimuth: f64, height: f64) -> Pose {
        let (theta, phi) = (TAU * azimuth, (1.0 - 2.0 * height).acos());
        let away = [phi.sin() * theta.cos(), phi.sin() * theta.sin(), phi.cos()];
        // The horizon: cross product of up, which is +z, and the axis.
        let right = unit([-away[1], away[0], 0.0]);
        let up = [
            away[1] * right[2] - away[2] * right[1],
            away[2] * right[0] - away[0] * right[2],
            away[0] * right[1] - away[1] * right[0],
        ];
        std::array::from_fn(|axis| [right[axis], up[axis], away[axis], self.radius * away[axis]])
    }

    /// The direction of a ray in the camera's axes, of which the last points away from what is seen. `x` and
    /// `y` are from -1, the centre of the first pixel, to 1, that of the last.
    fn direction(&self, [x, y]: [f64; 2]) -> [f64; 3] {
        let [height, width] = self.size.map(|side| side as f64);
        let pixel = |place: f64, side: f64| (place + 1.0) / 2.0 * (side - 1.0) - side / 2.0;
        [
            pixel(x, width) / self.focal(),
            -pixel(y, height) / self.focal(),
            -1.0,
        ]
    }

    /// The rays of patches, one patch a pose.
    ///
    /// # Panics
    /// If there are not as many poses as patches, or patches differ in size.
    pub fn rays(&self, poses: &[Pose], patches: &[Patch], device: &Device) -> Rays {
        assert_eq!(poses.len(), patches.len(), "as many poses as patches");
        let size = patches.first().map_or(0, |patch| patch.size);
        let (mut origins, mut directions) = (Vec::new(), Vec::new());
        for (pose, patch) in poses.iter().zip(patches) {
            assert_eq!(patch.size, size, "patches of one batch have one size");
            for place in patch.places() {
                let inner = self.direction(place);
                for row in pose {
                    origins.push(row[3] as f32);
                    let turned = row.iter().zip(inner).map(|(axis, value)| axis * value);
                    directions.push(turned.sum::<f64>() as f32);
                }
            }
        }
        let shape = [poses.len(), size * size, 3];
        let tensor = |values| Tensor::from_data(TensorData::new(values, shape), device);
        Rays {
            origins: tensor(origins),
            directions: tensor(directions),
        }
    }
}

fn unit(vector: [f64; 3]) -> [f64; 3] {
    let length = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
    // Straight from above or below, any horizon will do.
    if length < 1e-9 {
        [1.0, 0.0, 0.0]
    } else {
        vector.map(|value| value / length)
    }
}

/// A square grid of places in an image, of any scale.
///
/// # References
/// Schwarz et al. 2020, "GRAF", arXiv:2007.02442, equation 5.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patch {
    /// Pixels a side.
    pub size: usize,
    /// Share of the image's sides that the patch covers.
    pub scale: f64,
    /// Place of its centre, right and down, from that of the image; 1 is half a side.
    pub offset: [f64; 2],
}

impl Patch {
    /// The whole image, seen in `size` pixels a side.
    pub fn whole(size: usize) -> Self {
        Self {
            size,
            scale: 1.0,
            offset: [0.0; 2],
        }
    }

    /// A patch that covers `scale` of the sides, at a place given by two numbers from -1 to 1.
    pub fn at(size: usize, scale: f64, place: [f64; 2]) -> Self {
        let offset = place.map(|place| place * (1.0 - scale));
        Self {
            size,
            scale,
            offset,
        }
    }

    /// Places by rows, right and down, where -1 and 1 are the centres of an image's first and last pixel.
    pub fn places(&self) -> impl Iterator<Item = [f64; 2]> {
        let Self {
            size,
            scale,
            offset,
        } = *self;
        let even = move |number: usize| 2.0 * number as f64 / (size - 1) as f64 - 1.0;
        (0..size * size).map(move |number| {
            let [right, down] = [number % size, number / size].map(even);
            [right * scale + offset[0], down * scale + offset[1]]
        })
    }

    /// The smallest scale at an iteration: it falls from 0.9 to 0.25, so that a discriminator sees whole images
    /// before it sees details.
    pub fn least_scale(iteration: usize) -> f64 {
        let thousands = (iteration / 1000) as f64;
        (-0.0025 * 3.0 * thousands).exp().clamp(0.25, 0.9)
    }
}

/// Rays of a batch of images. Directions are as long as they are to a plane at distance one.
#[derive(Clone, Debug)]
pub struct Rays {
    /// `[batch_size, rays, 3]`.
    pub origins: Tensor<3>,
    /// `[batch_size, rays, 3]`.
    pub directions: Tensor<3>,
}

impl_tensors!(Rays { ; uncast origins, directions });

impl Rays {
    /// Rays of an image.
    pub fn len(&self) -> usize {
        self.origins.dims()[1]
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rays `start..start + len` of each image.
    pub(super) fn narrow(&self, start: usize, len: usize) -> Self {
        let part = |x: &Tensor<3>| x.clone().narrow(1, start, len);
        Self {
            origins: part(&self.origins),
            directions: part(&self.directions),
        }
    }
}
