//! Pictures and a turntable of what a GAN renders.

use std::path::Path;

use anyhow::{Context, Result};
use burn::tensor::Tensor;
use burn_memopt_datasets::video::{FrameRate, VideoError, VideoFrame, VideoWriter};
use burn_memopt_datasets::views::ELEVATIONS;
use burn_memopt_models::gan::{Codes, Generator, ViewLabel};
use image::RgbImage;

use super::data::Views;
use super::evaluation::{Studio, repeated};
use crate::report::note;
use crate::run_dir::RunDir;
use crate::train::picture_of;

/// Azimuths in the picture of samples.
const NUM_AZIMUTHS: usize = 8;
/// Frames of the turntable, and how many of them are shown in a second.
const NUM_FRAMES: usize = 48;
const FRAMES_PER_SECOND: u32 = 16;

impl Studio {
    /// Writes `samples/azimuths.png`, an object of each class from all around, `samples/objects.png`, several objects
    /// of each class from the same side, and `samples/turntable.mp4` where there is `ffmpeg`.
    pub(super) fn write_samples(
        &self,
        generator: &Generator,
        data: &Views,
        run: &RunDir,
    ) -> Result<()> {
        let rows = data.num_classes().unwrap_or(4);
        let view = |class: usize, azimuth: f64| ViewLabel {
            class,
            azimuth,
            height: ELEVATIONS[1],
        };
        let around = |turn: usize, of: usize| 360.0 * turn as f64 / of as f64;
        self.device.seed(self.seed.wrapping_add(2));
        let objects = self.codes(
            generator,
            &(0..rows).map(|class| view(class, 0.0)).collect::<Vec<_>>(),
        );
        let row = |class: usize, count: usize| repeated(of(&objects, class), count);

        let from_all_sides = (0..rows).map(|class| {
            let labels: Vec<_> = (0..NUM_AZIMUTHS)
                .map(|turn| view(class, around(turn, NUM_AZIMUTHS)))
                .collect();
            self.render(generator, &labels, row(class, NUM_AZIMUTHS))
        });
        let picture = grid(from_all_sides.collect())?;
        run.replace_file("samples/azimuths.png", |path| Ok(picture.save(path)?))?;
        let many = (0..rows).map(|class| {
            let labels = vec![view(class, 45.0); NUM_AZIMUTHS];
            self.render(generator, &labels, self.codes(generator, &labels))
        });
        let picture = grid(many.collect())?;
        run.replace_file("samples/objects.png", |path| Ok(picture.save(path)?))?;

        let frame = |turn: usize| {
            let labels: Vec<_> = (0..rows)
                .map(|class| view(class, around(turn, NUM_FRAMES)))
                .collect();
            grid(vec![self.render(generator, &labels, objects.clone())])
        };
        let mut frames = (0..NUM_FRAMES).map(frame);
        let written = run.replace_file("samples/turntable.mp4", |path| {
            write_video(path, &mut frames)
        });
        let is_start = |cause: &(dyn std::error::Error + 'static)| {
            matches!(cause.downcast_ref(), Some(VideoError::Start { .. }))
        };
        match written {
            Err(error) if error.chain().any(is_start) => {
                note("samples/turntable.mp4 is left out, since ffmpeg is not installed");
                Ok(())
            }
            written => written,
        }
    }
}

/// The codes of one image of a batch.
fn of(codes: &Codes, number: usize) -> Codes {
    Codes {
        shape: codes.shape.clone().narrow(0, number, 1),
        appearance: codes
            .appearance
            .clone()
            .map(|code| code.narrow(0, number, 1)),
        classes: codes
            .classes
            .clone()
            .map(|classes| classes.narrow(0, number, 1)),
    }
}

/// Rows of images `[columns, 3, side, side]` as one picture.
fn grid(rows: Vec<Tensor<4>>) -> Result<RgbImage> {
    let [columns, _, side, _] = rows[0].dims();
    // [columns, 3, side, side] -> [side, columns * side, 3]
    let rows = rows
        .into_iter()
        .map(|row| row.permute([2, 0, 3, 1]).reshape([side, columns * side, 3]));
    let picture: Tensor<3> = Tensor::cat(rows.collect(), 0);
    picture_of(picture)
}

fn write_video(path: &Path, frames: &mut dyn Iterator<Item = Result<RgbImage>>) -> Result<()> {
    let mut writer: Option<VideoWriter> = None;
    for (index, picture) in frames.enumerate() {
        let picture = picture?;
        let [width, height] = [picture.width(), picture.height()].map(|side| side as usize);
        let writer = match &mut writer {
            Some(writer) => writer,
            None => writer.insert(VideoWriter::create(
                path,
                height,
                width,
                FrameRate::new(FRAMES_PER_SECOND, 1),
            )?),
        };
        writer.write(&VideoFrame {
            index,
            height,
            width,
            pixels: picture.into_raw(),
        })?;
    }
    Ok(writer.context("a turntable has frames")?.finish()?)
}
