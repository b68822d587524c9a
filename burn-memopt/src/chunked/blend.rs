//! How much each pixel of a window counts where windows overlap; pure.

/// The least weight of a pixel, so that every pixel gets an answer.
const MIN_WEIGHT: f32 = 1e-3;

/// How overlapping windows are put together: every pixel is the weighted mean of the windows that
/// cover it.
#[derive(Debug, Clone, PartialEq)]
pub enum Blend {
    /// All pixels of a window count alike.
    Constant,
    /// Pixels count less towards the border of a window: a Gaussian of `sigma_scale` times
    /// the window's side, in each axis. Softens seams.
    Gaussian {
        /// Standard deviation in sides of the window. 0.125 is usual.
        sigma_scale: f64,
    },
    /// Weights of one's own, `[window height, window width]`, row by row; those below a thousandth
    /// count as such.
    Weights(Vec<f32>),
}

impl Blend {
    /// The Gaussian of a standard deviation of an eighth of the window.
    pub const GAUSSIAN: Self = Self::Gaussian { sigma_scale: 0.125 };

    /// The weight of each pixel of a window of `height` and `width`, row by row; all positive.
    ///
    /// # Panics
    /// If a scale is not above zero, or weights of one's own have another number or are not
    /// finite.
    ///
    /// # Example
    /// ```
    /// use burn_memopt::chunked::Blend;
    ///
    /// let weights = Blend::GAUSSIAN.weights([3, 3]);
    /// assert_eq!(weights[4], 1.0);
    /// assert!(weights[0] < weights[1]);
    /// ```
    pub fn weights(&self, [height, width]: [usize; 2]) -> Vec<f32> {
        match self {
            Self::Constant => vec![1.0; height * width],
            Self::Gaussian { sigma_scale } => gaussian([height, width], *sigma_scale),
            Self::Weights(weights) => {
                assert_eq!(
                    weights.len(),
                    height * width,
                    "a weight map must have one weight for each pixel of the window"
                );
                assert!(
                    weights.iter().all(|weight| weight.is_finite()),
                    "weights must be finite"
                );
                clamped(weights.clone())
            }
        }
    }
}

fn gaussian(sides: [usize; 2], sigma_scale: f64) -> Vec<f32> {
    assert!(
        sigma_scale > 0.0,
        "sigma_scale must be above 0, got {sigma_scale}"
    );
    let [rows, columns] = sides.map(|side| {
        let (center, sigma) = ((side - 1) as f64 / 2.0, sigma_scale * side as f64);
        let weight = move |at| {
            let x = (at as f64 - center) / sigma;
            (-0.5 * x * x).exp()
        };
        (0..side).map(weight).collect::<Vec<_>>()
    });
    let mut weights = Vec::with_capacity(rows.len() * columns.len());
    for row in &rows {
        weights.extend(columns.iter().map(|column| (row * column) as f32));
    }
    clamped(weights)
}

/// Raises weights to the least that is positive, or a thousandth if that is more.
fn clamped(mut weights: Vec<f32>) -> Vec<f32> {
    let positive = weights.iter().copied().filter(|weight| *weight > 0.0);
    let least = positive.fold(f32::INFINITY, f32::min);
    let floor = if least.is_finite() {
        least.max(MIN_WEIGHT)
    } else {
        MIN_WEIGHT
    };
    for weight in &mut weights {
        *weight = weight.max(floor);
    }
    weights
}
