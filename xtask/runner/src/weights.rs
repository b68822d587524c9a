//! `weights`: checks and converts published weights.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, bail, ensure};
use burn::store::{ModuleSnapshot, bridge};
use burn::tensor::{Device, TensorData};
use burn_memopt::memory::Bytes;
use burn_memopt_models::propainter::raft::Raft;
use burn_memopt_models::propainter::{FlowCompletion, InpaintGenerator, Published};
use burn_memopt_models::weights::{StateDict, WeightsError};
use clap::ValueEnum;
use serde::Serialize;
use xtask::cli::paths;

use crate::choices::NetworkChoice;
use crate::cli::{ConvertFlags, SharedFlags, VerifyFlags, WeightsArgs, WeightsVerb};
use crate::device::{Backend, DeviceChoice};
use crate::report::{self, causes, table};
use crate::settings::is_same;

/// Checks or converts weights, and says what is in them.
///
/// # Errors
/// If a file cannot be read or written, or does not fit its network: with every tensor that is
/// missing, unexpected or of another shape. All files are checked before the first error is reported.
pub fn run(args: &WeightsArgs) -> Result<()> {
    match &args.verb {
        WeightsVerb::Verify(flags) => verify(flags),
        WeightsVerb::Convert(flags) => convert(flags),
    }
}

fn verify(flags: &VerifyFlags) -> Result<()> {
    let mut failed = Vec::new();
    for path in &flags.paths {
        let printed = Loaded::open(path, flags.shared.network)
            .and_then(|loaded| print(&Report::new(path, &loaded)?, &flags.shared));
        failed.extend(printed.err());
    }
    if failed.len() <= 1 {
        return failed.pop().map_or(Ok(()), Err);
    }
    let all = failed.iter().map(|error| format!("\n{}", causes(error)));
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
    let num_values = loaded.convert(output)?;
    let report = Report {
        output: Some(output.clone()),
        num_compared: Some(num_values),
        ..Report::new(input, &loaded)?
    };
    print(&report, &flags.shared)
}

fn print(report: &Report, flags: &SharedFlags) -> Result<()> {
    let text = if flags.json {
        serde_json::to_string(report).context("cannot turn the report into JSON")? + "\n"
    } else if flags.tensors {
        format!("{report}{}", report.table())
    } else {
        report.to_string()
    };
    report::print(text)
}

/// A network with the weights of a file.
#[derive(Debug)]
enum Loaded {
    /// Optical flow.
    Raft(Box<Raft>),
    /// Flow inside the holes.
    FlowCompletion(Box<FlowCompletion>),
    /// What no frame shows.
    Generator(Box<InpaintGenerator>),
}

impl Loaded {
    /// Loads a file into the network `choice`, or the one that its name begins with, or any that it
    /// fits.
    ///
    /// # Errors
    /// If the file cannot be read, or does not fit; the error names the network it does fit.
    fn open(path: &Path, choice: Option<NetworkChoice>) -> Result<Self> {
        let device = crate::device::open(DeviceChoice::on(Backend::Flex))?;
        let Some(wanted) = choice.or_else(|| named(path)) else {
            return Self::of_any(path, &device);
        };
        let error = match Self::of(wanted, path, &device) {
            Err(error @ WeightsError::Mismatch { .. }) => error,
            read => return Ok(read?),
        };
        let mut others = NetworkChoice::value_variants().iter().copied();
        let fitting =
            others.find(|other| *other != wanted && Self::of(*other, path, &device).is_ok());
        let error = Error::new(error);
        Err(match fitting {
            Some(other) => error.context(format!(
                "{} holds the weights of {other}, not of {wanted}",
                path.display()
            )),
            None => error.context(format!("these are no weights of {wanted}")),
        })
    }

    /// Loads a file into the network that it fits, or says what the closest one lacks.
    fn of_any(path: &Path, device: &Device) -> Result<Self> {
        let mut closest: Option<(usize, NetworkChoice, WeightsError)> = None;
        for &choice in NetworkChoice::value_variants() {
            let error = match Self::of(choice, path, device) {
                Err(error @ WeightsError::Mismatch { .. }) => error,
                read => return Ok(read?),
            };
            let differences = match &error {
                WeightsError::Mismatch { mismatch, .. } => {
                    mismatch.missing.len() + mismatch.unexpected.len() + mismatch.reshaped.len()
                }
                _ => usize::MAX,
            };
            if closest
                .as_ref()
                .is_none_or(|(least, ..)| differences < *least)
            {
                closest = Some((differences, choice, error));
            }
        }
        let (_, choice, error) = closest.expect("invariant: there are networks");
        Err(Error::new(error).context(format!(
            "{} holds the weights of no network of ProPainter; {choice} is the closest",
            path.display()
        )))
    }

    fn of(choice: NetworkChoice, path: &Path, device: &Device) -> Result<Self, WeightsError> {
        Ok(match choice {
            NetworkChoice::Raft => Self::Raft(load(path, device)?),
            NetworkChoice::FlowCompletion => Self::FlowCompletion(load(path, device)?),
            NetworkChoice::Generator => Self::Generator(load(path, device)?),
        })
    }

    /// Which network it is.
    fn choice(&self) -> NetworkChoice {
        match self {
            Self::Raft(_) => NetworkChoice::Raft,
            Self::FlowCompletion(_) => NetworkChoice::FlowCompletion,
            Self::Generator(_) => NetworkChoice::Generator,
        }
    }

    /// Every tensor by its name in the file, in the network's order.
    ///
    /// # Errors
    /// If a value cannot be read.
    fn tensors(&self) -> Result<Vec<(String, TensorData)>> {
        match self {
            Self::Raft(network) => tensors(&**network),
            Self::FlowCompletion(network) => tensors(&**network),
            Self::Generator(network) => tensors(&**network),
        }
    }

    /// Writes the weights as safetensors, and compares every value that is in the file then with
    /// what was loaded. Returns the number of values.
    ///
    /// # Errors
    /// If the file cannot be written or read, or a value differs.
    fn convert(&self, output: &Path) -> Result<usize> {
        match self {
            Self::Raft(network) => network.save_safetensors(output),
            Self::FlowCompletion(network) => network.save_safetensors(output),
            Self::Generator(network) => network.save_safetensors(output),
        }?;
        let device = crate::device::open(DeviceChoice::on(Backend::Flex))?;
        let again = Self::of(self.choice(), output, &device)
            .with_context(|| format!("{} was written and cannot be read", output.display()))?;
        let mut num_values = 0;
        for ((name, wrote), (other, found)) in self.tensors()?.into_iter().zip(again.tensors()?) {
            ensure!(
                name == other && wrote.as_bytes() == found.as_bytes(),
                "{}: {name} is not what was read; the disk may be damaged",
                output.display()
            );
            num_values += wrote.num_elements();
        }
        Ok(num_values)
    }
}

/// The network that the name of a file begins with.
fn named(path: &Path) -> Option<NetworkChoice> {
    let stem = path.file_stem()?.to_string_lossy().to_lowercase();
    let choices = NetworkChoice::value_variants().iter().copied();
    let mut fitting = choices.filter(|choice| stem.starts_with(&choice.to_string().to_lowercase()));
    fitting.next()
}

fn load<M: Published>(path: &Path, device: &Device) -> Result<Box<M>, WeightsError> {
    let network = M::published_size(device);
    let network = if path.extension().is_some_and(|it| it == "safetensors") {
        network.load_safetensors(path)
    } else {
        network.load_pytorch(path)
    };
    network.map(Box::new)
}

fn tensors<M: StateDict>(network: &M) -> Result<Vec<(String, TensorData)>> {
    let collected = network.collect(None, None, true).into_iter();
    let read = collected.map(|tensor| {
        let name = M::state_dict_name(&tensor.name);
        let data = bridge::to_data(&tensor).with_context(|| format!("cannot read {name}"))?;
        Ok((name, data))
    });
    read.collect()
}

/// What is in a file. Serialised, it is the object that `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    #[serde(with = "paths")]
    path: PathBuf,
    network: String,
    num_tensors: usize,
    num_values: usize,
    bytes: Bytes,
    tensors: Vec<Row>,
    #[serde(with = "paths::optional")]
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
    fn new(path: &Path, loaded: &Loaded) -> Result<Self> {
        let tensors = loaded.tensors()?;
        Ok(Self {
            path: path.into(),
            network: loaded.choice().to_string(),
            num_tensors: tensors.len(),
            num_values: tensors.iter().map(|(_, data)| data.num_elements()).sum(),
            bytes: tensors
                .iter()
                .map(|(_, data)| Bytes::new(data.as_bytes().len() as u64))
                .sum(),
            tensors: tensors
                .iter()
                .map(|(name, data)| Row::new(name, data))
                .collect(),
            output: None,
            num_compared: None,
        })
    }

    /// A tensor a line.
    fn table(&self) -> String {
        let header = ["  name", "shape", "type", "mean", "absmax"].map(String::from);
        let rows = self.tensors.iter().map(|row| {
            let shape: Vec<_> = row.shape.iter().map(usize::to_string).collect();
            [
                format!("  {}", row.name),
                shape.join("×"),
                row.dtype.clone(),
                format!("{:.5e}", row.mean),
                format!("{:.5e}", row.absmax),
            ]
        });
        table(&std::iter::once(header).chain(rows).collect::<Vec<_>>(), 3)
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
    fn new(name: &str, data: &TensorData) -> Self {
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
