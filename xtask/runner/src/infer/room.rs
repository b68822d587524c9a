//! How large a window the memory allows.

use anyhow::{Result, bail};
use burn::tensor::{Device, Tensor};
use burn_memopt::budget::TOLERANCE;
use burn_memopt::chunked::WindowCost;
use burn_memopt::memory::{Bytes, PeakMeter, free_on, live_on};

use super::model::Trained;
use crate::settings::{InferSettings, budget};

/// The largest side of a window that is chosen, in pixels: so that a large image has rows of windows, of
/// which those that are done are kept when the run is interrupted.
const LARGEST: usize = 1024;
/// The smallest side that is chosen: of smaller ones, most would be margin.
const SMALLEST: usize = 64;
/// Side of a window where nothing is known of the memory.
const UNKNOWN: usize = 512;
/// Times that a window is run to find its peaks.
const NUM_RUNS: usize = 4;

/// What windows cost, and what there is for them.
pub struct Room<'a> {
    model: &'a Trained,
    device: Device,
    budget: Option<Bytes>,
    /// Of a budget, or else of what is free, the share that windows are chosen for.
    share: f64,
    /// Windows at once.
    num_windows: usize,
    /// The largest windows that were measured.
    measured: Measured,
    /// `None` if the device does not tell.
    cost: Option<WindowCost>,
}

/// The peaks of runs of a window: buffers of threads come and go, so that they differ.
#[derive(Clone, Copy, Default)]
struct Measured {
    side: usize,
    lowest: Bytes,
    highest: Bytes,
}

impl<'a> Room<'a> {
    /// Measures what windows of a model cost, as many as run at once.
    pub fn measure(settings: &InferSettings, model: &'a Trained, device: &Device) -> Result<Self> {
        let budget = budget(settings.budget.as_deref())?;
        let mut room = Self {
            model,
            device: device.clone(),
            share: match budget {
                // The fit is not checked by running what it predicts.
                Some(_) => 1.0 - TOLERANCE,
                None => settings.memory_threshold,
            },
            budget,
            num_windows: if settings.auto_batch_size {
                settings.min_batch_size
            } else {
                settings.batch_size * model.num_devices()
            },
            measured: Measured::default(),
            cost: None,
        };
        let side = SMALLEST.next_multiple_of(model.stride());
        room.add(side);
        room.add(2 * side);
        Ok(room)
    }

    /// The largest window for an image of `size`, height and width, of which the model gets at least
    /// `least` pixels a side.
    pub fn window(&mut self, size: [usize; 2], least: usize) -> Result<[usize; 2]> {
        let least = size.map(|side| side.min(SMALLEST).max(least));
        let most = [0, 1].map(|axis: usize| size[axis].min(LARGEST).max(least[axis]));
        self.refine(size, most);
        let (Some(cost), Some(usable)) = (self.cost(size), self.usable()) else {
            return Ok([0, 1].map(|axis: usize| most[axis].min(UNKNOWN.max(least[axis]))));
        };
        if cost.bytes(most) <= usable {
            return Ok(most);
        }
        let stride = self.model.stride();
        // A side that is no multiple of the stride may be cut down to one.
        let is_large = |axis: usize, side: usize| side >= least[axis] / stride * stride;
        let largest = cost.largest(usable, 1.0, most, stride);
        match largest.filter(|&[height, width]| is_large(0, height) && is_large(1, width)) {
            Some(window) => Ok(window),
            None => self.refuse(cost, least),
        }
    }

    /// Refuses windows that the budget has no room for.
    pub fn check(&self, size: [usize; 2], window: [usize; 2]) -> Result<()> {
        match (self.budget, self.cost(size), self.usable()) {
            (Some(_), Some(cost), Some(usable)) if cost.bytes(window) > usable => {
                self.refuse(cost, window).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Windows that the budget has room for at once; `None` without one.
    pub fn windows_at_once(&self, size: [usize; 2], window: [usize; 2]) -> Option<usize> {
        let (usable, _) = (self.usable()?, self.budget?);
        let most = usable.get() / self.cost(size)?.bytes(window).get().max(1);
        Some((most as usize).max(1) * self.num_windows)
    }

    /// Measures larger windows as long as they are no larger than those that are wanted, and there is
    /// much room for them, but not so much that it does not matter.
    fn refine(&mut self, size: [usize; 2], most: [usize; 2]) {
        while let (Some(cost), Some(usable)) = (self.cost(size), self.usable()) {
            let side = 2 * self.measured.side;
            let is_ample = cost.bytes(most) <= usable.scale(0.25);
            let is_large = cost.bytes([side; 2]) > usable.scale(0.5);
            if is_ample || is_large || side > most[0].max(most[1]) {
                return;
            }
            self.add(side);
        }
    }

    /// Measures windows of this side, the largest so far.
    fn add(&mut self, side: usize) {
        let small = self.measured;
        let large = self.peaks(side);
        // The steepest line that the peaks allow: no larger window takes more.
        self.cost = large.map(|large| {
            let pixels = |side: usize| side * side;
            let (low, high) = (small.lowest, large.highest);
            WindowCost::through((pixels(small.side), low), (pixels(side), high))
        });
        self.measured = large.unwrap_or(small);
    }

    fn peaks(&self, side: usize) -> Option<Measured> {
        let shape = [self.num_windows, self.model.channels, side, side];
        let run = || {
            self.model
                .run(Tensor::zeros(shape, &self.device))
                .into_data()
        };
        // What stays for ever is there after the first time.
        run();
        let peak = || {
            let meter = PeakMeter::start(&self.device);
            run();
            meter.finish().peak
        };
        let peaks = (0..NUM_RUNS).map(|_| peak()).collect::<Option<Vec<_>>>()?;
        Some(Measured {
            side,
            lowest: peaks.iter().copied().min()?,
            highest: peaks.iter().copied().max()?,
        })
    }

    /// What a window costs, with the sums of its rows over the whole width of the image: those that
    /// windows touch, and those that are being written. Where the sums are in a file it is too much.
    fn cost(&self, size: [usize; 2]) -> Option<WindowCost> {
        let row = Bytes::new((2 * size[1] * size_of::<f32>()) as u64);
        self.cost.map(|cost| cost.with_row(row))
    }

    /// What windows may take; `None` if unknown.
    fn usable(&self) -> Option<Bytes> {
        let free = match self.budget {
            Some(budget) => budget - live_on(&self.device)?,
            None => free_on(&self.device)?,
        };
        Some(free.scale(self.share))
    }

    fn refuse(&self, cost: WindowCost, window: [usize; 2]) -> Result<[usize; 2]> {
        let ([height, width], share) = (window, self.share);
        let needed = Bytes::new((cost.bytes(window).get() as f64 / share).ceil() as u64);
        match self.budget {
            Some(budget) => bail!(
                "a window of {height}×{width} pixels needs a --budget of {}, with what is in memory \
                 already, got {budget}; give more, or --precision f16",
                live_on(&self.device).map_or(needed, |live| needed + live),
            ),
            None => bail!(
                "a window of {height}×{width} pixels, the smallest that is chosen, needs {needed} of free \
                 memory, as --memory-threshold is {share}; free some, or give --precision f16"
            ),
        }
    }
}
