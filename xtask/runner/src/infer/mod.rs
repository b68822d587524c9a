//! `infer`: a trained model on images and stacks of any size, window by window.
//!
//! Results are written row by row as they become final, so that nothing but a window grows with what
//! the model needs. What is interrupted goes on where it was.

mod cut;
mod exact;
mod finished;
mod forward;
mod identity;
mod input;
mod model;
mod output;
mod report;
mod room;
mod session;
mod target;
mod unfinished;

use std::path::Path;

use anyhow::{Result, bail};

use crate::cli::{InferArgs, InferFlags, InferModel};
use crate::interrupt::{Interrupt, program, quoted};
use crate::settings::InferSettings;
use crate::train::precision;
use cut::Cutter;
use finished::Finished;
use forward::Forward;
use identity::Identity;
use model::Trained;
use report::Report;
use session::{Ended, Session};
use target::{Target, Work};

/// Runs a model on a file or a folder.
///
/// # Errors
/// If a setting, the model or the input is wrong, a file cannot be read or written, or the user asked
/// to stop.
pub fn run(args: &InferArgs) -> Result<()> {
    let InferModel::Unet(flags) = &args.model;
    let settings = InferSettings::resolve(flags)?;
    let work = Work::find(&flags.input, &flags.output)?;
    let device_name = crate::device::resolve(settings.device)?.to_string();
    let device = crate::device::open(settings.device)?;
    let model = Trained::load(
        &flags.model,
        precision(settings.precision, &device)?,
        &device,
    )?;
    let cutter = Cutter::new(&settings, &model, &device)?;
    work.make_folder()?;
    let session = Session {
        identity: Identity::of(&settings, &model),
        interrupt: Interrupt::announcing("stopping after these windows")?,
        report: Report::new(device_name, &device, flags.json),
        forward: Forward::new(&settings, &model, &device),
        model: &model,
        device: &device,
        cutter,
    };
    match work {
        Work::File(target) => one(session, &target),
        Work::Folder(folder, targets) => many(session, &folder, &targets, flags),
    }
}

/// Runs one file; whatever fails is the command's failure.
fn one(mut session: Session, target: &Target) -> Result<()> {
    let ended = session.run(target)?;
    session
        .report
        .finish(&target.output, ended == Ended::Interrupted)?;
    match ended {
        Ended::Done => Ok(()),
        Ended::Interrupted => bail!(interrupted()),
    }
}

/// Runs the files of a folder, but those that were finished before. What fails is told at the end.
fn many(mut session: Session, folder: &Path, targets: &[Target], flags: &InferFlags) -> Result<()> {
    let mut finished = Finished::open(folder, &session.identity)?;
    if finished.was_of_another_run() {
        session.report.note(&format!(
            "{} holds results of another model or other settings; starting over",
            folder.display()
        ));
    }
    let mut is_interrupted = false;
    for target in targets {
        if finished.holds(target) {
            session.report.skipped(target)?;
            continue;
        }
        match session.run(target) {
            Ok(Ended::Done) => finished.add(target)?,
            Ok(Ended::Interrupted) => {
                is_interrupted = true;
                break;
            }
            Err(error) => session.report.failed(target, &error)?,
        }
    }
    let num_failed = session.report.num_failed();
    session.report.finish(folder, is_interrupted)?;
    if is_interrupted {
        bail!(interrupted());
    }
    if num_failed > 0 {
        bail!(
            "{num_failed} of the {} files in {} failed, as told above; the others are done",
            targets.len(),
            flags.input.display()
        );
    }
    Ok(())
}

/// What to do after an interruption.
fn interrupted() -> String {
    let words: Vec<_> = std::env::args().skip(1).map(|word| quoted(&word)).collect();
    let command = words.join(" ");
    let program = program();
    format!("interrupted; what is done is kept, resume with\n  {program} {command}")
}
