//! Completed pixels into frames; pure.

/// Puts a completed frame's hole into the frame, and averages with what an earlier neighbourhood
/// made of it.
///
/// Values of the generator are from -1 to 1. As in ProPainter, every value is cut off to eight bits,
/// not rounded.
///
/// # Shapes
/// - predicted: `[3, height, width]`
/// - frame, earlier: `[height, width, 3]`
/// - mask: `[height, width]`
pub(super) fn compose(
    predicted: &[f32],
    frame: &[u8],
    mask: &[u8],
    earlier: Option<&[u8]>,
) -> Vec<u8> {
    let area = mask.len();
    let mut composed = frame.to_vec();
    for (place, _) in mask.iter().enumerate().filter(|(_, hole)| **hole != 0) {
        for channel in 0..3 {
            let value = (predicted[channel * area + place] + 1.0) / 2.0 * 255.0;
            composed[3 * place + channel] = value as u8;
        }
    }
    if let Some(earlier) = earlier {
        for (value, earlier) in composed.iter_mut().zip(earlier) {
            *value = (f32::from(*earlier) * 0.5 + f32::from(*value) * 0.5) as u8;
        }
    }
    composed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_outside_the_hole_are_untouched_and_those_inside_are_cut_off_and_averaged() {
        let predicted = [0.999, 1.0, -1.0, 0.0, -0.5, 0.5];
        let frame = [1, 2, 3, 7, 8, 9];
        let once = compose(&predicted, &frame, &[1, 0], None);
        assert_eq!(once, [254, 0, 63, 7, 8, 9]);
        let twice = compose(&predicted, &frame, &[1, 0], Some(&[255, 1, 63, 7, 8, 9]));
        assert_eq!(twice, [254, 0, 63, 7, 8, 9]);
    }
}
