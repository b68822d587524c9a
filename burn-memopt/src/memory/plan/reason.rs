use std::fmt;

use serde::{Deserialize, Serialize};

use super::Request;
use super::technique::Pass;
use super::way::Way;
use crate::grad_checkpoint::Policy;
use crate::memory::Bytes;

/// What a [`Reason`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// What the model computes in.
    Precision,
    /// What is recomputed.
    GradCheckpoint,
    /// How the batch is split.
    MicroBatch,
    /// How the image is split.
    Tile,
}

/// A setting and why it was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// What was chosen.
    pub setting: Setting,
    /// The choice.
    pub value: String,
    /// Why not another.
    pub why: String,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Precision => "precision",
            Self::GradCheckpoint => "grad checkpoint",
            Self::MicroBatch => "micro-batch",
            Self::Tile => "tile",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<16} {:<18} {}", self.setting, self.value, self.why)
    }
}

/// Why `chosen` is what it is, told by the least that the cheaper ways would need.
pub(super) fn reasons(
    request: &Request,
    ways: &[Way<'_>],
    chosen: &Way<'_>,
    pass: &Pass,
) -> Vec<Reason> {
    let least = |is_meant: &dyn Fn(&Way<'_>) -> bool| {
        let meant = ways.iter().filter(|way| is_meant(way));
        meant.map(|way| way.least(request)).min()
    };
    let mut reasons = vec![
        Reason {
            setting: Setting::Precision,
            value: chosen.technique.precision().to_string(),
            why: precision(request, chosen, &least),
        },
        Reason {
            setting: Setting::MicroBatch,
            value: format!(
                "{} × {}",
                chosen.micro_batch_size, chosen.accumulation_steps
            ),
            why: micro_batch(request, chosen, &least),
        },
    ];
    if request.is_training {
        let reason = Reason {
            setting: Setting::GradCheckpoint,
            value: match pass.policy {
                Policy::Budget(bytes) => format!("budget={bytes}").replace(' ', ""),
                policy => policy.to_string(),
            },
            why: recomputation(chosen, pass, &least),
        };
        reasons.insert(1, reason);
    }
    if request.tile.is_some() || chosen.tile != request.size {
        reasons.push(Reason {
            setting: Setting::Tile,
            value: format!("{}×{}", chosen.tile[0], chosen.tile[1]),
            why: tile(request, chosen, &least),
        });
    }
    reasons
}

/// The least bytes of the ways that are meant.
type Least<'a> = dyn Fn(&dyn Fn(&Way<'_>) -> bool) -> Option<Bytes> + 'a;

fn needs(least: Option<Bytes>, what: &str) -> String {
    match least {
        Some(least) => format!("{what} would need at least {least}"),
        None => format!("{what} was not asked for"),
    }
}

fn precision(request: &Request, chosen: &Way<'_>, least: &Least<'_>) -> String {
    if !chosen.is_half() {
        return "full precision stays within the budget".into();
    }
    let in_full = least(&|way| !way.is_half() && (!request.is_training || way.tile == chosen.tile));
    needs(in_full, "f32")
}

fn recomputation(chosen: &Way<'_>, pass: &Pass, least: &Least<'_>) -> String {
    if !chosen.technique.recomputes() {
        return "everything may be kept: no time is lost".into();
    }
    let plain = least(&|way| {
        !way.technique.recomputes()
            && way.is_half() == chosen.is_half()
            && way.micro_batch_size == chosen.micro_batch_size
            && way.tile == chosen.tile
    });
    let share = 100.0 * pass.recomputed;
    format!(
        "{share:.0} % of the forward pass again; {}",
        needs(plain, "keeping all")
    )
}

fn micro_batch(request: &Request, chosen: &Way<'_>, least: &Least<'_>) -> String {
    if chosen.accumulation_steps == 1 {
        return "the whole batch at once fits".into();
    }
    let larger = least(&|way| {
        way.micro_batch_size > chosen.micro_batch_size
            && way.is_half() == chosen.is_half()
            && way.tile == chosen.tile
            && (way.technique.recomputes() == chosen.technique.recomputes())
    });
    let exact = match (request.is_training, request.has_batch_statistics) {
        (true, true) => "batch statistics are per micro-batch; ",
        (true, false) => "the step stays the same; ",
        (false, _) => "",
    };
    format!("{exact}{}", needs(larger, "more at once"))
}

fn tile(request: &Request, chosen: &Way<'_>, least: &Least<'_>) -> String {
    if chosen.tile == request.size {
        return "the whole image fits".into();
    }
    let whole = least(&|way| way.tile == request.size && way.is_half() == chosen.is_half());
    needs(whole, "the whole image")
}
