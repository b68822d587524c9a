//! `weights`: checks and converts published weights.

mod network;
mod report;

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::cli::{ConvertFlags, SharedFlags, VerifyFlags, WeightsArgs, WeightsVerb};
use network::{Converted, Loaded};
use report::Report;

/// Checks or converts weights, and says what is in them.
///
/// # Errors
/// If a file cannot be read or written, or does not fit its network: with every tensor that is
/// missing, unexpected or of another shape. All files are checked before the first error is told.
pub fn run(args: &WeightsArgs) -> Result<()> {
    match &args.verb {
        WeightsVerb::Verify(flags) => verify(flags),
        WeightsVerb::Convert(flags) => convert(flags),
    }
}

fn verify(flags: &VerifyFlags) -> Result<()> {
    let mut failed = Vec::new();
    for path in &flags.paths {
        let told = Loaded::open(path, flags.shared.network)
            .and_then(|loaded| tell(&Report::new(path, &loaded)?, &flags.shared));
        failed.extend(told.err());
    }
    if failed.len() <= 1 {
        return failed.pop().map_or(Ok(()), Err);
    }
    let all = failed.iter().map(|error| format!("\n{error:#}"));
    let all: String = all.collect();
    bail!(
        "{} of {} files are not what they should be:{all}",
        failed.len(),
        flags.paths.len()
    )
}

fn convert(flags: &ConvertFlags) -> Result<()> {
    let (input, output) = (&flags.input, &flags.output);
    if is_same(input, output) {
        bail!("{}: the output must be another file", output.display());
    }
    let loaded = Loaded::open(input, flags.shared.network)?;
    let Converted { num_values } = loaded.convert(output)?;
    let report = Report::new(input, &loaded)?.converted(output, num_values);
    tell(&report, &flags.shared)
}

fn is_same(one: &Path, other: &Path) -> bool {
    one.canonicalize()
        .is_ok_and(|one| other.canonicalize().is_ok_and(|other| one == other))
}

fn tell(report: &Report, flags: &SharedFlags) -> Result<()> {
    let text = match flags.json {
        true => serde_json::to_string(report).context("cannot turn the report into JSON")? + "\n",
        false if flags.tensors => format!("{report}{}", report.table()),
        false => report.to_string(),
    };
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .context("cannot write to stdout")
}
