//! `--budget`: settings that memory allows, where flags do not say them.

use anyhow::Result;
use burn::tensor::Device;
use burn_memopt::budget::{Choice, SHARE_OF_FREE};
use burn_memopt::memory::{Bytes, free_on, on_host};
use burn_memopt::precision::Precision;
use burn_memopt_models::propainter::inpaint::{
    BudgetRequest, InpaintConfig, NEIGHBOR_LENGTHS, REF_STRIDES, SUBVIDEO_LENGTHS, Setting, Values,
    Workload, choose,
};

use super::geometry::Geometry;
use crate::cli::InpaintArgs;
use crate::settings::{UsageError, budget};

/// Bytes that are held for each pixel of a frame as it is given: decoded, resized and written.
const BYTES_BESIDE: usize = 64;

/// How much memory a run may use.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Of the device that computes, weights included.
    pub bytes: Bytes,
    /// Whether a flag says it.
    pub is_given: bool,
    on_host: bool,
    has_f16: bool,
}

impl Budget {
    /// The budget of a run on `device`; `None` if a preset stands for it, or if no flag gives it and
    /// the device does not tell what is free.
    pub fn of(args: &InpaintArgs, device: &Device) -> Result<Option<Self>> {
        let given = budget(args.budget.as_deref())?;
        let bytes = match given {
            None if args.preset.is_some() => None,
            None => free_on(device).map(|free| free.scale(SHARE_OF_FREE)),
            given => given,
        };
        Ok(bytes.map(|bytes| Self {
            bytes,
            is_given: given.is_some(),
            on_host: on_host(device),
            has_f16: Precision::F16.check(device).is_ok(),
        }))
    }

    /// The settings of one video that keep it.
    pub fn choose(
        &self,
        args: &InpaintArgs,
        geometries: &[Geometry],
        num_frames: usize,
        precision: Option<Precision>,
    ) -> Result<Choice<Workload, Setting>> {
        let [height, width] = geometries[0].source;
        let sizes: Vec<_> = geometries.iter().map(|size| size.worked).collect();
        let lengths = |flag: Option<u64>, values: &[usize]| match flag {
            Some(given) => Values::given(given as usize),
            None => Values::new(values),
        };
        let request = BudgetRequest {
            beside: match self.on_host {
                true => Bytes::new((BYTES_BESIDE * height * width) as u64),
                false => Bytes::ZERO,
            },
            side_by_side: args.batch_size.unwrap_or(1) as usize,
            on_host: self.on_host,
            config: super::settings::config(args, &InpaintConfig::default()),
            sizes: match args.height.is_some() || args.resize_ratio.is_some() {
                true => Values::given(sizes[0]),
                false => Values::new(sizes.clone()),
            },
            ref_strides: lengths(args.ref_stride, &REF_STRIDES),
            neighbor_lengths: lengths(args.neighbor_length, &NEIGHBOR_LENGTHS),
            subvideo_lengths: lengths(args.subvideo_length, &SUBVIDEO_LENGTHS),
            precisions: self.precisions(args, precision),
            ..BudgetRequest::new(self.bytes, sizes[0], num_frames)
        };
        Ok(choose(&request).map_err(|error| {
            UsageError(format!("{error}, or leave out flags that ask for more"))
        })?)
    }

    fn precisions(&self, args: &InpaintArgs, chosen: Option<Precision>) -> Values<Precision> {
        match chosen {
            _ if args.fp16 => Values::given(Precision::F16),
            Some(Precision::F32) if self.on_host => Values::only(
                Precision::F32,
                "half precision takes many times longer on a CPU; --fp16 asks for it",
            ),
            Some(Precision::F32) if !self.has_f16 => {
                Values::only(Precision::F32, "the device does not compute in f16")
            }
            Some(precision) => Values::only(precision, "chosen for every video of this run"),
            None if self.on_host || !self.has_f16 => Values::given(Precision::F32),
            None => Values::new([Precision::F32, Precision::F16]),
        }
    }
}

/// What lack of memory may lower settings to: those of flags stay.
pub fn least(args: &InpaintArgs, config: &InpaintConfig) -> InpaintConfig {
    let least = |flag: Option<u64>, given: usize, values: &[usize]| match flag {
        Some(_) => given,
        None => values.last().copied().unwrap_or(given),
    };
    InpaintConfig {
        subvideo_length: least(
            args.subvideo_length,
            config.subvideo_length,
            &SUBVIDEO_LENGTHS,
        ),
        neighbor_length: least(
            args.neighbor_length,
            config.neighbor_length,
            &NEIGHBOR_LENGTHS,
        ),
        ref_stride: least(args.ref_stride, config.ref_stride, &REF_STRIDES),
        ..config.clone()
    }
}
