//! What images are made of once they are decoded.

use image::DynamicImage;

/// A colour value of a decoded image: `f32` from 0 to 1, or `u8` from 0 to 255, which takes
/// a quarter of the memory.
pub trait Pixel: Copy + Send + Sync + 'static + sealed::Rgb {}

impl Pixel for f32 {}
impl Pixel for u8 {}

mod sealed {
    use image::DynamicImage;

    /// How values come out of the decoder.
    pub trait Rgb: Sized {
        /// `[height, width, 3]`.
        fn rgb(image: &DynamicImage) -> Vec<Self>;
    }

    impl Rgb for f32 {
        fn rgb(image: &DynamicImage) -> Vec<f32> {
            image.to_rgb32f().into_raw()
        }
    }

    impl Rgb for u8 {
        fn rgb(image: &DynamicImage) -> Vec<u8> {
            image.to_rgb8().into_raw()
        }
    }
}

/// `[height, width, 3]` -> `[3, height, width]`.
pub(crate) fn planes<P: Pixel>(image: &DynamicImage) -> Vec<P> {
    let pixels = P::rgb(image);
    (0..3)
        .flat_map(|channel| pixels.iter().skip(channel).step_by(3))
        .copied()
        .collect()
}
