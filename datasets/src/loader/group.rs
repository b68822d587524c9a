use super::{Batches, LoaderError};

/// The batches for one optimizer step: see [`Batches::next_group`].
pub struct Group<'a, O> {
    batches: &'a mut Batches<O>,
    first: Option<Result<O, LoaderError>>,
    left: usize,
}

impl<'a, O> Group<'a, O> {
    pub(super) fn new(
        batches: &'a mut Batches<O>,
        first: Result<O, LoaderError>,
        left: usize,
    ) -> Self {
        Self {
            batches,
            first: Some(first),
            left,
        }
    }
}

impl<O> Iterator for Group<'_, O> {
    type Item = Result<O, LoaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        self.left = self.left.checked_sub(1)?;
        self.batches.next()
    }
}
