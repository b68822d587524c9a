use std::fmt;

/// Skipped items that a report names.
const NAMED: usize = 16;

/// What became of a loader's items since it was made: what the consumer got, and what was
/// left out on the way to it.
///
/// A resumed run counts from its resumption on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoaderReport {
    /// Batches that were taken.
    pub batches: u64,
    /// Items in them.
    pub items: u64,
    /// Items that were left out because they failed.
    pub skipped: u64,
    /// Items that were loaded after failing at first.
    pub recovered: u64,
    /// The first items that were left out, at most 16.
    pub first_skipped: Vec<SkippedItem>,
    /// The most bytes in flight, by what the dataset says its items cost.
    pub bytes_peak: u64,
}

/// An item that was left out because it failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedItem {
    /// Its index or record number.
    pub index: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// Why it failed, causes included.
    pub reason: String,
}

/// What became of the items of a batch, and of those skipped before it was full.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Items of the epoch's order.
    pub(super) passed: u64,
    /// Items of the whole epoch, once that is known.
    pub(super) total: Option<u64>,
    /// Items delivered.
    pub(super) items: u64,
    pub(super) recovered: u64,
    pub(super) skipped: u64,
    /// The most bytes in flight in its run so far.
    pub(super) bytes_peak: u64,
    pub(super) first_skipped: Vec<SkippedItem>,
}

impl Tally {
    pub(super) fn skip(&mut self, item: SkippedItem) {
        self.skipped += 1;
        if self.first_skipped.len() < NAMED {
            self.first_skipped.push(item);
        }
    }
}

impl LoaderReport {
    pub(super) fn add(&mut self, tally: Tally) {
        self.batches += u64::from(tally.items > 0);
        self.items += tally.items;
        self.recovered += tally.recovered;
        self.skipped += tally.skipped;
        self.bytes_peak = self.bytes_peak.max(tally.bytes_peak);
        let room = NAMED - self.first_skipped.len();
        self.first_skipped
            .extend(tally.first_skipped.into_iter().take(room));
    }
}

impl fmt::Display for LoaderReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            batches,
            items,
            skipped,
            recovered,
            ..
        } = self;
        write!(f, "{items} items in {batches} batches, {skipped} skipped")?;
        if *recovered > 0 {
            write!(f, ", {recovered} loaded after a retry")?;
        }
        for item in &self.first_skipped {
            let SkippedItem {
                index,
                epoch,
                reason,
            } = item;
            write!(f, "\n  item {index} of epoch {epoch}: {reason}")?;
        }
        let unnamed = skipped - self.first_skipped.len() as u64;
        if unnamed > 0 {
            write!(f, "\n  and {unnamed} more")?;
        }
        Ok(())
    }
}
