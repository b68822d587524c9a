//! Training and inference that fit in the memory people have, for [burn](https://burn.dev).
//!
//! | technique | shrinks | costs | exact? | module |
//! |---|---|---|---|---|
//! | gradient checkpointing | what a forward pass keeps, to the inputs of the segments and the insides of one | a second forward pass of the segments | bit-equal on the CPU; to rounding where a GPU tunes its kernels | [`grad_checkpoint`] |
//! | the same within a budget, or in the least memory | as little as the budget needs; as much as two forward passes more can | the least recomputation that fits, and a measurement before | as above | [`grad_checkpoint::Policy`] |
//! | slices of a long axis | a head or loss to one slice, as logits of many words | a second forward pass of it | to f32 rounding | [`grad_checkpoint::in_chunks`] |
//! | accumulation | what a forward pass keeps, from the batch to one micro-batch | one set of gradients in f32 | to f32 rounding; batch statistics are per micro-batch | [`accumulate`] |
//! | autocast | activations, to half | casts; a scaled loss in f16; slow f16 arithmetic on CPUs | no | [`precision`] |
//! | chunked inference | an image to windows, with a result written row by row | what overlaps twice | to the blend; equal with tiles that carry a margin | [`chunked`] |
//! | training on tiles | an image to tiles, whatever its size | margins read twice; for losses of global sums another forward pass | to f32 rounding, where a pixel reaches a part of the image | [`chunked::TiledStep`] |
//! | adaptive batches | a batch to what memory allows | batches that failed, again | yes | [`batch`] |
//! | sub-videos | a video to a few frames at a time | frames that are read twice | by the stage | [`clip`] |
//! | packed weights | the weights of a network that is run, to 8 or 4 bits | making floats of a layer at each use; no speed | no; measured by the task | [`quantize`] |
//! | streamed weights | the same, to the largest one and what is small | sending each weight to the device at each use | bit-equal | [`quantize::StreamedWeights`] |
//! | all of them in one step | the above together | the above together | as its parts | [`train`] |
//! | small optimizer state | Adam's state to a quarter, or off the device | encoding, or two copies, at each step | 8 bits no; on the host bit-equal | [`optim`] |
//! | planning | what runs, to a budget | small runs before | predicted, then checked by running | [`budget`] |
//! | measuring | nothing; it reports | nearly nothing on the CPU; readings on a GPU | on the CPU; sampled on GPUs | [`memory`] |
//!
//! The [`guide`] shows each technique with examples that run. They combine:
//!
//! ```
//! use burn::nn::{Linear, LinearConfig};
//! use burn::optim::GradientsParams;
//! use burn::prelude::*;
//! use burn::tensor::Distribution;
//! use burn_memopt::prelude::*;
//!
//! let device = Device::flex().autodiff();
//! let model: Vec<Linear> = (0..6).map(|_| LinearConfig::new(8, 8).init(&device)).collect();
//! let batch = Tensor::<2>::random([32, 8], Distribution::Default, &device);
//!
//! let autocast = Autocast::new(Precision::F16);
//! let mut accumulator = WeightedAccumulator::new();
//! for images in batch.split(8, 0) {
//!     let num_items = images.dims()[0] as f64;
//!     let output = autocast.run(&model, images, |half: &Vec<Linear>, x: Tensor<2>| {
//!         checkpoint_sequential(half, 3, x, |layer: &Linear, x: Tensor<2>| layer.forward(x))
//!     });
//!     let loss = output.square().mean();
//!     let grads = GradientsParams::from_grads(loss.backward(), &model);
//!     accumulator.accumulate(&model, grads, num_items);
//! }
//! let grads = accumulator.finish(&model).expect("four micro-batches");
//! assert_eq!(grads.get::<2>(model[0].weight.id).unwrap().dims(), [8, 8]);
//! ```
//!
//! For training in f16, [`train::MicroBatchTrainer`] adds what is left out here: the scaled
//! loss, the check for overflow, clipping and the optimizer, in the right order.
//! `MicroBatchStrategy` does the same inside burn-train's `SupervisedTraining`.
//! [`gradients`] clips by the norm over all parameters. The [`prelude`] has what
//! a model of your own needs.
//!
//! # Features
//! By default there are the techniques, with no dependency that burn does not have.
//!
//! | feature | adds |
//! |---|---|
//! | `flex` (the default), `wgpu`, `vulkan`, `cuda` | backends, by the names burn gives them; a checkpointed segment works on those that are turned on *here*, not only in burn |
//! | `cuda-cpp` | NVRTC as the compiler of CUDA kernels |
//! | `autotune` | burn's choice of kernels by trying them |
//! | `train` | `train::MicroBatchStrategy`, for burn-train's `SupervisedTraining` |
//! | `tui` | burn-train's dashboard, with `train` |
//! | `criterion` | [`memory`]`::PeakBytes`: peak memory as a measurement of criterion's benchmarks |
//! | `tools` | in [`memory`]: the course of a run as a table and a picture, what batches take, cards by NVML, advice on data |

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod accumulate;
pub mod batch;
pub mod budget;
pub mod chunked;
pub mod clip;
pub mod files;
pub mod grad_checkpoint;
pub mod gradients;
pub mod guide;
pub mod memory;
pub mod nn;
pub mod optim;
mod pools;
pub mod precision;
pub mod prelude;
pub mod quantize;
pub mod tensors;
pub mod train;
