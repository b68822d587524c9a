use burn::tensor::Tensor;
use burn::tensor::ops::PadMode;

/// The value `down` rows further down and `right` columns further right of every pixel, zero
/// outside.
///
/// # Shapes
/// - x and output: `[batch_size, channels, height, width]`
pub(super) fn shifted(x: &Tensor<4>, down: isize, right: isize) -> Tensor<4> {
    let [_, _, height, width] = x.dims();
    let cut = |by: isize, len: usize| {
        let gap = by.unsigned_abs().min(len);
        match by >= 0 {
            true => (gap, len - gap, (0, gap)),
            false => (0, len - gap, (gap, 0)),
        }
    };
    let (row, rows, above_and_below) = cut(down, height);
    let (column, columns, beside) = cut(right, width);
    let seen = x.clone().narrow(2, row, rows).narrow(3, column, columns);
    seen.pad([above_and_below, beside], PadMode::Constant(0.0))
}
