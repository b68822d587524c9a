//! Tiles that a network trains on: when they are exact, and how wide their margin is.

use std::ops::ControlFlow;
use std::sync::OnceLock;

use anyhow::{Result, bail};
use burn::module::Module;
use burn::tensor::Tensor;
use burn_memopt::chunked::{
    ExactTiles, ImageSource, Progress, Reach, TilePlan, TiledError, TiledImages, TiledStep,
    Windows, measure_training_reach,
};

use super::tile_plan::{AUTO, TileChoice};
use crate::choices::ChunkSizeChoice;
use crate::report::{TileDisplay, note};
use crate::settings::{RunSettings, TilingSettings, UsageError};

/// Shortest side of the images that the reach is measured on, in strides of the network.
const LEAST_STRIDES: usize = 16;
/// Times the image is enlarged until a pixel's reach ends inside it.
const NUM_ENLARGED: usize = 2;

/// The tiles of a job, which are known with its network, and what shows how many are done.
#[derive(Default)]
pub struct JobTiles {
    tiles: OnceLock<(TiledStep, TileChoice)>,
    shown: OnceLock<TileDisplay>,
}

impl JobTiles {
    /// Trains on tiles as they were chosen for a network of this reach. Returns the shape of what it sees at once of
    /// images of these channels, and what is recomputed, as it is given on the command line.
    ///
    /// # Errors
    /// [`UsageError`] if a tile keeps less than twice its margin.
    pub fn set(
        &self,
        tiling: &TilingSettings,
        choice: TileChoice,
        reach: &Reach,
        channels: usize,
    ) -> Result<([usize; 4], String)> {
        let step = step(tiling, &choice.plan, reach)?;
        let [height, width] = choice.shape().read();
        let sample = [choice.plan.batch_size, channels, height, width];
        let given = choice.grad_checkpoint();
        let _ = self.tiles.set((step, choice));
        Ok((sample, given))
    }

    /// The tiles, where a step runs on tiles.
    pub fn get(&self) -> Option<&TiledStep> {
        self.tiles.get().map(|(step, _)| step)
    }

    /// Says which tiles there are, and shows from now on how many are done.
    pub fn show(&self, display: TileDisplay) {
        if let Some((step, choice)) = self.tiles.get() {
            note(choice.note(step));
        }
        let _ = self.shown.set(display);
    }

    /// The tiles of a micro-batch of so many images, where a step runs on tiles. Of fewer images than there were to be, as
    /// after a micro-batch that lacked memory, fewer tiles run at once.
    pub fn of_images(&self, num_images: usize) -> Option<TiledStep> {
        let (step, choice) = self.tiles.get()?;
        Some(step.clone().with_batch_size(choice.at_once(num_images)))
    }

    /// Lays `step` over images and their targets, and accumulates their loss by `accumulate`.
    ///
    /// # Panics
    /// If that fails: images and targets are in memory, and the settings were checked.
    pub fn accumulate(
        &self,
        step: &TiledStep,
        [images, targets]: [&dyn ImageSource; 2],
        accumulate: impl FnOnce(
            &TiledImages,
            &dyn Fn(Progress) -> ControlFlow<()>,
        ) -> Result<(), TiledError>,
    ) {
        let progress = |progress: Progress| {
            if let Some(shown) = self.shown.get() {
                shown.show(progress);
            }
            ControlFlow::Continue(())
        };
        let tiles = step.over(images, targets);
        let ran = tiles.and_then(|tiles| accumulate(&tiles, &progress));
        // With its causes: by them, lack of memory is told from other failures.
        ran.unwrap_or_else(|error| {
            panic!("a step on tiles failed: {:#}", anyhow::Error::from(error))
        });
    }
}

/// Refuses tiles for a norm, as its flag gives it, that takes statistics of the whole image.
pub fn refuse_norm(tiling: &TilingSettings, norm: &str, advice: &str) -> Result<()> {
    if !tiling.use_chunking || tiling.approximate_chunks {
        return Ok(());
    }
    bail!(UsageError(format!(
        "--use-chunking gives the gradient of the whole image, which tiles do not have with {norm}, because it \
         takes statistics of all of it; use {advice}, or accept another gradient by --approximate-chunks"
    )))
}

/// Refuses settings of tiles where there are none.
pub fn check_unused(tiling: &TilingSettings, run: &RunSettings) -> Result<()> {
    if tiling.use_chunking {
        return Ok(());
    }
    if tiling.chunk_size != ChunkSizeChoice::Auto || tiling.approximate_chunks {
        bail!(UsageError(
            "--chunk-size and --approximate-chunks are for --use-chunking: give it too, or neither (auto and false)".into()
        ));
    }
    if run.grad_checkpoint == AUTO {
        bail!(UsageError(
            "--grad-checkpoint auto is for --use-chunking, whose tiles it is chosen with; give none, block, \
             segments=N, least or budget=SIZE"
                .into()
        ));
    }
    Ok(())
}

/// How far a pixel reaches through a network in training. `plain` is a network of the same shape without norms, which
/// reaches as far.
///
/// # Errors
/// [`UsageError`] if it reaches all of the image.
pub fn reach<M: Module>(
    tiling: &TilingSettings,
    [network, plain]: [&M; 2],
    stride: usize,
    channels: usize,
    forward: impl Fn(&M, Windows) -> Tensor<4>,
) -> Result<Reach> {
    let mut side = (LEAST_STRIDES * stride).max(64);
    let measured = if tiling.approximate_chunks {
        plain
    } else {
        network
    };
    let measure = |side| measure_training_reach(measured, [channels, side, side], stride, &forward);
    let mut reach = measure(side);
    for _ in 0..NUM_ENLARGED {
        if reach.halo().is_some() {
            return Ok(reach);
        }
        side *= 2;
        reach = measure(side);
    }
    match reach.halo() {
        Some(_) => Ok(reach),
        None => Err(refused(TiledError::WholeImage {
            share: reach.farthest_change(),
            layers: Vec::new(),
        })),
    }
}

/// A step on tiles as they are planned, for a network of this reach.
///
/// # Errors
/// [`UsageError`] if a tile keeps less than twice its margin.
fn step(tiling: &TilingSettings, plan: &TilePlan, reach: &Reach) -> Result<TiledStep> {
    let step = match (tiling.approximate_chunks, reach.halo()) {
        (true, Some(halo)) => TiledStep::approximate(plan.core, halo, reach.stride()),
        _ => TiledStep::new(plan.core, reach).map_err(refused)?,
    };
    let step = step.with_batch_size(plan.batch_size);
    Ok(step.without_randomness())
}

fn refused(error: TiledError) -> anyhow::Error {
    UsageError(format!("--chunk-size: {error}")).into()
}

/// Tiles that give what the network gives on the whole image.
pub fn for_evaluation(step: &TiledStep, stride: usize) -> ExactTiles {
    ExactTiles::with_halo(step.core(), step.margin(), stride)
}
