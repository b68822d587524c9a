use std::ops::Range;

use burn::tensor::{DType, Device, Tensor};

/// Sums of windows for the rows of one row of windows, on a device.
#[derive(Debug)]
pub(super) struct DeviceBand {
    /// `[num_images, channels, height, width]`; only for an instant there is none.
    sums: Option<Tensor<4>>,
    /// Of a window, `[1, 1, height, width]`.
    weights: Option<Tensor<4>>,
}

impl DeviceBand {
    /// A band of zeros, `[num_images, channels, height, width]`.
    pub(super) fn new(dims: [usize; 4], weights: Option<Tensor<4>>, device: &Device) -> Self {
        Self {
            sums: Some(Tensor::zeros(dims, (device, DType::F32))),
            weights,
        }
    }

    /// Adds a window's pixels, `[1, channels, height, width]`, times its weights, from the first row
    /// on.
    pub(super) fn add(&mut self, image: usize, column: usize, pixels: Tensor<4>) {
        let [_, channels, rows, columns] = pixels.dims();
        let place = [
            image..image + 1,
            0..channels,
            0..rows,
            column..column + columns,
        ];
        let pixels = match &self.weights {
            Some(weights) => pixels * weights.clone(),
            None => pixels,
        };
        self.sums = self.sums.take().map(|sums| {
            let pixels = pixels + sums.clone().slice(place.clone());
            sums.slice_assign(place, pixels)
        });
    }

    /// Answers the sums of rows and columns, if there are any, and lets go of the first `gone` rows.
    pub(super) fn take(
        &mut self,
        gone: usize,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Option<Tensor<4>> {
        let sums = self.sums.take()?;
        let [images, channels, height, width] = sums.dims();
        let taken =
            (!rows.is_empty()).then(|| sums.clone().slice([0..images, 0..channels, rows, columns]));
        let zeros = Tensor::zeros(
            [images, channels, gone, width],
            (&sums.device(), DType::F32),
        );
        let rest = sums.slice([0..images, 0..channels, gone..height, 0..width]);
        // burn leaves empty tensors out.
        self.sums = Some(Tensor::cat(vec![rest, zeros], 2));
        taken
    }
}
