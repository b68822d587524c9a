//! What `quantize` prints.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn_memopt::memory::Bytes;
use burn_memopt::quantize::QuantizeReport;
use serde::Serialize;
use xtask::cli::paths;

use super::{print, table};
use crate::settings::ModelSettings;
use crate::train::{Job, Metrics, TrainedRun};

/// A run whose weights were packed. Serialised, it is the object that `--json` prints.
#[derive(Debug, Serialize)]
pub struct QuantizedReport {
    event: &'static str,
    model: &'static str,
    step: u64,
    device: String,
    #[serde(with = "paths")]
    artifact_dir: PathBuf,
    scheme: String,
    /// Of all parameters and running statistics.
    bytes_before: Bytes,
    bytes_after: Bytes,
    /// The second of the first.
    share: f64,
    /// The weight that takes most while it is used; `null` if none was packed.
    largest_in_use: Option<Largest>,
    in_float: Vec<InFloat>,
    /// How good the network was on data not trained on.
    metrics_before: BTreeMap<String, f64>,
    /// How good it is with packed weights.
    metrics: BTreeMap<String, f64>,
}

/// A weight, and what it takes in float.
#[derive(Debug, Serialize)]
struct Largest {
    path: String,
    bytes: Bytes,
}

/// Parameters that stay in float for a reason.
#[derive(Debug, Serialize)]
struct InFloat {
    why: String,
    num_parameters: usize,
    bytes: Bytes,
}

impl QuantizedReport {
    /// What was packed of `source`, whose metrics were the first, into `output`, which has the second.
    pub fn new<J: Job>(
        report: &QuantizeReport,
        [metrics_before, metrics]: [Metrics; 2],
        source: &TrainedRun<J>,
        output: &Path,
    ) -> Self {
        let in_float = report.in_float().into_iter();
        Self {
            event: "quantized",
            model: J::Settings::MODEL,
            step: source.session.step,
            device: source.device_name.clone(),
            artifact_dir: output.into(),
            scheme: report.scheme.to_string(),
            bytes_before: report.before(),
            bytes_after: report.after(),
            share: report.share(),
            largest_in_use: report.largest_in_use().map(|largest| Largest {
                path: largest.path.clone(),
                bytes: largest.before,
            }),
            in_float: in_float
                .map(|(reason, num_parameters, bytes)| InFloat {
                    why: reason.to_string(),
                    num_parameters,
                    bytes,
                })
                .collect(),
            metrics_before,
            metrics,
        }
    }

    /// Prints it on stdout, as a table or as one JSON object.
    pub fn print(&self, json: bool) -> Result<()> {
        if json {
            let text = serde_json::to_string(self).context("cannot turn the report into JSON")?;
            return print(text + "\n");
        }
        print(self)
    }
}

impl fmt::Display for QuantizedReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} after {} steps, weights in {}, in {}",
            self.model,
            self.step,
            self.scheme,
            self.artifact_dir.display()
        )?;
        writeln!(
            f,
            "weights  {} before, {} after: {:.3} of it",
            self.bytes_before, self.bytes_after, self.share
        )?;
        if let Some(Largest { path, bytes }) = &self.largest_in_use {
            writeln!(f, "in use   {bytes} in float at a time, at most: {path}")?;
        }
        for kind in &self.in_float {
            let (count, bytes) = (kind.num_parameters, kind.bytes);
            writeln!(f, "float    {count} parameters, {bytes}: {}", kind.why)?;
        }
        let header = ["metric", "before", "after", "change"].map(String::from);
        let rows = self.metrics.iter().map(|(name, after)| {
            let before = self.metrics_before.get(name).copied().unwrap_or(f64::NAN);
            [
                name.clone(),
                format!("{before:.4}"),
                format!("{after:.4}"),
                format!("{:+.4}", after - before),
            ]
        });
        let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
        write!(f, "{}", table(&rows, 1))
    }
}
