//! Tiles over images, and the pass over them.

use std::ops::ControlFlow;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::batches::{Batch, Group, groups, side_tiles};
use super::loss::check_pixel_sum;
use super::reach::global_training_layers;
use super::seeds::TileSeeds;
use super::{TiledError, TiledStep};
use crate::chunked::{ChunkedError, ImageSource, Progress, Tile, Windows};
use crate::train::{MicroBatchTrainer, MicroLoss};

/// Images with their targets under the tiles of a [`TiledStep`].
pub struct TiledImages<'a> {
    pub(super) step: &'a TiledStep,
    pub(super) sources: [&'a dyn ImageSource; 2],
    axes: [Vec<Tile>; 2],
    pub(super) groups: Vec<Group>,
}

impl std::fmt::Debug for TiledImages<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TiledImages")
            .field("step", self.step)
            .field("num_tiles", &self.num_tiles())
            .finish_non_exhaustive()
    }
}

impl<'a> TiledImages<'a> {
    pub(super) fn new(step: &'a TiledStep, sources: [&'a dyn ImageSource; 2]) -> Self {
        let [num_images, _, height, width] = sources[0].dims();
        let axis = |side: usize, len| side_tiles(len, step.core[side], step.halo, step.stride);
        let axes = [axis(0, height), axis(1, width)];
        Self {
            step,
            groups: groups(num_images, &axes, step.batch_size),
            sources,
            axes,
        }
    }

    /// Tiles in all images.
    pub fn num_tiles(&self) -> usize {
        let [num_images, ..] = self.sources[0].dims();
        num_images * self.axes.iter().map(Vec::len).product::<usize>()
    }

    /// Pixels that a tile reads around what it keeps.
    pub fn margin(&self) -> usize {
        self.step.margin()
    }

    /// The pixels that the model gets for each pixel of an image: 1 without margins.
    pub fn read_share(&self) -> f64 {
        read_share(&self.axes)
    }

    /// Runs every tile forward and backward and accumulates the gradient of the whole images in `train`, as that of one
    /// micro-batch; `train` then [makes the step](MicroBatchTrainer::step).
    ///
    /// `forward` gets tiles in the precision of the trainer. `loss` gets what the tiles keep of their output, in f32, and
    /// the target: a sum over these pixels, with its weight. The halves of the first tile are looked at
    /// too, to see that it is one.
    ///
    /// # Errors
    /// If a part of an image cannot be read, the loss is not a sum, the model has layers that see the whole image while
    /// training is exact, or `progress` asks to stop. The group is dropped then, and the model is as before.
    ///
    /// # Panics
    /// As [`MicroBatchTrainer::micro_batch`].
    pub fn accumulate<M: Module>(
        &self,
        train: &mut MicroBatchTrainer,
        model: &M,
        forward: impl Fn(&M, Windows) -> Tensor<4>,
        loss: impl Fn(Tensor<4>, Tensor<4>) -> MicroLoss,
        mut progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), TiledError> {
        let mut steps = Steps::new(self.num_tiles(), &mut progress);
        self.step(train, model, 1, |train, device, seeds| {
            for (number, group) in self.groups.iter().enumerate() {
                let batch = self.read(group, device)?;
                let output = seeds.run(number, || run(train, model, &batch, &forward));
                let output = batch.cut(output)?;
                let tiles = loss(output.clone(), batch.target.clone());
                if number == 0 {
                    check_pixel_sum(&tiles, &output, &batch.target, &loss)?;
                }
                drop(output);
                train.backward(model, tiles);
                steps.done(batch.windows.places.len())?;
            }
            Ok(())
        })
    }

    /// Accumulates what `run` does as one micro-batch, or drops the group if that fails.
    pub(super) fn step<M: Module>(
        &self,
        train: &mut MicroBatchTrainer,
        model: &M,
        num_passes: usize,
        run: impl FnOnce(&mut MicroBatchTrainer, &Device, &TileSeeds) -> Result<(), TiledError>,
    ) -> Result<(), TiledError> {
        let checked = self.check(model);
        let ran = checked.and_then(|()| {
            let device = device_of(model);
            let seeds = TileSeeds::new(self.step.draws, &device, num_passes);
            let ran = train.as_one(model, |train| run(train, &device, &seeds));
            seeds.end();
            ran
        });
        if ran.is_err() {
            train.undo(model);
        }
        ran
    }

    pub(super) fn read(&self, group: &Group, device: &Device) -> Result<Batch, ChunkedError> {
        Batch::read(group, &self.axes, self.step.stride, self.sources, device)
    }

    pub(super) fn check<M: Module>(&self, model: &M) -> Result<(), TiledError> {
        let is_whole = self.num_tiles() == self.sources[0].dims()[0];
        if !self.step.is_exact || is_whole {
            return Ok(());
        }
        match global_training_layers(model) {
            layers if layers.is_empty() => Ok(()),
            layers => Err(TiledError::GlobalLayers { layers }),
        }
    }
}

/// The pixels that tiles read for each that they keep.
pub(super) fn read_share(axes: &[Vec<Tile>; 2]) -> f64 {
    let share = |axis: &Vec<Tile>| {
        let lens = axis.iter().map(|tile| [tile.read.len(), tile.keep.len()]);
        let [read, kept] = lens.fold([0, 0], |[a, b], [c, d]| [a + c, b + d]);
        read as f64 / kept as f64
    };
    axes.iter().map(share).product()
}

/// Counts tiles and asks whether to go on.
pub(super) struct Steps<'a> {
    done: usize,
    total: usize,
    progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl<'a> Steps<'a> {
    pub(super) fn new(
        total: usize,
        progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Self {
        Self {
            done: 0,
            total,
            progress,
        }
    }

    pub(super) fn done(&mut self, tiles: usize) -> Result<(), ChunkedError> {
        self.done += tiles;
        let (done, total) = (self.done, self.total);
        let asked = (self.progress)(Progress { done, total });
        if asked.is_break() && done < total {
            return Err(ChunkedError::Cancelled { done, total });
        }
        Ok(())
    }
}

/// Runs tiles in the precision of the trainer.
pub(super) fn run<M: Module>(
    train: &MicroBatchTrainer,
    model: &M,
    batch: &Batch,
    forward: impl Fn(&M, Windows) -> Tensor<4>,
) -> Tensor<4> {
    let Windows {
        pixels,
        places,
        image_size,
    } = batch.windows.clone();
    train.autocast().run(model, pixels, |model, pixels| {
        forward(
            model,
            Windows {
                pixels,
                places,
                image_size,
            },
        )
    })
}

pub(super) fn device_of<M: Module>(model: &M) -> Device {
    let devices = model.devices();
    devices
        .into_iter()
        .next()
        .expect("a model to train must have parameters")
}
