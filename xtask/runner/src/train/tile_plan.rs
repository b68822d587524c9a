//! Which tiles a run trains on: as they are given, or as a budget or the free memory allows.

use std::fmt;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use burn_memopt::budget::{SHARE_OF_FREE, Verified, VerifyError};
use burn_memopt::chunked::{
    Reach, TileCost, TilePlan, TilePlanner, TilePolicy, TileSetting, TileShape, TiledStep,
};
use burn_memopt::grad_checkpoint::Policy;
use burn_memopt::memory::estimate::{CalibrateError, ModelBytes, peak_of_step};
use burn_memopt::memory::{Bytes, free_on, live_on, on_host};
use burn_memopt::train::MicroBatchTrainer;
use burn_memopt_models::GradCheckpoint;
use serde::{Deserialize, Serialize};

use super::job::Load;
use super::network::training_precision;
use super::optimizer::{AdamSettings, Kept};
use super::rehearsal::{ENOUGH_MICRO_BATCHES, StepSettings, rehearsed};
use super::saved::CutPlan;
use crate::choices::ChunkSizeChoice;
use crate::settings::{RunSettings, TilingSettings, UsageError};

/// What `--grad-checkpoint` is where it is chosen with the tiles.
pub const AUTO: &str = "auto";
/// The side of a tile where nothing is known of the memory.
const UNKNOWN: usize = 512;
/// The part of `--grad-checkpoint budget=SIZE` that tiles may fill: predictions are not exact.
const USABLE: f64 = 0.9;

/// What the tiles of a run are chosen by. A run that is resumed with the same keeps them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TileRequest {
    /// The side of a tile, if it is given.
    pub chunk_size: Option<usize>,
    /// As it was given.
    pub grad_checkpoint: String,
    /// The most that a step may take.
    pub budget: Option<Bytes>,
    /// Images in a micro-batch.
    pub batch_size: usize,
    /// The largest height and width.
    pub size: [usize; 2],
    /// How far the network reaches.
    pub halo: usize,
    /// How many pixels become one at the bottom of the network, along a side.
    pub stride: usize,
}

/// The tiles of a run, and why.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TileChoice {
    request: TileRequest,
    /// The tiles.
    pub plan: TilePlan,
    /// Why they are chosen; `None` where they were given.
    chosen: Option<Verified<TilePlan, TileSetting>>,
    /// What a step takes besides its tiles.
    beside: Bytes,
}

/// A network to choose tiles for.
pub struct Rehearsed<'a, M, F> {
    /// The network, uncut.
    pub network: &'a M,
    /// Runs tiles of a shape forward and backward.
    pub tile: F,
    /// What the images of a micro-batch take on the device, and what waits for its step.
    pub images: Bytes,
    /// Its optimizer, where it is one of Adam's kind.
    pub adam: AdamSettings,
}

impl<M: GradCheckpoint, F: Fn(&M, &mut MicroBatchTrainer, &TileShape)> Rehearsed<'_, M, F> {
    /// The tiles that `saved` has for the request, else those that are given, else those that fit.
    ///
    /// # Errors
    /// [`UsageError`] if no tiles fit, or the memory of the device is unknown and there is a budget.
    pub fn tiles(
        &self,
        request: TileRequest,
        run: &RunSettings,
        saved: &mut CutPlan,
        device: &Device,
    ) -> Result<TileChoice> {
        if let Some(found) = saved.tiles(&request) {
            return Ok(found.clone());
        }
        let mut planner = request.planner();
        if let Some(side) = request.chunk_size {
            if side < request.stride {
                bail!(UsageError(format!(
                    "--chunk-size must be at least the {} pixels that the network halves to one, got {side}",
                    request.stride
                )));
            }
            planner = planner.with_core([side; 2]);
        }
        let choice = match (request.chunk_size, request.budget) {
            (Some(side), None) => request.fixed(&planner, side)?,
            _ => self.choose(request, &planner, run, device)?,
        };
        saved.set_tiles(choice.clone());
        Ok(choice)
    }

    fn choose(
        &self,
        request: TileRequest,
        planner: &TilePlanner,
        run: &RunSettings,
        device: &Device,
    ) -> Result<TileChoice> {
        let bytes = ModelBytes::of(self.network);
        let state = Kept::of(&bytes, run.optimizer, device).resident - bytes.parameters;
        // The gradients of other images wait while those of one are added up.
        let waiting = match run.accumulation_steps {
            1 => Bytes::ZERO,
            _ => bytes.gradients,
        };
        let coming = self.images + state + waiting;
        let (live, free) = (live_on(device), free_on(device));
        let (beside, room) = match (request.budget, live, free) {
            (Some(budget), Some(live), _) => (live + coming, budget - (live + coming)),
            (Some(_), ..) => bail!(UsageError(
                "--budget needs a device that reports its memory; give --chunk-size instead".into()
            )),
            (None, _, Some(free)) => (coming, free.scale(SHARE_OF_FREE) - coming),
            (None, _, None) => return request.unknown(planner),
        };
        // What is measured leaves the statistics of batch normalization as they are.
        let copy = self.network.valid().train();
        let precision = training_precision(run.precision, std::slice::from_ref(device))?;
        let step = |policy: Policy, shape: TileShape| {
            let network = copy.clone().with_grad_checkpoint(policy);
            let tile = &self.tile;
            let micro_batch = move |network: &M, train: &mut MicroBatchTrainer| {
                tile(network, train, &shape);
            };
            let steps = StepSettings {
                precision,
                opt_level: run.opt_level,
                optimizer: run.optimizer,
                adam: self.adam,
            };
            rehearsed(network, steps, ENOUGH_MICRO_BATCHES, micro_batch)
        };
        let (policies, most) = request.policies(room)?;
        let cost = |(policy, measured): (Policy, Policy)| {
            let (halo, stride) = (request.halo, request.stride);
            let cost = TileCost::measure(device, halo, stride, |shape| step(measured, shape))?;
            Ok::<_, CalibrateError>(TilePolicy::new(policy, cost))
        };
        let policies: Result<Vec<_>, CalibrateError> = policies.into_iter().map(cost).collect();
        let policies = match (policies, request.budget) {
            (Err(CalibrateError::Unmeasured(_)), None) => return request.unknown(planner),
            (policies, _) => policies.context("cannot measure a step on tiles")?,
        };
        let verified = planner.verify(most, policies, |plan| {
            let shape = planner.shape(plan);
            peak_of_step(device, step(plan.policy, shape))
        });
        let verified = verified.map_err(|error| request.refused(error, beside, room))?;
        Ok(TileChoice {
            plan: verified.choice.settings.clone(),
            chosen: Some(verified),
            beside,
            request,
        })
    }
}

/// What images of `item` bytes take beside their tiles: those of a micro-batch, of the next, which is put together
/// meanwhile, and of all that wait in the loader on the host.
pub fn images_beside(item: Bytes, all: Bytes, run: &RunSettings, device: &Device) -> Result<Bytes> {
    let waiting = match on_host(device) {
        true => all.min(Load::new(run)?.prefetch),
        false => Bytes::ZERO,
    };
    Ok(item * 2 * run.batch_size as u64 + waiting)
}

impl TileRequest {
    /// Tiles of images of this height and width for a network of this reach, without a budget.
    pub fn new(
        tiling: &TilingSettings,
        run: &RunSettings,
        size: [usize; 2],
        reach: &Reach,
    ) -> Self {
        Self {
            chunk_size: match tiling.chunk_size {
                ChunkSizeChoice::Pixels(side) => Some(side),
                ChunkSizeChoice::Auto => None,
            },
            grad_checkpoint: run.grad_checkpoint.clone(),
            budget: None,
            batch_size: run.batch_size,
            size,
            halo: reach.halo().unwrap_or(0),
            stride: reach.stride(),
        }
    }

    /// Pixels that a tile reads around what it keeps.
    pub fn margin(&self) -> usize {
        self.halo.next_multiple_of(self.stride)
    }

    fn planner(&self) -> TilePlanner {
        TilePlanner::new(self.batch_size, self.size, self.halo, self.stride)
    }

    fn policy(&self) -> Result<Policy> {
        let text = match self.grad_checkpoint.as_str() {
            AUTO => "none",
            given => given,
        };
        let policy = text.parse::<Policy>();
        policy.map_err(|error| UsageError(format!("--grad-checkpoint: {error}")).into())
    }

    /// What may be recomputed, each with what is measured for it, and the most that tiles may take.
    fn policies(&self, room: Bytes) -> Result<(Vec<(Policy, Policy)>, Bytes)> {
        if self.grad_checkpoint == AUTO {
            let both = [Policy::None, Policy::EveryBlock];
            return Ok((both.map(|policy| (policy, policy)).into(), room));
        }
        Ok(match self.policy()? {
            // A tile fits where recomputing every block does: then the network is cut less, if that fits.
            policy @ Policy::Budget(most) => (
                vec![(policy, Policy::EveryBlock)],
                room.min(most.scale(USABLE)),
            ),
            policy => (vec![(policy, policy)], room),
        })
    }

    /// Tiles of a given side, one at a time.
    fn fixed(self, planner: &TilePlanner, side: usize) -> Result<TileChoice> {
        let policy = TilePolicy::new(self.policy()?, TileCost::new(Bytes::ZERO, 0.0, 0.0));
        let plan = planner.single([side; 2], &policy);
        Ok(TileChoice {
            request: self,
            plan,
            chosen: None,
            beside: Bytes::ZERO,
        })
    }

    /// Tiles where nothing is known of the memory.
    fn unknown(self, planner: &TilePlanner) -> Result<TileChoice> {
        let margin = self.margin();
        let needed = self.size[0].max(self.size[1]).next_multiple_of(self.stride);
        let least = (2 * margin).max(self.stride);
        let side = UNKNOWN.min(needed).max(least);
        self.fixed(planner, side)
    }

    fn refused(
        &self,
        error: VerifyError<CalibrateError>,
        beside: Bytes,
        room: Bytes,
    ) -> anyhow::Error {
        let VerifyError::Budget(error) = error else {
            return anyhow::Error::from(error).context("cannot choose tiles");
        };
        let given = match self.budget {
            Some(budget) => format!("--budget {}", budget.to_advise()),
            None => format!("{SHARE_OF_FREE} of the free memory"),
        };
        let with = error.with.unwrap_or_default();
        let mut advice = format!("allow {}", (beside + error.least).to_advise());
        if room == Bytes::ZERO {
            advice += ", make --batch-size or --prefetch smaller";
        }
        if self.chunk_size.is_some() {
            advice += ", give a smaller --chunk-size or auto";
        }
        if self.grad_checkpoint != AUTO && self.grad_checkpoint != "block" {
            advice += ", give --grad-checkpoint block or leave it out";
        }
        UsageError(format!(
            "{given} is not enough for training on tiles: {beside} are taken by the program, its data and images \
             and the optimizer, and {with} take {} at least; {advice}, or a network with fewer channels or less depth",
            error.least
        ))
        .into()
    }
}

impl TileChoice {
    /// Tiles that run at once of so many images.
    pub fn at_once(&self, num_images: usize) -> usize {
        let whole = self.request.batch_size.max(1);
        (self.plan.batch_size * num_images.min(whole))
            .div_ceil(whole)
            .max(1)
    }

    /// Whether this was chosen for such a request.
    pub fn is_for(&self, request: &TileRequest) -> bool {
        self.request == *request
    }

    /// The largest batch of tiles.
    pub fn shape(&self) -> TileShape {
        self.request.planner().shape(&self.plan)
    }

    /// What is recomputed, as it is given on the command line.
    pub fn grad_checkpoint(&self) -> String {
        match self.request.grad_checkpoint.as_str() {
            AUTO => self.plan.policy.to_string(),
            given => given.into(),
        }
    }

    /// The step in one line.
    pub fn note(&self, step: &TiledStep) -> String {
        let [height, width] = step.core();
        let TilePlan {
            batch_size,
            read_share,
            ..
        } = self.plan;
        let more = 100.0 * (read_share - 1.0);
        format!(
            "tiles of {height}×{width} pixels with a margin of {}, {batch_size} at once, \
             --grad-checkpoint {}; margins add {more:.0} % of the pixels",
            step.margin(),
            self.grad_checkpoint()
        )
    }
}

impl fmt::Display for TileChoice {
    /// A line for each setting that was chosen, then the peak.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(chosen) = &self.chosen else {
            return Ok(());
        };
        for reason in &chosen.choice.reasons {
            writeln!(
                f,
                "{:<20} {:<12} {}",
                reason.setting.to_string().replace(' ', "_"),
                reason.value,
                reason.why
            )?;
        }
        let (peak, measured) = (chosen.choice.predicted_peak, chosen.measured_peak);
        writeln!(
            f,
            "{:<20} {:<12} predicted; {measured} measured, besides {} for what else is there",
            "peak_of_tiles",
            peak.to_string(),
            self.beside
        )
    }
}
