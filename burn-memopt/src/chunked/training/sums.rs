//! Two passes over tiles: one for the sums over whole images, one for the gradient.

use std::ops::{ControlFlow, Range};

use burn::module::Module;
use burn::tensor::Tensor;

use super::images::{Steps, TiledImages, device_of, run};
use super::loss::{check_sums, log_add, logarithms};
use super::seeds::TileSeeds;
use super::{SumLoss, TiledError};
use crate::chunked::{Progress, WindowPlace, Windows};
use crate::grad_checkpoint::{num_operations, sweep};
use crate::memory::to_host;
use crate::train::{MicroBatchTrainer, MicroLoss, RunningStatistics, frozen};

impl TiledImages<'_> {
    /// As [`accumulate`](Self::accumulate) for a loss that is a function of sums over whole images. Every tile runs forward
    /// twice: once without autodiff for the sums, which are added up in f64, also where they are [logarithms](SumLoss::num_log_sums).
    ///
    /// # Exactness
    /// Random numbers are the same both times. In [approximate](super::TiledStep::approximate) training, running statistics are
    /// updated once.
    ///
    /// # Errors
    /// As [`accumulate`](Self::accumulate), and if the sums cannot be read from the device.
    ///
    /// # Panics
    /// As [`accumulate`](Self::accumulate), and if the loss does not depend on the sums.
    pub fn accumulate_sums<M: Module>(
        &self,
        train: &mut MicroBatchTrainer,
        model: &M,
        forward: impl Fn(&M, Windows) -> Tensor<4>,
        loss: &impl SumLoss<M>,
        mut progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(), TiledError> {
        let mut steps = Steps::new(2 * self.num_tiles(), &mut progress);
        self.step(train, model, 2, |train, _, seeds| {
            if self.groups.is_empty() {
                return Ok(());
            }
            let forward = (&forward, seeds);
            let totals = self.sums(train, model, forward, loss, &mut steps)?;
            let slopes = Slopes::of(model, loss, totals);
            self.pass_on(train, model, (forward, loss), &slopes, &mut steps)
        })
    }

    /// The sums over whole images.
    fn sums<M: Module, L: SumLoss<M>>(
        &self,
        train: &MicroBatchTrainer,
        model: &M,
        (forward, seeds): (&impl Fn(&M, Windows) -> Tensor<4>, &TileSeeds),
        loss: &L,
        steps: &mut Steps,
    ) -> Result<Totals, TiledError> {
        let device = device_of(model);
        let statistics = RunningStatistics::read(model);
        let untracked = frozen(model);
        let num_images = self.sources[0].dims()[0];
        let mut totals: Vec<Vec<f64>> = vec![Vec::new(); num_images];
        for (number, group) in self.groups.iter().enumerate() {
            let operations_before = num_operations();
            let batch = self.read(group, &device)?;
            let output = seeds.run(number, || run(train, &untracked, &batch, forward));
            let output = batch.cut(output)?;
            let sums = loss.sums(output.clone(), batch.target.clone());
            if number == 0 {
                let sums_of = |output, target| loss.sums(output, target);
                let num_logs = loss.num_log_sums();
                check_sums(&sums, &output, &batch.target, num_logs, sums_of)?;
            }
            sweep(num_operations() - operations_before, &device);
            let num_sums = sums.dims()[1];
            let logarithms = logarithms(loss.num_log_sums(), num_sums);
            let place = batch.windows.places[0];
            let sums = to_host(sums).map_err(|error| TiledError::device(place, error))?;
            let sums: Vec<f32> = sums.iter().collect();
            for (place, sums) in batch.windows.places.iter().zip(sums.chunks(num_sums)) {
                let totals = &mut totals[place.image];
                if totals.is_empty() {
                    totals.resize(logarithms.start, 0.0);
                    totals.resize(num_sums, f64::NEG_INFINITY);
                }
                for (number, (total, sum)) in totals.iter_mut().zip(sums).enumerate() {
                    let sum = f64::from(*sum);
                    *total = match logarithms.contains(&number) {
                        true => log_add(*total, sum),
                        false => *total + sum,
                    };
                }
            }
            steps.done(batch.windows.places.len())?;
        }
        statistics.restore(model);
        let num_sums = totals[0].len();
        let totals = totals.concat();
        let tensor = |of: fn(f64) -> f32| {
            let values: Vec<f32> = totals.iter().map(|total| of(*total)).collect();
            let values = Tensor::<1>::from_floats(values.as_slice(), &device).autodiff();
            values.reshape([num_images, num_sums])
        };
        Ok(Totals {
            sums: tensor(|total| total as f32),
            rest: tensor(|total| (total - f64::from(total as f32)) as f32),
        })
    }

    /// Accumulates the gradients of every tile's sums times the loss's slope by each.
    fn pass_on<M: Module, L: SumLoss<M>>(
        &self,
        train: &mut MicroBatchTrainer,
        model: &M,
        ((forward, seeds), loss): ((&impl Fn(&M, Windows) -> Tensor<4>, &TileSeeds), &L),
        slopes: &Slopes,
        steps: &mut Steps,
    ) -> Result<(), TiledError> {
        let device = device_of(model);
        let weight = slopes.weight / self.groups.len() as f64;
        for (number, group) in self.groups.iter().enumerate() {
            let batch = self.read(group, &device)?;
            let output = seeds.run(number, || run(train, model, &batch, forward));
            let output = batch.cut(output)?;
            let sums = loss.sums(output, batch.target.clone());
            let tangent = slopes.times(sums, &batch.windows.places);
            // Its gradient alone: the value of the loss, and what it has of parameters, come with the first tiles.
            let tangent = tangent.clone() - tangent.detach();
            let tangent = match number {
                0 => tangent + slopes.loss_of_images(model, loss),
                _ => tangent,
            };
            train.backward(model, MicroLoss::sum(tangent, weight));
            steps.done(batch.windows.places.len())?;
        }
        Ok(())
    }
}

/// The sums over whole images.
struct Totals {
    /// `[num_images, num_sums]`
    sums: Tensor<2>,
    /// What f32 rounded off of them.
    rest: Tensor<2>,
}

/// The slopes of a loss by the sums of each image.
struct Slopes {
    /// `[num_images, num_sums]`, of the loss times its weight.
    slopes: Tensor<2>,
    totals: Totals,
    /// Which of the sums are logarithms.
    logarithms: Range<usize>,
    weight: f64,
}

impl Slopes {
    fn of<M>(model: &M, loss: &impl SumLoss<M>, totals: Totals) -> Self {
        let leaf = totals.sums.clone().require_grad();
        let of_sums = loss.loss(model, leaf.clone());
        let weight = of_sums.weight();
        let total = of_sums.into_total();
        assert!(
            total.is_tracked(),
            "a loss of sums must depend on them, got one that does not"
        );
        let slopes = leaf
            .grad(&total.backward())
            .unwrap_or_else(|| panic!("a loss of sums must depend on them, got one that does not"));
        let logarithms = logarithms(loss.num_log_sums(), totals.sums.dims()[1]);
        Self {
            slopes,
            totals,
            logarithms,
            weight,
        }
    }

    /// The sums of tiles times the slopes by them, added up.
    fn times(&self, sums: Tensor<2>, places: &[WindowPlace]) -> Tensor<1> {
        let (logs, first) = (self.logarithms.len(), self.logarithms.start);
        let slopes = rows_of(&self.slopes, places);
        if logs == 0 {
            return (sums * slopes).sum();
        }
        let tile = sums.clone().narrow(1, first, logs);
        let adds_nothing = tile.clone().detach().equal_scalar(f32::NEG_INFINITY);
        let tile = tile.mask_fill(adds_nothing.clone(), 0.0);
        // The slope by a tile's logarithm is its share of the whole sum times that by the total's.
        let [total, rest] = [&self.totals.sums, &self.totals.rest]
            .map(|totals| rows_of(totals, places).narrow(1, first, logs));
        let share = (tile.clone().detach() - total - rest).exp();
        let by_tile = slopes.clone().narrow(1, first, logs) * share;
        let of_logs = (tile * by_tile.mask_fill(adds_nothing, 0.0)).sum();
        match first {
            0 => of_logs,
            _ => of_logs + (sums.narrow(1, 0, first) * slopes.narrow(1, 0, first)).sum(),
        }
    }

    /// The loss of all images, which depends on parameters but not on the sums.
    fn loss_of_images<M>(&self, model: &M, loss: &impl SumLoss<M>) -> Tensor<1> {
        loss.loss(model, self.totals.sums.clone()).into_total()
    }
}

/// The rows of the tiles' images, `[tiles, num_sums]`.
fn rows_of(images: &Tensor<2>, places: &[WindowPlace]) -> Tensor<2> {
    let row = |place: &WindowPlace| images.clone().narrow(0, place.image, 1);
    Tensor::cat(places.iter().map(row).collect(), 0).autodiff()
}
