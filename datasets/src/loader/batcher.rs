use burn::{data::dataloader::batcher::Batcher, prelude::*};

/// Turns items into a batch, with a seed for each item.
///
/// The seed depends on the loader's seed, the epoch and the item alone, so an
/// augmentation drawn from it repeats in a resumed run. A burn [`Batcher`] serves
/// where no seed is needed: see [`Loader::new`](super::Loader::new).
pub trait SeededBatcher<I, O>: Send + Sync {
    /// Batches `items` on `device`; `seeds[k]` belongs to `items[k]`.
    fn batch(&self, items: Vec<I>, seeds: &[u64], device: &Device) -> O;
}

/// A burn batcher, which knows of no seeds.
pub(super) struct Unseeded<B>(pub(super) B);

impl<I, O, B: Batcher<I, O>> SeededBatcher<I, O> for Unseeded<B> {
    fn batch(&self, items: Vec<I>, _seeds: &[u64], device: &Device) -> O {
        self.0.batch(items, device)
    }
}
