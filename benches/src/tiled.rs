//! Training on images of any size, tile by tile.

use std::{cell::RefCell, ops::ControlFlow, ops::Range};

use burn::{
    optim::{GradientsParams, SgdConfig},
    tensor::{Device, Tensor, TensorData},
};
use burn_memopt::{
    chunked::{BoxError, ImageSource, TiledStep, Windows, measure_training_reach},
    train::{MicroBatchTrainer, MicroBatchTrainerConfig, MicroLoss},
};
use burn_memopt_models::loss::BceLoss;
use burn_memopt_models::unet::{NormKind, UNet, UNetConfig};

use crate::bench::{Bench, Variant};

const DEPTH: usize = 3;
/// Height and width that a tile keeps.
const TILE: usize = 256;

/// An image whose pixels are computed when they are read.
struct Generated {
    channels: usize,
    side: usize,
}

impl ImageSource for Generated {
    fn dims(&self) -> [usize; 4] {
        [1, self.channels, self.side, self.side]
    }

    fn read(
        &self,
        _: usize,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Result<Tensor<4>, BoxError> {
        let mut pixels = Vec::with_capacity(self.channels * rows.len() * columns.len());
        for channel in 0..self.channels {
            for row in rows.clone() {
                let place = |column| (row * 7919 + column * 104_729 + channel * 13) % 1009;
                pixels.extend(columns.clone().map(|column| place(column) as f32 / 1009.0));
            }
        }
        let dims = [1, self.channels, rows.len(), columns.len()];
        let pixels = TensorData::new(pixels, dims);
        Ok(Tensor::from_data(pixels, &Device::flex()))
    }
}

/// A small U-Net that finds bright pixels.
struct Workload {
    unet: UNet,
    image: Generated,
    target: Generated,
    step: TiledStep,
    train: RefCell<MicroBatchTrainer>,
}

fn loss(output: Tensor<4>, target: Tensor<4>) -> MicroLoss {
    let loss = BceLoss.forward_sum(output, target.greater_elem(0.9).float(), None);
    MicroLoss::sum(loss.sum, loss.weight)
}

impl Workload {
    fn new(side: usize, tile: usize, bench: &Bench) -> Result<Self, BoxError> {
        let device = bench.device.clone().autodiff();
        device.seed(0);
        let depth = bench.pick(DEPTH, 1);
        let unet = UNetConfig::new(3, 1)
            .with_base_channels(4)
            .with_depth(depth)
            .with_norm(NormKind::Channel)
            .init(&device);
        let measured = (20 << depth).max(64);
        let shape = [3, measured, measured];
        let reach = measure_training_reach(&unet, shape, 1 << depth, UNet::forward_tiles);
        Ok(Self {
            unet,
            image: Generated { channels: 3, side },
            target: Generated { channels: 1, side },
            step: TiledStep::new([tile; 2], &reach)?.without_randomness(),
            train: RefCell::new(MicroBatchTrainerConfig::new().init(SgdConfig::new().init())),
        })
    }

    fn plain(&self) -> GradientsParams {
        let whole = |image: &Generated| {
            let pixels = image.read(0, 0..image.side, 0..image.side);
            let pixels = pixels.expect("invariant: generated pixels are there");
            pixels
                .to_device(&self.unet.outc.weight.val().device())
                .autodiff()
        };
        let mut train = self.train.borrow_mut();
        let target = whole(&self.target);
        let forward = |unet: &UNet, image| unet.forward(image);
        train.micro_batch(&self.unet, whole(&self.image), forward, |output| {
            loss(output, target)
        });
        taken(&mut train, &self.unet)
    }

    fn tiled(&self) -> GradientsParams {
        let mut train = self.train.borrow_mut();
        let tiles = self.step.over(&self.image, &self.target);
        let tiles = tiles.expect("invariant: of one size");
        let margin = tiles.margin();
        let forward = |unet: &UNet, tiles: Windows| unet.forward_tiles_within(tiles, margin);
        let go_on = |_| ControlFlow::Continue(());
        let ran = tiles.accumulate(&mut train, &self.unet, forward, loss, go_on);
        ran.unwrap_or_else(|error| panic!("{error}"));
        taken(&mut train, &self.unet)
    }
}

fn taken(train: &mut MicroBatchTrainer, unet: &UNet) -> GradientsParams {
    let grads = train.take_gradients(unet);
    let grads = grads.unwrap_or_else(|error| panic!("{error}"));
    grads.expect("invariant: something was accumulated")
}

/// A step on tiles of a square image.
pub(crate) fn flat<const SIDE: usize>(bench: &mut Bench) -> Result<(), BoxError> {
    // What stays for ever, like the buffers of threads, is there after a small image.
    let small = Workload::new(2 * TILE, TILE, bench)?;
    drop(small.tiled());
    let work = Workload::new(SIDE, TILE, bench)?;
    eprintln!(
        "  margins of {} pixels: the network gets {:.2} pixels for each of the image",
        work.step.margin(),
        work.step.over(&work.image, &work.target)?.read_share(),
    );
    let tiled = Variant::new("tiled", || work.tiled()).with_other_gradients();
    bench.steps(&work.unet, 0, &[tiled]);
    Ok(())
}

/// A step on the whole of a square image, and on tiles of it.
pub(crate) fn against_plain(bench: &mut Bench) -> Result<(), BoxError> {
    let (side, tile, rounds) = bench.pick((1024, TILE, 2), (128, 32, 1));
    let work = Workload::new(side, tile, bench)?;
    let variants = [
        Variant::new("plain", || work.plain()),
        // The sums are added up in another order.
        Variant::new("tiled", || work.tiled()).with_other_gradients(),
    ];
    bench.steps(&work.unet, rounds, &variants);
    Ok(())
}
