//! The mask of a video's frame.

/// Which pixels of a frame are missing, and are to be filled.
///
/// # Shapes
/// - values: `[height, width]`, 1 where a pixel is missing and 0 where it is known
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoleMask {
    height: usize,
    width: usize,
    values: Vec<u8>,
}

impl HoleMask {
    /// A mask of values that are 0 or 1, row by row.
    ///
    /// # Panics
    /// If a side is zero, if there are not `height * width` values, or if one is neither.
    pub fn new(height: usize, width: usize, values: Vec<u8>) -> Self {
        assert!(
            height > 0 && width > 0,
            "mask must have pixels, got {height}×{width}"
        );
        let len = values.len();
        assert!(
            len == height * width,
            "mask must have {height}×{width} values, got {len}"
        );
        let other = values.iter().find(|&&value| value > 1);
        assert!(other.is_none(), "mask must hold 0 and 1, got {other:?}");
        Self {
            height,
            width,
            values,
        }
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// 1 where a pixel is missing and 0 where it is known, row by row.
    pub fn values(&self) -> &[u8] {
        &self.values
    }

    /// Pixels that are missing.
    pub fn num_holes(&self) -> usize {
        self.values.iter().map(|&hole| usize::from(hole)).sum()
    }

    /// The share of all pixels that is missing, from 0 to 1.
    pub fn hole_share(&self) -> f64 {
        self.num_holes() as f64 / self.values.len() as f64
    }
}

impl HoleMask {
    /// The holes with every pixel that is at most `steps` to the side, up or down from one.
    ///
    /// The time taken does not grow with `steps`.
    ///
    /// # Example
    /// ```
    /// use burn_memopt_datasets::masks::HoleMask;
    ///
    /// let mask = HoleMask::new(1, 5, vec![1, 0, 0, 0, 0]);
    /// assert_eq!(mask.dilated(2).values(), [1, 1, 1, 0, 0]);
    /// ```
    #[must_use]
    pub fn dilated(&self, steps: usize) -> Self {
        let mut distances: Vec<usize> = self
            .values
            .iter()
            .map(|&hole| if hole == 1 { 0 } else { usize::MAX })
            .collect();
        // The way from a hole goes down and to the right, or up and to the left, or around one
        // corner: two sweeps see all of them.
        for y in 0..self.height {
            for x in 0..self.width {
                self.approach(&mut distances, [y, x], [y.checked_sub(1), x.checked_sub(1)]);
            }
        }
        for y in (0..self.height).rev() {
            for x in (0..self.width).rev() {
                let (below, right) = (y + 1, x + 1);
                let below = (below < self.height).then_some(below);
                let right = (right < self.width).then_some(right);
                self.approach(&mut distances, [y, x], [below, right]);
            }
        }
        let values = distances.into_iter();
        let values = values.map(|distance| u8::from(distance <= steps));
        Self::new(self.height, self.width, values.collect())
    }

    /// Takes over the distance of a neighbouring row and column, if that is shorter.
    fn approach(&self, distances: &mut [usize], [y, x]: [usize; 2], near: [Option<usize>; 2]) {
        let vertical = near[0].map(|near| near * self.width + x);
        let horizontal = near[1].map(|near| y * self.width + near);
        let at = y * self.width + x;
        for neighbour in [vertical, horizontal].into_iter().flatten() {
            distances[at] = distances[at].min(distances[neighbour].saturating_add(1));
        }
    }

    /// The mask at another size; each pixel is the one whose area contains its centre.
    ///
    /// # Panics
    /// If a side is zero.
    #[must_use]
    pub fn resized(&self, height: usize, width: usize) -> Self {
        let columns = nearest(self.width, width);
        let rows = nearest(self.height, height).into_iter();
        let values = rows.flat_map(|y| {
            let row = &self.values[y * self.width..][..self.width];
            columns.iter().map(move |x| row[*x])
        });
        Self::new(height, width, values.collect())
    }
}

/// The input pixel of every output pixel of an axis that goes from `from` pixels to `to`.
///
/// The steps are summed in f64, as Pillow sums them: where a centre is between two pixels, rounding
/// decides.
fn nearest(from: usize, to: usize) -> Vec<usize> {
    let step = from as f64 / to as f64;
    let centres = std::iter::successors(Some(step * 0.5), |centre| Some(centre + step));
    let pixels = centres.map(|centre| (centre as usize).min(from - 1));
    pixels.take(to).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[should_panic(expected = "mask must have pixels, got 0×4")]
    #[case::without_pixels(0, vec![])]
    #[should_panic(expected = "mask must have 1×4 values, got 3")]
    #[case::too_short(1, vec![0; 3])]
    #[should_panic(expected = "mask must hold 0 and 1, got Some(255)")]
    #[case::gray(1, vec![0, 1, 255, 0])]
    fn values_are_counted_and_zero_or_one(#[case] height: usize, #[case] values: Vec<u8>) {
        HoleMask::new(height, 4, values);
    }

    #[test]
    fn holes_are_counted() {
        let mask = HoleMask::new(2, 2, vec![1, 0, 0, 0]);
        assert_eq!((mask.num_holes(), mask.hole_share()), (1, 0.25));
    }

    /// One step at a time: a pixel and its four neighbours.
    fn step(mask: &HoleMask) -> HoleMask {
        let (height, width) = (mask.height() as isize, mask.width() as isize);
        let hole = |y: isize, x: isize| {
            let inside = (0..height).contains(&y) && (0..width).contains(&x);
            inside && mask.values()[(y * width + x) as usize] == 1
        };
        let all = (0..height).flat_map(|y| (0..width).map(move |x| (y, x)));
        let values = all.map(|(y, x)| {
            let around = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)];
            u8::from(around.iter().any(|(dy, dx)| hole(y + dy, x + dx)))
        });
        HoleMask::new(mask.height(), mask.width(), values.collect())
    }

    proptest! {
        #[test]
        fn dilation_is_that_many_single_steps(
            values in proptest::collection::vec(0u8..=1, 7 * 9),
            sparse in any::<bool>(),
            steps in 0usize..6,
        ) {
            let values = values.iter().enumerate();
            let values = values.map(|(at, &value)| if sparse && at % 5 > 0 { 0 } else { value });
            let mask = HoleMask::new(7, 9, values.collect());
            let stepwise = (0..steps).fold(mask.clone(), |mask, _| step(&mask));
            prop_assert_eq!(mask.dilated(steps), stepwise);
        }
    }

    #[test]
    fn a_mask_without_holes_stays_without() {
        let mask = HoleMask::new(2, 2, vec![0; 4]);
        assert_eq!(mask.dilated(9), mask);
    }

    /// Pillow's choices. Column 7 is as near to the centre of the third output pixel as column 6.
    #[test]
    fn pixels_are_those_that_pillow_picks() {
        assert_eq!(nearest(14, 5), [1, 4, 6, 9, 12]);
        assert_eq!(nearest(3, 6), [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn a_doubled_mask_shrinks_back_to_itself() {
        let mask = HoleMask::new(2, 3, vec![1, 0, 0, 0, 1, 1]);
        let doubled = mask.resized(4, 6);
        assert_eq!(doubled.num_holes(), 4 * mask.num_holes());
        assert_eq!(doubled.resized(2, 3), mask);
    }
}
