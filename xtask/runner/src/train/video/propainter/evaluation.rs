//! Completing videos the generator was not trained on.

use anyhow::{Context, Result};
use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_memopt_models::propainter::training::InpaintTarget;
use burn_memopt_models::propainter::{InpaintGenerator, Rivals};
use image::RgbImage;

use super::ProPainterJob;
use crate::run_dir::RunDir;
use crate::train::cut_plan::CutPlan;
use crate::train::job::{Job, Metrics};
use crate::train::video::clips::Clips;

/// Pictures that are written at most.
const NUM_PICTURES: usize = 4;

/// Compares completed frames with the true ones in the holes of clips that were held out: `psnr_db`
/// is the peak signal-to-noise ratio in decibels, `l1` the mean distance of colours of which 1 is the
/// whole range; `psnr_before_db` and `l1_before` are those of the weights that training began with.
/// Writes pictures of masked, completed and true frames into `samples/` of the run.
///
/// # Errors
/// If a clip cannot be read or a picture not be written.
pub fn judge(
    job: &ProPainterJob,
    rivals: &Rivals,
    data: &Clips,
    run: &RunDir,
    device: &Device,
) -> Result<Metrics> {
    let (plain, first) = (
        device.clone().without_autodiff(),
        job.network(Some(data), &mut CutPlan::default(), device)?
            .generator
            .valid(),
    );
    let generator = rivals.generator.valid();
    let [mut trained, mut before] = [Distance::default(); 2];
    for (number, judged) in data.judged(&plain).enumerate() {
        let (name, batch) = judged?;
        let target = job.target(batch);
        let completed = complete(&generator, &target);
        trained.add(&completed, &target);
        before.add(&complete(&first, &target), &target);
        if number < NUM_PICTURES {
            let picture = picture(&completed, &target)?;
            run.replace_file(&format!("samples/{name}.png"), |path| {
                Ok(picture.save(path)?)
            })?;
        }
    }
    if trained.values == 0.0 {
        return Ok(Metrics::new());
    }
    Ok(Metrics::from([
        ("psnr_db".into(), trained.psnr()),
        ("psnr_before_db".into(), before.psnr()),
        ("l1".into(), trained.l1()),
        ("l1_before".into(), before.l1()),
    ]))
}

/// The local frames as inference completes them.
fn complete(generator: &InpaintGenerator, target: &InpaintTarget) -> Tensor<5> {
    generator.forward(target.input.clone())
}

/// How far colours in holes are from the true ones, summed.
#[derive(Clone, Copy, Default)]
struct Distance {
    absolute: f64,
    squared: f64,
    values: f64,
}

impl Distance {
    fn add(&mut self, completed: &Tensor<5>, target: &InpaintTarget) {
        let local = completed.dims()[1];
        let truth = target.frames.clone().narrow(1, 0, local);
        let masks = target.input.masks.clone().narrow(1, 0, local);
        // Colours from -1 to 1.
        let off = (completed.clone() - truth).div_scalar(2.0) * masks.clone();
        let sum = |x: Tensor<5>| f64::from(x.sum().into_scalar::<f32>());
        self.absolute += sum(off.clone().abs());
        self.squared += sum(off.square());
        self.values += 3.0 * sum(masks);
    }

    fn l1(&self) -> f64 {
        self.absolute / self.values
    }

    /// In decibels.
    fn psnr(&self) -> f64 {
        -10.0 * (self.squared / self.values).log10()
    }
}

/// The middle frame: with its hole, completed, and as it is.
fn picture(completed: &Tensor<5>, target: &InpaintTarget) -> Result<RgbImage> {
    let [_, local, _, height, width] = completed.dims();
    let middle = |x: &Tensor<5>| x.clone().narrow(1, local / 2, 1);
    let (truth, hole) = (middle(&target.frames), middle(&target.input.masks));
    let known = hole.clone().neg().add_scalar(1.0);
    let masked = truth.clone() * known.clone();
    let completed = middle(completed) * hole + masked.clone();
    // [1, 1, 3, height, 3 panels] -> [height, 3 panels, 3]
    let panels = Tensor::cat(vec![masked, completed, truth], 4);
    let panels = panels.squeeze_dim::<4>(0).squeeze_dim::<3>(0);
    let colors = panels.permute([1, 2, 0]).add_scalar(1.0).mul_scalar(127.5);
    let colors = colors.round().clamp(0.0, 255.0).into_data();
    let colors = colors.iter::<f32>().map(|color| color as u8).collect();
    RgbImage::from_raw(3 * width as u32, height as u32, colors).context("a picture has pixels")
}
