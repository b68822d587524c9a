//! What is in a file of weights, for people and for machines.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use burn::tensor::TensorData;
use burn_memopt::memory::Bytes;
use serde::Serialize;

use super::network::Loaded;

/// What is in a file. Serialised, it is the object that `--json` prints.
#[derive(Debug, Serialize)]
pub struct Report {
    path: PathBuf,
    network: String,
    num_tensors: usize,
    num_values: usize,
    bytes: Bytes,
    tensors: Vec<Row>,
    output: Option<PathBuf>,
    /// Values of the output that were compared with the input.
    num_compared: Option<usize>,
}

/// One tensor.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    shape: Vec<usize>,
    dtype: String,
    mean: f64,
    absmax: f64,
}

impl Report {
    /// What was loaded from `path`; half-precision values were widened to f32.
    ///
    /// # Errors
    /// If a value cannot be read.
    pub fn new(path: &Path, loaded: &Loaded) -> Result<Self> {
        let tensors = loaded.tensors()?;
        Ok(Self {
            path: path.into(),
            network: loaded.choice().to_string(),
            num_tensors: tensors.len(),
            num_values: tensors.iter().map(|(_, data)| data.num_elements()).sum(),
            bytes: tensors.iter().map(|(_, data)| bytes_of(data)).sum(),
            tensors: tensors
                .iter()
                .map(|(name, data)| Row::of(name, data))
                .collect(),
            output: None,
            num_compared: None,
        })
    }

    /// Adds what it was converted to.
    pub fn converted(mut self, output: &Path, num_compared: usize) -> Self {
        self.output = Some(output.into());
        self.num_compared = Some(num_compared);
        self
    }

    /// A tensor a line.
    pub fn table(&self) -> String {
        let names = self.tensors.iter().map(|row| row.name.len());
        let width = names.max().unwrap_or_default();
        let head = format!(
            "  {:<width$}  {:<18} {:<6} {:>12} {:>12}\n",
            "name", "shape", "type", "mean", "absmax"
        );
        let rows = self.tensors.iter().map(|row| {
            let shape: Vec<_> = row.shape.iter().map(usize::to_string).collect();
            format!(
                "  {:<width$}  {:<18} {:<6} {:>12.5e} {:>12.5e}\n",
                row.name,
                shape.join("×"),
                row.dtype,
                row.mean,
                row.absmax
            )
        });
        std::iter::once(head).chain(rows).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {}, {} tensors, {} values, {}; none is missing, unexpected or of another shape",
            self.path.display(),
            self.network,
            self.num_tensors,
            self.num_values,
            self.bytes
        )?;
        match (&self.output, self.num_compared) {
            (Some(output), Some(compared)) => writeln!(
                f,
                "{}: written; all {compared} values are those that were read",
                output.display()
            ),
            _ => Ok(()),
        }
    }
}

impl Row {
    fn of(name: &str, data: &TensorData) -> Self {
        let (mut sum, mut absmax, mut count) = (0.0_f64, 0.0_f64, 0_usize);
        for value in data.iter::<f64>() {
            sum += value;
            // Unlike `max`, keeps what is no number.
            absmax = if value.abs() <= absmax {
                absmax
            } else {
                value.abs()
            };
            count += 1;
        }
        Self {
            name: name.into(),
            shape: data.shape().to_vec(),
            dtype: data.dtype().name().into(),
            mean: sum / count.max(1) as f64,
            absmax,
        }
    }
}

fn bytes_of(data: &TensorData) -> Bytes {
    Bytes::new(data.as_bytes().len() as u64)
}
