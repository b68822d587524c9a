use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use burn::tensor::ops::PadMode;

/// Pixels of the frame on a side of a pixel of the flow.
pub(super) const FACTOR: usize = 8;

/// Makes a flow eight times as large and as long: each new pixel is a weighted mean of the 3×3
/// pixels around the one it lies in, zero outside.
///
/// # Shapes
/// - flow: `[batch_size, 2, height, width]`, in its own pixels
/// - weights: `[batch_size, 576, height, width]`, before their softmax: 9 neighbours row by row, for
///   each of 8×8 new pixels
/// - output: `[batch_size, 2, 8 * height, 8 * width]`, in new pixels
///
/// # References
/// Teed and Deng 2020, arXiv:2003.12039, §3.3, "upsampling".
pub fn upsample_flow(flow: Tensor<4>, weights: Tensor<4>) -> Tensor<4> {
    let [batch_size, _, height, width] = flow.dims();
    let num_new = FACTOR * FACTOR;
    let weights = weights.reshape([batch_size, 9, num_new, height, width]);
    let weights = softmax(weights, 1);
    let padded = flow
        .mul_scalar(FACTOR as f64)
        .pad((1, 1, 1, 1), PadMode::Constant(0.0));
    let neighbours = (0..3).flat_map(|row| (0..3).map(move |column| (row, column)));
    let weighted = neighbours.enumerate().map(|(neighbour, (row, column))| {
        // [b, 2, h, w] -> [b, 2, 1, h, w], and [b, 1, 64, h, w]
        let shifted = padded
            .clone()
            .narrow(2, row, height)
            .narrow(3, column, width);
        let weight = weights.clone().narrow(1, neighbour, 1);
        shifted.unsqueeze_dim::<5>(2) * weight
    });
    let upsampled = weighted.reduce(|sum, next| sum + next);
    upsampled
        .expect("invariant: there are nine neighbours")
        .reshape([batch_size, 2, FACTOR, FACTOR, height, width])
        .permute([0, 1, 4, 2, 5, 3])
        .reshape([batch_size, 2, FACTOR * height, FACTOR * width])
}
