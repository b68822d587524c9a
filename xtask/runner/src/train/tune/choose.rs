//! Which way to make steps is chosen, from what earlier runs took or by measuring.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use burn_memopt::memory::Bytes;
use xtask::cli::values::Words;

use super::{Cost, TUNED, Way};
use crate::settings::{RunSettings, UsageError};

/// Another way than the default has to take less than this share of its time: measurements vary.
const LEAST_GAIN: f64 = 0.9;
/// The share of the free memory that a step may take.
const USABLE: f64 = 0.9;
/// The share of the free memory that items may take that wait for their step.
const WAITING: u64 = 4;

/// The median time and the highest peak of each way.
pub(super) fn summary<'a>(costs: impl Iterator<Item = &'a Cost>) -> Vec<Cost> {
    let mut by_way: BTreeMap<&Way, Vec<&Cost>> = BTreeMap::new();
    for cost in costs {
        by_way.entry(&cost.way).or_default().push(cost);
    }
    let summed = |(way, costs): (&Way, Vec<&Cost>)| {
        let mut seconds: Vec<_> = costs.iter().map(|cost| cost.seconds_per_step).collect();
        seconds.sort_by(f64::total_cmp);
        let peaks = costs.iter().map(|cost| cost.peak_bytes);
        Cost {
            way: way.clone(),
            peak_bytes: peaks.max().unwrap_or_default(),
            seconds_per_step: seconds[seconds.len() / 2],
        }
    };
    by_way.into_iter().map(summed).collect()
}

/// What a way is chosen from.
pub(super) struct Chooser<'a> {
    pub(super) default: Way,
    pub(super) given: &'a Words,
    /// Whether other micro-batches would learn something else.
    pub(super) keeps_parts: bool,
    /// Whether blocks may be recomputed.
    pub(super) recomputes: bool,
    pub(super) free: Option<Bytes>,
    pub(super) costs: Vec<Cost>,
}

impl Chooser<'_> {
    pub(super) fn choose(
        &self,
        run: &RunSettings,
        mut measure: impl FnMut(&RunSettings) -> Result<Option<Bytes>>,
    ) -> Result<(Way, String)> {
        let default = self.with_waiting(self.default.clone())?;
        let fits = |peak: u64| match self.free {
            Some(free) => peak as f64 <= USABLE * free.get() as f64,
            None => true,
        };
        let allowed = self.costs.iter().filter(|cost| self.is_allowed(&cost.way));
        let fitting = allowed.filter(|cost| fits(cost.peak_bytes));
        let fastest =
            fitting.min_by(|one, other| one.seconds_per_step.total_cmp(&other.seconds_per_step));
        let own = self.costs.iter().find(|cost| cost.way == default);
        match (own, fastest) {
            (Some(own), Some(fastest)) if fits(own.peak_bytes) => {
                let share = fastest.seconds_per_step / own.seconds_per_step;
                if share >= LEAST_GAIN {
                    let reason = "no other way of earlier runs takes less than 0.9 of its time";
                    return Ok((default, reason.into()));
                }
                let reason = format!("{share:.2} of the default's time in earlier runs");
                Ok((fastest.way.clone(), reason))
            }
            (Some(own), Some(fastest)) => {
                let peak = Bytes::new(own.peak_bytes);
                let reason = format!("the fastest that fits; the default took {peak}");
                Ok((fastest.way.clone(), reason))
            }
            _ => self.by_measuring(default, fits, |way| {
                let mut run = run.clone();
                way.clone().apply(&mut run);
                measure(&run)
            }),
        }
    }

    /// The default, or what takes less memory, step by step, until it fits.
    fn by_measuring(
        &self,
        default: Way,
        fits: impl Fn(u64) -> bool,
        mut measure: impl FnMut(&Way) -> Result<Option<Bytes>>,
    ) -> Result<(Way, String)> {
        let items = default.batch_size * default.accumulation_steps;
        let mut ways = vec![default.clone()];
        let mut small = default;
        if self.recomputes {
            small.grad_checkpoint = "block".into();
            ways.push(small.clone());
        }
        let sizes = (1..small.batch_size).rev();
        ways.extend(
            sizes
                .filter(|size| items.is_multiple_of(*size))
                .map(|size| Way {
                    batch_size: size,
                    accumulation_steps: items / size,
                    ..small.clone()
                }),
        );
        let mut least = None;
        for (number, way) in ways
            .into_iter()
            .filter(|way| self.is_allowed(way))
            .enumerate()
        {
            let Some(peak) = measure(&way)? else {
                return Ok((
                    way,
                    "no earlier run, and the device reports no memory".into(),
                ));
            };
            if fits(peak.get()) {
                let reason = match number {
                    0 => format!("the default: no earlier run, and its step takes {peak}"),
                    _ => format!("no earlier run; the first that fits, its step takes {peak}"),
                };
                return Ok((way, reason));
            }
            least = Some(peak);
        }
        bail!(UsageError(format!(
            "--auto-tune: no way fits; the last one takes {}, and {} are free",
            least.unwrap_or_default(),
            self.free.unwrap_or_default(),
        )))
    }

    /// Whether a way keeps what is given, and what is learned.
    fn is_allowed(&self, way: &Way) -> bool {
        let (words, default) = (way.words(), self.default.words());
        let keeps = |name: &str| words.get(name) == default.get(name);
        let kept = TUNED.iter().filter(|name| self.given.contains_key(**name));
        kept.copied().all(keeps) && (!self.keeps_parts || keeps("batch_size"))
    }

    /// The way with no more items that wait than memory allows.
    fn with_waiting(&self, mut way: Way) -> Result<Way> {
        let prefetch = way.prefetch.parse::<Bytes>();
        let prefetch = prefetch.map_err(|why| UsageError(format!("--prefetch: {why}")))?;
        let most = self.free.map(|free| Bytes::new(free.get() / WAITING));
        if let Some(most) =
            most.filter(|most| *most < prefetch && !self.given.contains_key("prefetch"))
        {
            way.prefetch = format!("{}B", most.get());
        }
        Ok(way)
    }
}
