//! Chooses the tiles to train on within a budget, how many run at once, and what is recomputed.
//!
//! Pure.

mod reasons;
#[cfg(test)]
mod tests;
mod verify;

use std::cmp::Reverse;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::batches::{most_alike, side_tiles};
use super::images::read_share;
use super::{TileCost, TileShape};
use crate::budget::{BudgetError, Choice, Ladder, recomputed_by};
use crate::chunked::Tile;
use crate::grad_checkpoint::Policy;
use crate::memory::Bytes;

/// The longest side that a tile keeps by default, and the shortest.
const SIDES: [usize; 2] = [1024, 16];
/// A side is tried if it is at most this share of the last one.
const NEXT_SIDE: [usize; 2] = [15, 16];
/// Pixels that are enough to keep a device busy: more tiles at once save no time.
const BUSY: usize = 256 * 256;
/// A step in forward passes: a backward pass takes about two.
const STEP: f64 = 3.0;

/// What may be recomputed, and what tiles take then.
#[derive(Debug, Clone, PartialEq)]
pub struct TilePolicy {
    policy: Policy,
    recomputed: f64,
    cost: TileCost,
}

impl TilePolicy {
    /// A policy with its measured cost. What it recomputes is the share of the forward pass in a chain of many equal
    /// blocks: 1 for every block, or for what is planned.
    pub fn new(policy: Policy, cost: TileCost) -> Self {
        Self {
            policy,
            recomputed: recomputed_by(policy),
            cost,
        }
    }
}

/// Tiles to train on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TilePlan {
    /// Height and width that a tile keeps.
    pub core: [usize; 2],
    /// Tiles that run at once, at most.
    pub batch_size: usize,
    /// What is recomputed.
    #[serde(rename = "grad_checkpoint")]
    pub policy: Policy,
    /// Share of the forward pass that is computed twice.
    pub recomputed: f64,
    /// Pixels that tiles read for each that they keep.
    pub read_share: f64,
}

impl TilePlan {
    /// The estimated time of a step, where one without margins and recomputation takes 1: a backward pass counts as two
    /// forward passes.
    pub fn time(&self) -> f64 {
        self.read_share * (1.0 + self.recomputed / STEP)
    }
}

impl fmt::Display for TilePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [height, width] = self.core;
        write!(
            f,
            "tiles of {height}×{width} pixels, {} at once, --grad-checkpoint {}",
            self.batch_size, self.policy
        )
    }
}

/// What a [`Reason`](crate::budget::Reason) is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TileSetting {
    /// The pixels that a tile keeps.
    Tile,
    /// Tiles at once.
    Batch,
    /// What is recomputed.
    GradCheckpoint,
}

impl fmt::Display for TileSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tile => "tile",
            Self::Batch => "tiles at once",
            Self::GradCheckpoint => "grad checkpoint",
        })
    }
}

/// Chooses the tiles of a [`TiledStep`](super::TiledStep), how many run at once, and what is recomputed.
///
/// The plan with the least [estimated time](TilePlan::time) within the budget: the pixels that tiles read for each that they
/// keep, times what recomputation adds. Of plans that take as long, the one with the largest tiles. Tiles keep at least twice
/// their margin, and at most 1024 pixels a side. More than one runs at once only while all together read less than 256×256
/// pixels, and they have one size.
///
/// # Exactness
/// Every plan gives the gradient of the whole image. [`plan`](Self::plan) is arithmetic alone, and predictions are
/// not exact: [`verify`](Self::verify) runs what was chosen.
///
/// # Example
/// ```
/// use burn_memopt::chunked::{TileCost, TilePlanner, TilePolicy};
/// use burn_memopt::grad_checkpoint::Policy;
/// use burn_memopt::memory::Bytes;
///
/// // 600 bytes a pixel as it is, 300 where every block is recomputed.
/// let cost = |bytes: f64| TileCost::new(Bytes::mib(1), bytes, 0.0);
/// let policies = [
///     TilePolicy::new(Policy::None, cost(600.0)),
///     TilePolicy::new(Policy::EveryBlock, cost(300.0)),
/// ];
/// let planner = TilePlanner::new(1, [2048, 2048], 44, 8);
/// let choice = planner.plan(Bytes::mib(512), &policies)?;
/// assert_eq!((choice.settings.core, choice.settings.policy), ([688, 688], Policy::None));
/// let choice = planner.plan(Bytes::mib(48), &policies)?;
/// assert_eq!((choice.settings.core, choice.settings.policy), ([296, 296], Policy::EveryBlock));
/// assert!(choice.reasons[0].why.contains("a margin of 48 reads"));
/// # Ok::<(), burn_memopt::budget::BudgetError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TilePlanner {
    num_images: usize,
    size: [usize; 2],
    halo: usize,
    stride: usize,
    core: Option<[usize; 2]>,
}

impl TilePlanner {
    /// Tiles for `num_images` images at once of `size`, height and width, for a model that reaches `halo` pixels far and starts
    /// at multiples of `stride`. Where images differ, take the largest height and width.
    ///
    /// # Panics
    /// If a number but `halo` is zero.
    pub fn new(num_images: usize, size: [usize; 2], halo: usize, stride: usize) -> Self {
        assert!(
            num_images.min(size[0]).min(size[1]).min(stride) > 0,
            "images, their sides and the stride must be at least 1, got {num_images} of {}×{} and \
             {stride}",
            size[0],
            size[1]
        );
        Self {
            num_images,
            size,
            halo,
            stride,
            core: None,
        }
    }

    /// Keeps the height and width of tiles, so that only their number at once and what is recomputed are chosen.
    #[must_use]
    pub fn with_core(mut self, core: [usize; 2]) -> Self {
        self.core = Some(core);
        self
    }

    /// Tiles that keep `core` pixels, one at a time.
    pub fn single(&self, core: [usize; 2], policy: &TilePolicy) -> TilePlan {
        TilePlan {
            core,
            batch_size: 1,
            policy: policy.policy,
            recomputed: policy.recomputed,
            read_share: read_share(&self.axes(core)),
        }
    }

    /// The largest batch of tiles of a plan.
    pub fn shape(&self, plan: &TilePlan) -> TileShape {
        TileShape::largest(
            plan.batch_size,
            self.size,
            plan.core,
            self.halo,
            self.stride,
        )
    }

    /// The plan with the least estimated time whose predicted peak stays within the budget.
    ///
    /// # Errors
    /// [`BudgetError`] with the least that would do.
    ///
    /// # Panics
    /// If there is no policy.
    pub fn plan(
        &self,
        budget: Bytes,
        policies: &[TilePolicy],
    ) -> Result<Choice<TilePlan, TileSetting>, BudgetError> {
        let plans = self.plans(policies);
        let bytes = |plan: &TilePlan| self.bytes(plan, policies);
        let ladder = Ladder::new(plans, bytes);
        let (plan, predicted_peak) = ladder.within(budget).map_err(|error| BudgetError {
            with: Some(ladder.lowest().0.to_string()),
            ..error
        })?;
        Ok(Choice {
            reasons: self.reasons(budget, plan, policies),
            settings: plan.clone(),
            predicted_peak,
        })
    }

    fn margin(&self) -> usize {
        self.halo.next_multiple_of(self.stride)
    }

    fn bytes(&self, plan: &TilePlan, policies: &[TilePolicy]) -> Bytes {
        let of_plan = |policy: &&TilePolicy| policy.policy == plan.policy;
        let policy = policies.iter().find(of_plan);
        let policy = policy.expect("invariant: plans are made of policies");
        policy.cost.bytes(&self.shape(plan))
    }

    /// What tiles may keep, the largest first.
    fn cores(&self) -> Vec<[usize; 2]> {
        if let Some(core) = self.core {
            return vec![core];
        }
        let [longest, shortest] = SIDES;
        let least = (2 * self.margin()).max(shortest.next_multiple_of(self.stride));
        let longest = longest.next_multiple_of(self.stride).max(least);
        let image = self.size[0].max(self.size[1]);
        // Tiles of equal size, as far as the stride allows.
        let core = |side: usize| {
            let equal = |len: usize| {
                let part = len.div_ceil(len.div_ceil(side));
                part.next_multiple_of(self.stride).max(least)
            };
            self.size.map(equal)
        };
        let [share, of] = NEXT_SIDE;
        let (mut cores, mut last) = (Vec::new(), usize::MAX / of);
        for parts in image.div_ceil(longest).. {
            let side = image.div_ceil(parts).next_multiple_of(self.stride);
            let side = side.clamp(least, longest);
            let is_least = side == least;
            if is_least || of * side <= share * last {
                cores.push(core(side));
                last = side;
            }
            if is_least {
                break;
            }
        }
        cores.dedup();
        cores
    }

    fn axes(&self, core: [usize; 2]) -> [Vec<Tile>; 2] {
        [0, 1].map(|side| side_tiles(self.size[side], core[side], self.halo, self.stride))
    }

    /// Every plan, the one that takes least time first.
    fn plans(&self, policies: &[TilePolicy]) -> Vec<TilePlan> {
        let mut plans = Vec::new();
        for core in self.cores() {
            let axes = self.axes(core);
            let read_share = read_share(&axes);
            let most = most_alike(self.num_images, &axes);
            for policy in policies {
                let plan = |batch_size: usize| TilePlan {
                    core,
                    batch_size,
                    policy: policy.policy,
                    recomputed: policy.recomputed,
                    read_share,
                };
                let [height, width] = self.shape(&plan(1)).read();
                let mut batch_size = (BUSY / (height * width)).clamp(1, most);
                while batch_size > 0 {
                    plans.push(plan(batch_size));
                    batch_size /= 2;
                }
            }
        }
        plans.sort_by(|one, other| {
            let size = |plan: &TilePlan| (plan.core[0] * plan.core[1], plan.batch_size);
            let [larger, smaller] = [one, other].map(|plan| Reverse(size(plan)));
            one.time()
                .total_cmp(&other.time())
                .then(larger.cmp(&smaller))
        });
        plans
    }
}
