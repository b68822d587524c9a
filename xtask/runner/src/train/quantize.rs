//! `quantize`: a run with packed weights, made of a run with float ones.
//!
//! ```text
//! config.json  normalization.json  metrics.json  samples/   as in the run
//! checkpoint-200/
//!   model.bpk           packed weights, and the parameters that stay in float
//!   quantization.json   how they were packed
//!   state.json          as in the run; there is no optimizer
//! ```

use std::fs;
use std::path::Path;

use anyhow::{Context, Error, Result, bail};
use burn_memopt::files;
use burn_memopt::quantize::{self, QuantizeConfig, QuantizeError, Scheme};

use super::evaluate::TrainedRun;
use super::job::Job;
use super::saved::{MODEL_FILE, STATE_FILE};
use crate::choices::SchemeChoice;
use crate::cli::QuantizeArgs;
use crate::report::quantize::QuantizedReport;
use crate::run_dir::RunDir;
use crate::settings::{ModelSettings, UsageError, to_save};

/// The file of a saved state that says how its weights are packed.
const QUANTIZATION_FILE: &str = "quantization.json";

/// How the weights of a saved state are packed; `None` if they are not.
///
/// # Errors
/// If the file that says so is damaged.
pub fn config_in(dir: &Path) -> Result<Option<QuantizeConfig>> {
    let path = dir.join(QUANTIZATION_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let read =
        || -> Result<QuantizeConfig> { Ok(serde_json::from_str(&fs::read_to_string(&path)?)?) };
    let config = read().with_context(|| {
        let path = path.display();
        format!("cannot use {path}; quantize the run again")
    });
    config.map(Some)
}

/// The library's scheme of a choice.
pub fn scheme_of(choice: SchemeChoice) -> Scheme {
    match choice {
        SchemeChoice::Q8 => Scheme::Q8,
        SchemeChoice::Q4 => Scheme::Q4,
    }
}

/// Packs the weights of a run into a new folder, and prints what that changed.
///
/// # Errors
/// If the run's weights are packed already, the folder is not empty, or the run cannot be evaluated.
pub fn quantize_run<J: Job>(args: &QuantizeArgs) -> Result<()> {
    let output = &args.output;
    if fs::read_dir(output).is_ok_and(|mut entries| entries.next().is_some()) || output.is_file() {
        bail!(UsageError(format!(
            "--output: {} is there already; give a new folder",
            output.display()
        )));
    }
    let source = TrainedRun::<J>::open(&args.evaluate)?;
    if config_in(&source.state.dir)?.is_some() {
        bail!(UsageError(format!(
            "--model: the weights in {} are packed already; give the run that was quantized",
            source.run.root().display()
        )));
    }
    let config = QuantizeConfig {
        scheme: scheme_of(args.scheme),
        kept: args.keep.clone(),
    };
    let (packed, report) = config
        .quantize(&source.network)
        .map_err(|error| match error {
            QuantizeError::UnknownName { .. } => Error::new(UsageError(format!("--keep: {error}"))),
            error => error.into(),
        })?;
    if let Some(parent) = output.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("cannot create the folder {}", parent.display()))?;
    }
    let mut metrics = Vec::new();
    files::write_folder(output, |part| -> Result<()> {
        // Paths in the settings start in the folder that this one becomes.
        let settings = to_save(&source.settings, output)?;
        let run = RunDir::create(part, J::Settings::MODEL, &settings)?;
        source.job.describe(&source.data, &run)?;
        run.save(source.state.step, |dir| {
            save(dir, &config, &packed, &source)
        })?;
        // The second one writes over pictures and tables of the first.
        metrics.push(source.evaluate(&source.network, &run)?);
        metrics.push(source.evaluate(&packed, &run)?);
        Ok(())
    })
    .with_context(|| format!("cannot write {}", output.display()))?;
    let [before, after] = <[_; 2]>::try_from(metrics).expect("invariant: both are evaluated");
    let report = QuantizedReport::new(&report, [before, after], &source, output);
    report.print(args.evaluate.json)
}

/// Writes the state of a run, with packed weights and without optimizer, into the empty folder `dir`.
fn save<J: Job>(
    dir: &Path,
    config: &QuantizeConfig,
    packed: &J::Network,
    source: &TrainedRun<J>,
) -> Result<()> {
    quantize::save(packed, dir.join(MODEL_FILE))?;
    let text = serde_json::to_string_pretty(config).context("cannot write the scheme as JSON")?;
    fs::write(dir.join(QUANTIZATION_FILE), text + "\n").context("cannot write the scheme")?;
    fs::copy(source.state.dir.join(STATE_FILE), dir.join(STATE_FILE))
        .context("cannot copy the state")?;
    Ok(())
}
