//! Questions about images that are decoded when their batch is: by a loader that is stopped
//! and resumed, and by burn's own `DataLoader`.

use std::{error::Error, sync::Arc};

use burn::{
    data::{
        dataloader::{DataLoader, DataLoaderBuilder, batcher::Batcher},
        dataset::Dataset,
    },
    prelude::*,
};
use burn_memopt_datasets::{
    jsonl::{VqaConfig, VqaDataset, VqaItem},
    lazy::LazyDataset,
    loader::{Loader, LoaderConfig},
    synthetic::vqa::VqaSetConfig,
};

#[derive(Clone, Debug)]
struct VqaBatch {
    /// `[batch_size, 3, height, width]`, from 0 to 1.
    images: Tensor<4>,
    answers: Vec<String>,
}

#[derive(Clone)]
struct VqaBatcher;

impl Batcher<VqaItem<u8>, VqaBatch> for VqaBatcher {
    fn batch(&self, items: Vec<VqaItem<u8>>, device: &Device) -> VqaBatch {
        let shape = [items.len(), 3, items[0].height, items[0].width];
        let pixels = items.iter().flat_map(|item| &item.image);
        let pixels: Vec<f32> = pixels.map(|value| f32::from(*value) / 255.0).collect();
        VqaBatch {
            images: Tensor::from_data(TensorData::new(pixels, shape), device),
            answers: items.into_iter().flat_map(|item| item.answers).collect(),
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let device = Device::flex();
    let folder = tempfile::tempdir()?;
    let file = VqaSetConfig::new(100).write(&folder)?;

    // Of all 100 records only their offsets are in memory.
    let config = VqaConfig::new().with_image_size(Some([32, 32]));
    let questions = Arc::new(VqaDataset::<u8>::open(file, &config)?);
    let (num_items, bytes) = (questions.len(), questions.item_bytes(0));
    println!("{num_items} questions, {bytes} bytes each once loaded");

    // Stop after two batches, and take up the third in another loader.
    let config = LoaderConfig::new(8).with_shuffle(Some(7));
    let make = || Loader::new(questions.clone(), VqaBatcher, config.clone(), &device);
    let loader = make()?;
    loader
        .batches()
        .take(2)
        .try_for_each(|batch| batch.map(drop))?;
    let resumed = make()?;
    resumed.resume(&loader.state())?;
    let third = resumed.batches().next().expect("a third batch")?;
    let expected = loader.batches().next().expect("a third batch")?;
    assert_eq!(third.answers, expected.answers);
    println!("resumed at {:?}: {:?}", third.images.dims(), third.answers);

    // burn's own loader takes it as any other dataset.
    let loader: Arc<dyn DataLoader<VqaBatch>> = DataLoaderBuilder::new(VqaBatcher)
        .batch_size(8)
        .num_workers(1)
        .build(questions);
    let answers = loader.iter().map(|batch| Ok(batch?.answers.len()));
    let num_answers = answers.sum::<Result<usize, Box<dyn Error>>>()?;
    assert_eq!(num_answers, 100);
    Ok(())
}
