use burn::tensor::{Device, Int, Tensor};

use crate::propainter::warp::in_dtype;

/// The square windows around positions in a map of cells, each sampled between the cells.
///
/// All samples of a window lie equally far from the cells before them. So a window of side `s`
/// takes `(s + 1)²` cells and four weights, not `s²` samples of four cells each. Cells outside the
/// map are zero.
pub(super) struct Windows {
    /// Cells of a window, row by row, as positions in the map; those outside are moved to its edge.
    cells: Tensor<2, Int>,
    /// 1 for cells in the map, 0 for those outside.
    inside: Tensor<2>,
    /// How far the samples lie to the right of their cells, from 0 to 1.
    share_x: Tensor<3>,
    /// How far the samples lie below their cells, from 0 to 1.
    share_y: Tensor<3>,
    /// Samples on a side.
    side: usize,
}

impl Windows {
    /// The windows that reach `radius` cells from the positions `x` and `y` to each side, in a map
    /// of `height` × `width` cells.
    ///
    /// # Shapes
    /// - x, y: `[num_windows]`, in cells; 0 is the middle of the first
    pub(super) fn around(
        x: Tensor<1>,
        y: Tensor<1>,
        [height, width]: [usize; 2],
        radius: usize,
    ) -> Self {
        let (columns, in_columns, share_x) = along_axis(x, width, radius);
        let (rows, in_rows, share_y) = along_axis(y, height, radius);
        let [num_windows, num_cells] = columns.dims();
        let shape = [num_windows, num_cells * num_cells];
        let cells = rows.mul_scalar(width as i64).unsqueeze_dim::<3>(2) + columns.unsqueeze_dim(1);
        let inside = in_rows.unsqueeze_dim::<3>(2) * in_columns.unsqueeze_dim(1);
        Self {
            cells: cells.reshape(shape),
            inside: inside.reshape(shape),
            share_x,
            share_y,
            side: num_cells - 1,
        }
    }

    /// The cells of each window, row by row, as positions in the map.
    ///
    /// # Shapes
    /// - output: `[num_windows, (side + 1)²]`
    pub(super) fn cells(&self) -> Tensor<2, Int> {
        self.cells.clone()
    }

    /// Samples the windows, given the values of their cells; a window's columns come one after the
    /// other.
    ///
    /// # Shapes
    /// - values: `[num_windows, (side + 1)²]`
    /// - output: `[num_windows, side²]`
    pub(super) fn sample(self, values: Tensor<2>) -> Tensor<2> {
        let side = self.side;
        let [num_windows, _] = values.dims();
        let inside = in_dtype(self.inside, values.dtype());
        let values = (values * inside).reshape([num_windows, side + 1, side + 1]);
        let (left, right) = (values.clone().narrow(2, 0, side), values.narrow(2, 1, side));
        let across = left.clone() + (right - left) * self.share_x;
        let (upper, lower) = (across.clone().narrow(1, 0, side), across.narrow(1, 1, side));
        let samples = upper.clone() + (lower - upper) * self.share_y;
        samples.swap_dims(1, 2).reshape([num_windows, side * side])
    }
}

/// The cells of each window along an axis of `len` cells, whether they are in the map, and how far
/// the samples lie behind them.
fn along_axis(
    positions: Tensor<1>,
    len: usize,
    radius: usize,
) -> (Tensor<2, Int>, Tensor<2>, Tensor<3>) {
    let device = positions.device();
    let reach = radius as f64 + 1.0;
    // Farther out nothing of a window lies in the map either, and integers stay small.
    let positions = positions.clamp(-reach, len as f64 + reach);
    let before = positions.clone().floor();
    let share = positions - before.clone();
    let first = before.int().sub_scalar(radius as i64);
    let cells = first.unsqueeze_dim::<2>(1) + steps(2 * radius + 2, &device);
    let last = len as i64 - 1;
    let inside =
        cells.clone().greater_equal_elem(0).float() * cells.clone().lower_equal_elem(last).float();
    let num_windows = share.dims()[0];
    (
        cells.clamp(0, last),
        inside,
        share.reshape([num_windows, 1, 1]),
    )
}

fn steps(num_steps: usize, device: &Device) -> Tensor<2, Int> {
    Tensor::arange(0..num_steps as i64, device).unsqueeze_dim(0)
}
