//! Why tiles are planned as they are.

use super::super::batches::most_alike;
use super::super::images::read_share;
use super::{BUSY, TilePlan, TilePlanner, TilePolicy, TileSetting};
use crate::budget::{Ladder, Reason};
use crate::memory::Bytes;

impl TilePlanner {
    pub(super) fn reasons(
        &self,
        budget: Bytes,
        chosen: &TilePlan,
        policies: &[TilePolicy],
    ) -> Vec<Reason<TileSetting>> {
        let reason = |setting, value, why| Reason {
            setting,
            value,
            why,
        };
        let [height, width] = chosen.core;
        vec![
            reason(
                TileSetting::Tile,
                format!("{height}×{width}"),
                self.why_tile(chosen, policies),
            ),
            reason(
                TileSetting::Batch,
                chosen.batch_size.to_string(),
                self.why_batch(chosen, policies),
            ),
            reason(
                TileSetting::GradCheckpoint,
                chosen.policy.to_string(),
                self.why_policy(budget, chosen, policies),
            ),
        ]
    }

    fn why_tile(&self, chosen: &TilePlan, policies: &[TilePolicy]) -> String {
        let share = chosen.read_share;
        let margin = self.margin();
        let own = match share > 1.0 {
            true => format!("a margin of {margin} reads {share:.2} pixels for each kept"),
            false => "nothing is read twice".into(),
        };
        if self.core.is_some() {
            return format!("given; {own}");
        }
        let cores = self.cores();
        let position = cores.iter().position(|core| *core == chosen.core);
        let Some(larger) = position.and_then(|position| cores.get(position.checked_sub(1)?)) else {
            return match share > 1.0 {
                true => format!("{own}; the largest of all"),
                false => own,
            };
        };
        let larger = TilePlan {
            core: *larger,
            batch_size: 1,
            read_share: read_share(&self.axes(*larger)),
            ..chosen.clone()
        };
        let [height, width] = larger.core;
        format!(
            "{own}; {height}×{width} would read {:.2}, but need {}",
            larger.read_share,
            self.bytes(&larger, policies)
        )
    }

    fn why_batch(&self, chosen: &TilePlan, policies: &[TilePolicy]) -> String {
        let [height, width] = self.shape(chosen).read();
        let enough = BUSY / (height * width);
        let most = most_alike(self.num_images, &self.axes(chosen.core));
        if chosen.batch_size >= enough {
            return format!(
                "{height}×{width} pixels are read for each, enough to keep a device busy"
            );
        }
        if chosen.batch_size == most {
            return "there are no more of one size".into();
        }
        let more = TilePlan {
            batch_size: enough.min(most),
            ..chosen.clone()
        };
        let needed = self.bytes(&more, policies);
        format!("{} at once would need {needed}", more.batch_size)
    }

    fn why_policy(&self, budget: Bytes, chosen: &TilePlan, policies: &[TilePolicy]) -> String {
        if policies.len() == 1 {
            return "given".into();
        }
        let others: Vec<_> = policies
            .iter()
            .filter(|policy| policy.policy != chosen.policy)
            .cloned()
            .collect();
        let other = Ladder::new(self.plans(&others), |plan| self.bytes(plan, &others));
        let percent = |plan: &TilePlan| 100.0 * plan.recomputed;
        let own = match chosen.recomputed > 0.0 {
            true => format!("{:.0} % of the forward pass again; ", percent(chosen)),
            false => String::new(),
        };
        let Ok((best, _)) = other.within(budget) else {
            let (plan, least) = other.lowest();
            return format!(
                "{own}--grad-checkpoint {} would need at least {least}",
                plan.policy
            );
        };
        let [height, width] = best.core;
        let cost = match best.recomputed > 0.0 {
            true => format!(
                " and computes {:.0} % of the forward pass again",
                percent(best)
            ),
            false => String::new(),
        };
        format!(
            "{own}--grad-checkpoint {} has room for {height}×{width}, which reads {:.2} pixels for each \
             kept{cost}: {:.2} of the time",
            best.policy,
            best.read_share,
            best.time() / chosen.time()
        )
    }
}
