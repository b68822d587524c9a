//! The random numbers of each micro-batch of a step: the same on any number of devices.
//!
//! burn's random stream is one for all devices of a backend. So a micro-batch has a seed of its own, made of that of
//! the step and its number, and its thread holds the stream from there to the end of its forward pass.

use std::cell::RefCell;
use std::mem::discriminant;

use burn::tensor::Device;

use crate::grad_checkpoint::{RandomStreamGuard, Run, SegmentSeed, draw_next, hold_random_stream};

/// The seed of a step, and whether its micro-batches draw.
#[derive(Clone, Debug)]
pub(super) struct MicroSeeds {
    /// `None` for a step that draws nothing, on one device: nobody has to agree with anybody.
    seed: Option<SegmentSeed>,
    draws: bool,
    /// A device of each stream.
    devices: Vec<Device>,
}

thread_local! {
    /// The stream while a forward pass holds it, and the forward passes that are left until it is given back.
    static HELD: RefCell<Option<(RandomStreamGuard, usize)>> = const { RefCell::new(None) };
}

impl MicroSeeds {
    /// Draws the seed of a step from the stream of the first device.
    pub(super) fn draw(all: &[Device], draws: bool) -> Self {
        let mut devices: Vec<Device> = Vec::new();
        for device in all {
            let device = device.clone().without_autodiff();
            let kind = discriminant(device.as_dispatch());
            if devices
                .iter()
                .all(|of| discriminant(of.as_dispatch()) != kind)
            {
                devices.push(device);
            }
        }
        let seed = (draws || all.len() > 1).then(|| SegmentSeed::draw(&devices[0]));
        if let (Some(seed), false) = (seed, draws) {
            devices.iter().for_each(|device| seed.apply(device));
        }
        Self {
            seed,
            draws,
            devices,
        }
    }

    /// Runs micro-batch `number`, which has as many forward passes as there are `trainers`, each of which
    /// [`end_forward`] ends.
    pub(super) fn run(&self, number: usize, device: &Device, trainers: usize, run: impl FnOnce()) {
        struct GiveBack;
        impl Drop for GiveBack {
            fn drop(&mut self) {
                HELD.with_borrow_mut(Option::take);
            }
        }
        let Some(seed) = self.seed.filter(|_| self.draws) else {
            return run();
        };
        let stream = hold_random_stream();
        seed.inner(number as u64).apply(device);
        HELD.set(Some((stream, trainers)));
        let _give_back = GiveBack;
        run();
    }

    /// Moves the streams on after the step, and returns whether micro-batches kept their promise to draw nothing.
    pub(super) fn end(self) -> bool {
        let Some(seed) = self.seed else {
            return true;
        };
        let _stream = hold_random_stream();
        let mut kept = true;
        for device in &self.devices {
            if !self.draws {
                let next = draw_next(device).into_data();
                kept &= next == seed.untouched(device).into_data();
            }
            seed.leave(Run::First, device);
        }
        kept
    }
}

/// A forward pass on `device` has ended: after the last one of a micro-batch, others may draw.
pub(super) fn end_forward(device: &Device) {
    HELD.with_borrow_mut(|held| {
        let Some((_, left)) = held else { return };
        *left -= 1;
        if *left == 0 {
            // What is queued draws when it runs.
            let _ = device.flush();
            *held = None;
        }
    });
}
