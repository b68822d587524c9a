//! Training steps and inference: which precision, what is recomputed, how many items at once, and in
//! which parts of an image.
//!
//! Pure.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{BudgetError, Choice, Ladder, Reason, budget_for};
use crate::grad_checkpoint::{Plan, Policy};
use crate::memory::Bytes;
use crate::memory::estimate::{BlockFit, PeakFit, Workload};
use crate::precision::Precision;

/// A batch of images to compute within a budget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The most that may be live.
    pub budget: Bytes,
    /// Images of a step, or to compute results for. In a video, frames: a micro-batch is then a
    /// sub-video.
    pub batch_size: usize,
    /// Height and width of an image.
    pub size: [usize; 2],
    /// Whether gradients are computed.
    pub is_training: bool,
    /// What is live between two steps and counts against the budget: parameters and the optimizer's
    /// state. The default is nothing, so that the budget is the step's alone.
    pub resident: Bytes,
    /// What a second micro-batch adds: one set of gradients in f32, which waits while the next is
    /// computed. The default is nothing.
    pub gradients: Bytes,
    /// Whether a layer normalises over the batch. Micro-batches are not exact then, and come after
    /// recomputation. The default is `false`.
    pub has_batch_statistics: bool,
    /// How images may be cut. The default is that they stay whole.
    pub tile: Option<TileSize>,
    /// The most that [`verify`](super::verify) may take to find out the least possible budget: at most
    /// what is free. The default is nothing, so that the least is a prediction.
    pub trial_limit: Bytes,
}

/// Which parts an image may be cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileSize {
    /// The shortest side in pixels that is still of use.
    pub least: usize,
    /// What sides are multiples of, in pixels.
    pub multiple: usize,
}

impl Request {
    /// Optimizer steps on `batch_size` images of `size`, height and width, that take at most `budget`.
    ///
    /// However it is split into micro-batches, a step sees this many images.
    ///
    /// # Panics
    /// If the batch or a side is zero.
    pub fn training(budget: Bytes, batch_size: usize, size: [usize; 2]) -> Self {
        let [height, width] = size;
        assert!(
            batch_size.min(height).min(width) > 0,
            "batch and sides must be at least 1, got {batch_size} images of {height}×{width}"
        );
        Self {
            budget,
            batch_size,
            size,
            is_training: true,
            resident: Bytes::ZERO,
            gradients: Bytes::ZERO,
            has_batch_statistics: false,
            tile: None,
            trial_limit: Bytes::ZERO,
        }
    }

    /// Results for `batch_size` images.
    ///
    /// # Panics
    /// As [`training`](Self::training).
    pub fn inference(budget: Bytes, batch_size: usize, size: [usize; 2]) -> Self {
        Self {
            is_training: false,
            ..Self::training(budget, batch_size, size)
        }
    }

    /// The whole batch at once.
    pub fn workload(&self) -> Workload {
        Workload::new(self.batch_size, self.size)
    }

    /// The micro-batches that are possible and how many of them make the batch, largest first.
    fn micro_batches(&self) -> Vec<(usize, usize)> {
        let mut splits: Vec<(usize, usize)> = Vec::new();
        for steps in 1..=self.batch_size {
            let micro = self.batch_size.div_ceil(steps);
            let is_new = splits.last().is_none_or(|&(last, _)| micro < last);
            // Two flags cannot describe a step of unequal micro-batches; results need no equal ones.
            if is_new && (self.batch_size.is_multiple_of(steps) || !self.is_training) {
                splits.push((micro, steps));
            }
        }
        splits
    }

    /// The whole image, then smaller and smaller parts of it.
    fn tiles(&self) -> Vec<[usize; 2]> {
        let mut tiles = vec![self.size];
        let Some(TileSize { least, multiple }) = self.tile else {
            return tiles;
        };
        assert!(
            least.min(multiple) > 0,
            "sides of a tile must be at least 1, got {least} and multiples of {multiple}"
        );
        let longest = self.size[0].max(self.size[1]);
        for parts in 2.. {
            let side = longest.div_ceil(parts).next_multiple_of(multiple);
            if side < least || longest.div_ceil(parts) < multiple {
                break;
            }
            let tile = self.size.map(|whole| whole.min(side));
            if tiles.last() != Some(&tile) {
                tiles.push(tile);
            }
        }
        tiles
    }

    /// What is live while one of `accumulation_steps` micro-batches is computed, without the pass itself.
    pub(super) fn held(&self, accumulation_steps: usize) -> Bytes {
        self.resident + self.waiting(accumulation_steps)
    }

    /// The gradients that wait for those of other micro-batches.
    pub(super) fn waiting(&self, accumulation_steps: usize) -> Bytes {
        if self.is_training && accumulation_steps > 1 {
            self.gradients
        } else {
            Bytes::ZERO
        }
    }

    /// Every way to compute the batch, the cheapest first.
    fn ladder(&self, techniques: &[Technique]) -> Ladder<StepSettings> {
        let mut rungs = Vec::new();
        for tile in self.tiles() {
            for (micro_batch_size, accumulation_steps) in self.micro_batches() {
                let workload = Workload::new(micro_batch_size, tile);
                let held = self.held(accumulation_steps);
                for (index, technique) in techniques.iter().enumerate() {
                    let passes = technique.passes(workload).into_iter();
                    rungs.extend(passes.map(|pass| {
                        let settings = StepSettings {
                            precision: technique.precision,
                            policy: pass.policy,
                            cut: pass.cut,
                            micro_batch_size,
                            accumulation_steps,
                            tile,
                            recomputed: pass.recomputed,
                            technique: index,
                        };
                        (settings, held + pass.peak)
                    }));
                }
            }
        }
        rungs.sort_by(|(one, _), (other, _)| one.compare_cost(other, self));
        Ladder::with_peaks(rungs)
    }
}

/// A way to compute a step, with what it takes as a function of the workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Technique {
    precision: Precision,
    cost: Cost,
    /// Measured peaks as a multiple of predicted ones.
    pub(super) correction: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Cost {
    Whole { policy: Policy, fit: PeakFit },
    Cut { blocks: BlockFit, rest: PeakFit },
}

/// How a technique may compute a workload.
pub(super) struct Pass {
    policy: Policy,
    pub(super) cut: Option<Plan>,
    recomputed: f64,
    /// Bytes above those that were live before.
    pub(super) peak: Bytes,
}

impl Technique {
    /// A precision and a policy with the peaks fitted to their runs.
    ///
    /// # Panics
    /// If the policy is the least or a budget: see [`cut`](Self::cut).
    pub fn whole(precision: Precision, policy: Policy, fit: PeakFit) -> Self {
        assert!(
            !matches!(policy, Policy::Least | Policy::Budget(_)),
            "policy must say where to cut, got {policy}"
        );
        Self {
            precision,
            cost: Cost::Whole { policy, fit },
            correction: 1.0,
        }
    }

    /// A chain that is recomputed only as much as the budget needs.
    ///
    /// `every_block` are the peaks of real steps in which every block was recomputed. What they take
    /// above the predicted peak of the chain (the loss, the accumulated gradients, the step of the
    /// optimizer) is added to every prediction.
    ///
    /// # Panics
    /// If no two workloads of `every_block` differ in pixels.
    pub fn cut(
        precision: Precision,
        blocks: BlockFit,
        every_block: impl IntoIterator<Item = (Workload, Bytes)>,
    ) -> Self {
        let rest = |(workload, measured): (Workload, Bytes)| {
            let chain = Policy::EveryBlock.plan(&blocks.at(workload));
            let chain = chain.expect("invariant: only a budget may be too small");
            (workload, measured - chain.predicted_peak)
        };
        let rest = PeakFit::new(every_block.into_iter().map(rest));
        Self {
            precision,
            cost: Cost::Cut { blocks, rest },
            correction: 1.0,
        }
    }

    /// The ways to compute a workload, the one with the least recomputation first.
    pub(super) fn passes(&self, workload: Workload) -> Vec<Pass> {
        match &self.cost {
            Cost::Whole { policy, fit } => vec![Pass {
                policy: *policy,
                cut: None,
                recomputed: recomputed_by(*policy),
                peak: self.corrected(fit.at(workload)),
            }],
            Cost::Cut { blocks, rest } => {
                let rest = rest.at(workload);
                let plans = Plan::worth_having(&blocks.at(workload)).into_iter();
                let pass = |plan: Plan| Pass {
                    policy: Policy::Budget(plan.predicted_peak),
                    recomputed: plan.recomputed,
                    peak: self.corrected(rest + plan.predicted_peak),
                    cut: Some(plan),
                };
                plans.map(pass).collect()
            }
        }
    }

    fn corrected(&self, bytes: Bytes) -> Bytes {
        Bytes::new((bytes.get() as f64 * self.correction).ceil() as u64)
    }
}

/// The share of a chain of many equal blocks.
fn recomputed_by(policy: Policy) -> f64 {
    match policy {
        Policy::None => 0.0,
        Policy::Segments(number) => 1.0 - 1.0 / number.max(1) as f64,
        Policy::EveryBlock | Policy::Least | Policy::Budget(_) => 1.0,
    }
}

/// How a batch is computed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepSettings {
    /// What the model computes in.
    pub precision: Precision,
    /// What is recomputed. A budget is that of one forward and backward pass.
    #[serde(rename = "grad_checkpoint")]
    pub policy: Policy,
    /// Where a chain is cut to keep that budget.
    #[serde(skip)]
    pub cut: Option<Plan>,
    /// Images in one pass.
    pub micro_batch_size: usize,
    /// Passes that make one step, or the whole batch of results.
    pub accumulation_steps: usize,
    /// Height and width of what is computed at once: the image, or a part of it.
    pub tile: [usize; 2],
    /// Share of the forward pass that is computed twice.
    pub recomputed: f64,
    /// Index of its technique.
    #[serde(skip)]
    pub(super) technique: usize,
}

impl StepSettings {
    /// What one pass runs on.
    pub fn workload(&self) -> Workload {
        Workload::new(self.micro_batch_size, self.tile)
    }

    /// Where to cut a chain: the [cut](Self::cut), else by the [policy](Self::policy).
    pub fn cut_or_policy(&self) -> crate::grad_checkpoint::Cut {
        match &self.cut {
            Some(plan) => plan.into(),
            None => self.policy.into(),
        }
    }

    /// Compares what both cost: results that differ first, then time.
    ///
    /// Training on parts of images is another training; in inference it only takes time. Half
    /// precision is next. Micro-batches are exact unless a layer normalises over the batch, so only
    /// then they come before the share that is recomputed.
    pub(super) fn compare_cost(&self, other: &Self, request: &Request) -> Ordering {
        let cost = |settings: &Self| {
            let along = |axis: usize| request.size[axis].div_ceil(settings.tile[axis].max(1));
            let (parts, precision) = (along(0) * along(1), usize::from(settings.is_half()));
            let in_order = if request.is_training {
                [parts, precision]
            } else {
                [precision, parts]
            };
            let splits_statistics = request.is_training
                && request.has_batch_statistics
                && settings.accumulation_steps > 1;
            (in_order, splits_statistics)
        };
        cost(self)
            .cmp(&cost(other))
            .then(self.recomputed.total_cmp(&other.recomputed))
            .then(self.accumulation_steps.cmp(&other.accumulation_steps))
    }

    /// Whether both compute the same in the same way.
    pub(super) fn runs_as(&self, other: &Self) -> bool {
        let spans = |settings: &Self| settings.cut.as_ref().map(|cut| cut.spans.clone());
        self.technique == other.technique
            && self.workload() == other.workload()
            && self.accumulation_steps == other.accumulation_steps
            && spans(self) == spans(other)
    }

    fn is_half(&self) -> bool {
        self.precision != Precision::F32
    }

    fn recomputes(&self) -> bool {
        self.policy != Policy::None
    }
}

/// What a [`Reason`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StepSetting {
    /// What the model computes in.
    Precision,
    /// What is recomputed.
    GradCheckpoint,
    /// How the batch is split.
    MicroBatch,
    /// How the image is split.
    Tile,
}

impl fmt::Display for StepSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Precision => "precision",
            Self::GradCheckpoint => "grad checkpoint",
            Self::MicroBatch => "micro-batch",
            Self::Tile => "tile",
        })
    }
}

/// The cheapest way that `techniques` allow whose predicted peak stays within the budget.
///
/// What costs least comes first. Training: nothing; micro-batches, which are exact unless a layer
/// normalises over the batch; recomputing, which is exact and takes time; half precision; parts of the
/// image. With batch statistics, recomputing comes before micro-batches. Inference: nothing; fewer
/// images at a time; tiles; half precision. A larger budget never costs more.
///
/// This is arithmetic alone: [`verify`](super::verify) also runs what it chooses.
///
/// # Errors
/// [`BudgetError`] with the least that would do.
///
/// # Panics
/// If there is no technique.
pub fn choose(
    request: &Request,
    techniques: &[Technique],
) -> Result<Choice<StepSettings, StepSetting>, BudgetError> {
    let ladder = request.ladder(techniques);
    let (settings, predicted_peak) = ladder.within(request.budget)?;
    let mut settings = settings.clone();
    if let Some(cut) = &settings.cut {
        // What is left of the budget, before the prediction was corrected.
        let left = (request.budget - predicted_peak).get() as f64;
        let left = Bytes::new((left / techniques[settings.technique].correction) as u64);
        settings.policy = Policy::Budget(chain_budget(cut.predicted_peak, left));
    }
    Ok(Choice {
        reasons: reasons(request, &ladder, &settings),
        settings,
        predicted_peak,
    })
}

/// The budget with which [`Chain::plan`](crate::grad_checkpoint::Chain::plan) finds a cut again that is
/// predicted to take `peak`: one percent more for what it leaves free, and one for a profile that
/// differs. Never more than `left` allows.
fn chain_budget(peak: Bytes, left: Bytes) -> Bytes {
    (peak + Bytes::new(peak.get() / 50)).min(budget_for(peak + left))
}

fn reasons(
    request: &Request,
    ladder: &Ladder<StepSettings>,
    chosen: &StepSettings,
) -> Vec<Reason<StepSetting>> {
    let is_alike = |settings: &StepSettings| {
        settings.is_half() == chosen.is_half() && settings.tile == chosen.tile
    };
    let mut reasons = vec![Reason {
        setting: StepSetting::Precision,
        value: chosen.precision.to_string(),
        why: if chosen.is_half() {
            ladder.why_not("f32", |settings| {
                !settings.is_half() && (!request.is_training || settings.tile == chosen.tile)
            })
        } else {
            "full precision stays within the budget".into()
        },
    }];
    if request.is_training {
        reasons.push(Reason {
            setting: StepSetting::GradCheckpoint,
            value: match chosen.policy {
                Policy::Budget(bytes) => format!("budget={bytes}").replace(' ', ""),
                policy => policy.to_string(),
            },
            why: if chosen.recomputes() {
                let why_not = ladder.why_not("keeping all", |settings| {
                    !settings.recomputes()
                        && is_alike(settings)
                        && settings.micro_batch_size == chosen.micro_batch_size
                });
                let percent = 100.0 * chosen.recomputed;
                format!("{percent:.0} % of the forward pass again; {why_not}")
            } else {
                "everything may be kept: no time is lost".into()
            },
        });
    }
    reasons.push(Reason {
        setting: StepSetting::MicroBatch,
        value: format!(
            "{} × {}",
            chosen.micro_batch_size, chosen.accumulation_steps
        ),
        why: if chosen.accumulation_steps == 1 {
            "the whole batch at once fits".into()
        } else {
            let why_not = ladder.why_not("more at once", |settings| {
                settings.micro_batch_size > chosen.micro_batch_size
                    && is_alike(settings)
                    && settings.recomputes() == chosen.recomputes()
            });
            let effect = match (request.is_training, request.has_batch_statistics) {
                (true, true) => "batch statistics are per micro-batch; ",
                (true, false) => "the step stays the same; ",
                (false, _) => "",
            };
            format!("{effect}{why_not}")
        },
    });
    if request.tile.is_some() {
        reasons.push(Reason {
            setting: StepSetting::Tile,
            value: format!("{}×{}", chosen.tile[0], chosen.tile[1]),
            why: if chosen.tile == request.size {
                "the whole image fits".into()
            } else {
                ladder.why_not("the whole image", |settings| {
                    settings.tile == request.size && settings.is_half() == chosen.is_half()
                })
            },
        });
    }
    reasons
}
