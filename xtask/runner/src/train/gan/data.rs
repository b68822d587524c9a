//! Images with their views in two parts, and batches of them.

use std::path::Path;

use anyhow::{Result, bail};
use burn::data::dataloader::batcher::Batcher;
use burn::data::dataset::Dataset;
use burn::tensor::{Device, Tensor, TensorData};
use burn_memopt_datasets::loader::Loader;
use burn_memopt_datasets::synthetic::solids::{Solids, SolidsConfig};
use burn_memopt_datasets::views::{self, ELEVATIONS, Labels, ViewFolder, ViewItem};
use burn_memopt_models::gan::{GanBatch, ViewLabel};

use crate::settings::{GanSettings, RunSettings, UsageError};
use crate::train::generate_once;
use crate::train::job::{Load, parts};

/// Images of one size, those to learn from and those that are held out.
pub struct Views {
    pub training: ViewFolder,
    pub held_out: Option<ViewFolder>,
    seed: u64,
}

impl Views {
    /// Opens the folder that the settings name, if they name one.
    pub fn open(settings: &GanSettings, run: &RunSettings) -> Result<Option<Self>> {
        let views = &settings.views;
        let Some(folder) = &views.data else {
            return Ok(None);
        };
        let labels = match (&views.table, &views.name_pattern) {
            _ if views.unlabelled => Labels::None,
            (Some(table), _) => Labels::Table(table.clone()),
            (None, Some(pattern)) => Labels::Names(pattern.clone()),
            (None, None) => Labels::default(),
        };
        Self::of(folder, labels, settings, run).map(Some)
    }

    /// Opens the generated images in `folder`, and generates them if they are not there yet.
    pub fn generate(folder: &Path, settings: &GanSettings, run: &RunSettings) -> Result<Self> {
        let images = folder.join("images");
        generate_once(folder, &images, |folder| {
            let config = SolidsConfig::new()
                .with_image_size(settings.views.image_size)
                .with_num_azimuths(settings.views.num_azimuths);
            Solids::new(config).write(folder.join("images"))?;
            Ok(())
        })?;
        let labels = match settings.views.unlabelled {
            true => Labels::None,
            false => Labels::default(),
        };
        Self::of(&images, labels, settings, run)
    }

    fn of(
        folder: &Path,
        labels: Labels,
        settings: &GanSettings,
        run: &RunSettings,
    ) -> Result<Self> {
        let views = ViewFolder::open(folder, labels)?;
        let [side, _] = views.size();
        let patch = settings.networks.patch_size;
        if side < patch {
            bail!(UsageError(format!(
                "the images in {} have {side} pixels a side, fewer than the {patch} of --patch-size; use \
                 larger images or a smaller patch",
                folder.display()
            )));
        }
        if run.holdout == 0.0 {
            return Ok(Self {
                training: views,
                held_out: None,
                seed: run.seed,
            });
        }
        let (training, held_out) = views.split(run.holdout, run.seed)?;
        if held_out.is_empty() {
            bail!(UsageError(format!(
                "{} holds {} images, too few to keep any for evaluation; use --holdout 0",
                folder.display(),
                training.len()
            )));
        }
        Ok(Self {
            training,
            held_out: Some(held_out),
            seed: run.seed,
        })
    }

    pub fn parts(&self) -> Vec<&dyn Dataset<ViewItem>> {
        parts(&self.training, &self.held_out)
    }

    /// Classes, where images have labels.
    pub fn num_classes(&self) -> Option<usize> {
        Some(self.training.class_names().len()).filter(|&classes| classes > 0)
    }

    /// Batches of the training part, of images that are reduced to a side if it is given.
    pub fn loader(&self, load: &Load, device: &Device) -> Result<Loader<ViewItem, GanBatch>> {
        let (config, collate) = (load.config(self.seed), Collate { side: load.side });
        Ok(Loader::new(self.training.clone(), collate, config, device)?)
    }

    /// The images that networks are judged by: those held out, or those trained on where none are.
    pub fn judged(&self) -> &ViewFolder {
        self.held_out.as_ref().unwrap_or(&self.training)
    }
}

/// The label as the networks take it.
pub fn label(label: views::ViewLabel) -> ViewLabel {
    ViewLabel {
        class: label.class,
        azimuth: label.azimuth.into(),
        height: ELEVATIONS[label.elevation],
    }
}

/// Puts images together.
pub struct Collate {
    /// The side that they are reduced to, a divisor of theirs.
    pub side: Option<usize>,
}

impl Batcher<ViewItem, GanBatch> for Collate {
    fn batch(&self, items: Vec<ViewItem>, device: &Device) -> GanBatch {
        let side = (items[0].pixels.len() / 3).isqrt();
        let shape = [items.len(), 3, side, side];
        let labels = items.iter().map(|item| item.label.map(label)).collect();
        let pixels: Vec<f32> = items.into_iter().flat_map(|item| item.pixels).collect();
        let mut images = Tensor::from_data(TensorData::new(pixels, shape), device);
        if let Some(reduced) = self.side.filter(|reduced| *reduced < side) {
            images = reduce(images, reduced);
        }
        GanBatch { images, labels }
    }
}

/// The means of the squares of pixels that become one each.
///
/// # Shapes
/// - images: `[batch_size, channels, height, height]`
/// - output: `[batch_size, channels, side, side]`
fn reduce(images: Tensor<4>, side: usize) -> Tensor<4> {
    let [batch_size, channels, height, _] = images.dims();
    let factor = height / side;
    let blocks = images.reshape([batch_size * channels, side, factor, side, factor]);
    let means = blocks.mean_dim(4).mean_dim(2);
    means.reshape([batch_size, channels, side, side])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reduced_image_has_the_means_of_its_squares() {
        let image = [[0.0, 4.0, 1.0, 1.0], [8.0, 0.0, 1.0, 5.0]]
            .repeat(2)
            .concat();
        let image = TensorData::new(image, [1, 1, 4, 4]);
        let image = Tensor::from_data(image, &Device::default());
        let reduced = reduce(image, 2).into_data();
        assert_eq!(reduced.try_to_vec::<f32>().unwrap(), [3.0, 2.0, 3.0, 2.0]);
    }
}
