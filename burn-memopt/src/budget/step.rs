//! How the batch of a step is computed: in which precision, what is recomputed, how many items at once,
//! and in which parts of an image.
//!
//! Pure.

use std::cmp::Ordering;
use std::fmt;

use serde::Serialize;

use super::request::Request;
use super::technique::Technique;
use super::{BudgetError, Choice, Ladder, Reason, budget_for};
use crate::grad_checkpoint::{Cut, Plan, Policy};
use crate::memory::Bytes;
use crate::memory::estimate::Workload;
use crate::precision::Precision;

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
    pub fn cut_or_policy(&self) -> Cut {
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

    /// Whether both compute in half precision or neither, on tiles of one size.
    fn is_like(&self, other: &Self) -> bool {
        self.is_half() == other.is_half() && self.tile == other.tile
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
    let precision = if chosen.is_half() {
        ladder.why_not("f32", |other| {
            !other.is_half() && (!request.is_training || other.tile == chosen.tile)
        })
    } else {
        "full precision stays within the budget".into()
    };
    let tile = if chosen.tile == request.size {
        "the whole image fits".into()
    } else {
        ladder.why_not("the whole image", |other| {
            other.tile == request.size && other.is_half() == chosen.is_half()
        })
    };
    let policy = match chosen.policy {
        Policy::Budget(bytes) => format!("budget={bytes}").replace(' ', ""),
        policy => policy.to_string(),
    };
    let parts = format!(
        "{} × {}",
        chosen.micro_batch_size, chosen.accumulation_steps
    );
    let size = format!("{}×{}", chosen.tile[0], chosen.tile[1]);
    let mut reasons = vec![
        (
            StepSetting::Precision,
            chosen.precision.to_string(),
            precision,
        ),
        (
            StepSetting::GradCheckpoint,
            policy,
            why_recomputation(ladder, chosen),
        ),
        (
            StepSetting::MicroBatch,
            parts,
            why_micro_batch(request, ladder, chosen),
        ),
        (StepSetting::Tile, size, tile),
    ];
    reasons.retain(|(setting, ..)| match setting {
        StepSetting::GradCheckpoint => request.is_training,
        StepSetting::Tile => request.tile.is_some(),
        _ => true,
    });
    let reason = |(setting, value, why)| Reason {
        setting,
        value,
        why,
    };
    reasons.into_iter().map(reason).collect()
}

fn why_recomputation(ladder: &Ladder<StepSettings>, chosen: &StepSettings) -> String {
    if chosen.recomputes() {
        let why_not = ladder.why_not("keeping all", |other| {
            !other.recomputes()
                && other.is_like(chosen)
                && other.micro_batch_size == chosen.micro_batch_size
        });
        let percent = 100.0 * chosen.recomputed;
        format!("{percent:.0} % of the forward pass again; {why_not}")
    } else {
        "everything may be kept: no time is lost".into()
    }
}

fn why_micro_batch(
    request: &Request,
    ladder: &Ladder<StepSettings>,
    chosen: &StepSettings,
) -> String {
    if chosen.accumulation_steps == 1 {
        "the whole batch at once fits".into()
    } else {
        let why_not = ladder.why_not("more at once", |other| {
            other.micro_batch_size > chosen.micro_batch_size
                && other.is_like(chosen)
                && other.recomputes() == chosen.recomputes()
        });
        let effect = match (request.is_training, request.has_batch_statistics) {
            (true, true) => "batch statistics are per micro-batch; ",
            (true, false) => "the step stays the same; ",
            (false, _) => "",
        };
        format!("{effect}{why_not}")
    }
}
