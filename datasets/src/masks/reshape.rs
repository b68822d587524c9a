use super::HoleMask;

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

    /// The mask at another size; each pixel is the one whose area its centre lies in.
    ///
    /// # Panics
    /// If a side is zero.
    #[must_use]
    pub fn resized(&self, height: usize, width: usize) -> Self {
        let source = |at: usize, len: usize, from: usize| (2 * at + 1) * from / (2 * len);
        let rows = 0..height;
        let values = rows.flat_map(|y| {
            let y = source(y, height, self.height);
            (0..width).map(move |x| self.values[y * self.width + source(x, width, self.width)])
        });
        Self::new(height, width, values.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    #[test]
    fn a_doubled_mask_shrinks_back_to_itself() {
        let mask = HoleMask::new(2, 3, vec![1, 0, 0, 0, 1, 1]);
        let doubled = mask.resized(4, 6);
        assert_eq!(doubled.num_holes(), 4 * mask.num_holes());
        assert_eq!(doubled.resized(2, 3), mask);
    }
}
