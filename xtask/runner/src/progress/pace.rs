//! How fast something goes on.

use std::collections::VecDeque;
use std::time::Duration;

/// Steps that items per second and the time left are measured over.
const WINDOW_STEPS: usize = 20;

/// The last steps' times, for rates that follow the present.
#[derive(Default)]
pub(crate) struct Pace {
    /// Time since the start and items since the start, at the end of each step.
    marks: VecDeque<(Duration, u64)>,
    items: u64,
}

impl Pace {
    /// Notes that items were done at this time since the start.
    pub(crate) fn record(&mut self, at: Duration, items: u64) {
        self.items += items;
        self.marks.push_back((at, self.items));
        if self.marks.len() > WINDOW_STEPS + 1 {
            self.marks.pop_front();
        }
    }

    /// Seconds and items between the first and the last mark. The first step is
    /// never part of it: it compiles kernels and fills pools.
    fn window(&self) -> Option<(f64, u64)> {
        let (first, last) = (self.marks.front()?, self.marks.back()?);
        let seconds = (last.0 - first.0).as_secs_f64();
        (seconds > 0.0).then_some((seconds, last.1 - first.1))
    }

    /// Items in a second; `None` until there is something to tell it from.
    pub(crate) fn items_per_second(&self) -> Option<f64> {
        self.window().map(|(seconds, items)| items as f64 / seconds)
    }

    /// Seconds from one mark to the next.
    pub(crate) fn seconds_a_step(&self) -> Option<f64> {
        self.window()
            .map(|(seconds, _)| seconds / (self.marks.len() - 1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_leave_the_first_step_out_and_follow_the_present() {
        let mut pace = Pace::default();
        pace.record(Duration::from_secs(100), 4);
        assert_eq!(
            (pace.items_per_second(), pace.seconds_a_step()),
            (None, None)
        );
        for step in 1..=30 {
            pace.record(Duration::from_secs(100 + 2 * step), 4);
        }
        assert_eq!(
            (pace.items_per_second(), pace.seconds_a_step()),
            (Some(2.0), Some(2.0))
        );
    }
}
