/// How an effective batch, the items of one optimizer step, is divided into micro-batches.
///
/// Their size only ever goes down, to numbers that divide the effective batch: so it stays what it
/// was, item by item.
///
/// # Example
/// ```
/// use burn_memopt::train::MicroBatches;
///
/// let mut parts = MicroBatches::new(12, 2);
/// assert!(parts.shrink());
/// assert_eq!((parts.size(), parts.accumulation_steps()), (6, 4));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MicroBatches {
    effective: usize,
    size: usize,
    tried: Vec<usize>,
}

impl MicroBatches {
    /// `accumulation_steps` micro-batches of `size` items.
    ///
    /// # Panics
    /// If one of them is zero.
    pub fn new(size: usize, accumulation_steps: usize) -> Self {
        assert!(
            size > 0 && accumulation_steps > 0,
            "micro-batches must be at least 1 of at least 1 item, got {accumulation_steps} of {size}"
        );
        Self {
            effective: size * accumulation_steps,
            size,
            tried: Vec::new(),
        }
    }

    /// Items in a micro-batch.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Micro-batches in a step.
    pub fn accumulation_steps(&self) -> usize {
        self.effective / self.size
    }

    /// Items in a step.
    pub fn effective_batch_size(&self) -> usize {
        self.effective
    }

    /// Sizes that did not fit, in the order in which they were tried.
    pub fn tried(&self) -> &[usize] {
        &self.tried
    }

    /// Goes to the largest size of at most `most` items, as a run that is resumed wants it.
    ///
    /// # Panics
    /// If `most` is zero.
    pub fn limit(&mut self, most: usize) {
        assert!(most > 0, "micro-batches must have at least 1 item, got 0");
        let divides = |size: &usize| self.effective.is_multiple_of(*size);
        let smaller = (1..=most.min(self.size)).rev().find(divides);
        self.size = smaller.expect("invariant: 1 divides any number");
    }

    /// Notes that the size did not fit and goes to half of it, or to the next smaller that divides
    /// the effective batch; answers whether there is one.
    pub fn shrink(&mut self) -> bool {
        self.tried.push(self.size);
        if self.size == 1 {
            return false;
        }
        self.limit(self.size / 2);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_effective_batch_stays_what_it_was(size in 1_usize..200, steps in 1_usize..20) {
            let mut parts = MicroBatches::new(size, steps);
            loop {
                let before = parts.size();
                prop_assert_eq!(parts.size() * parts.accumulation_steps(), size * steps);
                prop_assert_eq!(parts.effective_batch_size(), size * steps);
                if !parts.shrink() {
                    break;
                }
                prop_assert!(2 * parts.size() <= before);
            }
            prop_assert_eq!(parts.size(), 1);
            prop_assert_eq!(parts.tried().first(), Some(&size));
        }
    }

    #[test]
    fn sizes_are_halved_where_that_is_possible() {
        let mut parts = MicroBatches::new(24, 1);
        while parts.shrink() {}
        assert_eq!(parts.tried(), [24, 12, 6, 3, 1]);
        let mut odd = MicroBatches::new(7, 2);
        while odd.shrink() {}
        assert_eq!(odd.tried(), [7, 2, 1]);
    }

    #[test]
    fn a_limit_never_makes_them_larger() {
        let mut parts = MicroBatches::new(8, 3);
        parts.limit(100);
        assert_eq!(parts.size(), 8);
        parts.limit(5);
        assert_eq!(parts.size(), 4);
    }
}
