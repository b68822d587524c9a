//! Data loading: threads beside one.

use std::{
    io::{Read, Write},
    sync::Arc,
};

use burn::{
    data::{
        dataloader::batcher::Batcher,
        dataset::{Dataset, DatasetError},
    },
    tensor::Device,
};
use burn_memopt_datasets::{
    lazy::LazyDataset,
    loader::{Loader, LoaderConfig},
    shuffle::mix,
};
use flate2::{Compression, read::DeflateDecoder, write::DeflateEncoder};

use crate::{Row, measure::compare_epochs};

/// Pages of an epoch.
const NUM_PAGES: usize = 192;
/// Bytes of a page: 512×512 pixels of 16 bits.
const PAGE_BYTES: usize = 512 * 512 * 2;
/// Different pages; the others repeat them.
const NUM_DIFFERENT: usize = 8;
const BATCH_SIZE: usize = 8;
/// Room for four batches.
const PREFETCH_BYTES: u64 = (4 * BATCH_SIZE * PAGE_BYTES) as u64;

/// Deflated pages in memory: to load one is to inflate it, which is the processor's work
/// alone.
#[derive(Clone)]
struct Pages(Arc<Vec<Vec<u8>>>);

impl Pages {
    /// Pages that look like a camera's: a slope, and noise in the low bits.
    fn generate() -> Result<Self, std::io::Error> {
        let page = |number: usize| {
            let pixels = (0..PAGE_BYTES as u64 / 2).flat_map(|pixel| {
                let noise = mix(number as u64, pixel) % 32;
                ((100 + pixel % 512 / 4 + noise) as u16).to_le_bytes()
            });
            let mut deflate = DeflateEncoder::new(Vec::new(), Compression::fast());
            deflate.write_all(&pixels.collect::<Vec<u8>>())?;
            deflate.finish()
        };
        let pages: Result<_, _> = (0..NUM_DIFFERENT).map(page).collect();
        Ok(Self(Arc::new(pages?)))
    }
}

impl Dataset<Vec<u8>> for Pages {
    fn get(&self, index: usize) -> Result<Vec<u8>, DatasetError> {
        let mut page = Vec::with_capacity(PAGE_BYTES);
        DeflateDecoder::new(&self.0[index % NUM_DIFFERENT][..])
            .read_to_end(&mut page)
            .map_err(DatasetError::new)?;
        Ok(page)
    }

    fn len(&self) -> usize {
        NUM_PAGES
    }
}

impl LazyDataset<Vec<u8>> for Pages {
    fn item_bytes(&self, _index: usize) -> u64 {
        PAGE_BYTES as u64
    }
}

/// Batches are their items.
struct Collect;

impl Batcher<Vec<u8>, Vec<Vec<u8>>> for Collect {
    fn batch(&self, pages: Vec<Vec<u8>>, _device: &Device) -> Vec<Vec<u8>> {
        pages
    }
}

type PageLoader = Loader<Vec<u8>, Vec<Vec<u8>>>;

/// Two workers against one. The work is the host's, whatever the device.
pub(crate) fn workers(_device: &Device) -> Result<Vec<Row>, String> {
    let pages = Pages::generate().map_err(|error| error.to_string())?;
    let variants = [("plain", 1), ("workers=2", 2)];
    let loaders = variants.map(|(_, workers)| loader(&pages, workers));
    let loaders = loaders.into_iter().collect::<Result<Vec<_>, _>>()?;
    // The first epoch warms up, and shows that the items are the same.
    let orders: Vec<Vec<Vec<u8>>> = loaders
        .iter()
        .map(|loader| epoch(loader, |page| page[..64].to_vec()))
        .collect::<Result<_, _>>()?;
    let rows = compare_epochs(variants.map(|(name, _)| name), NUM_PAGES, |variant| {
        epoch(&loaders[variant], |page| page.len()).map(drop)
    });
    let with_checks = |(variant, row): (usize, Row)| Row {
        // What is in flight, and the batch that the consumer holds.
        predicted_bytes: Some(PREFETCH_BYTES + (BATCH_SIZE * PAGE_BYTES) as u64),
        exact: Some(orders[variant] == orders[0]),
        ..row
    };
    Ok(rows?.into_iter().enumerate().map(with_checks).collect())
}

fn loader(pages: &Pages, workers: usize) -> Result<PageLoader, String> {
    let config = LoaderConfig::new(BATCH_SIZE)
        .with_workers(workers)
        .with_prefetch_bytes(PREFETCH_BYTES);
    Loader::new(pages.clone(), Collect, config, &Device::flex()).map_err(|error| error.to_string())
}

/// Takes all batches of an epoch as fast as they come, and what `look` sees in each page.
fn epoch<T>(loader: &PageLoader, look: impl Fn(&[u8]) -> T) -> Result<Vec<T>, String> {
    let mut seen = Vec::with_capacity(NUM_PAGES);
    for batch in loader.batches() {
        let batch = batch.map_err(|error| error.to_string())?;
        seen.extend(batch.iter().map(|page| look(page)));
    }
    Ok(seen)
}
