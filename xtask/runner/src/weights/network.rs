//! The networks whose weights are published, with the weights of a file.

use std::path::Path;

use anyhow::{Context, Error, Result, ensure};
use burn::store::{ModuleSnapshot, bridge};
use burn::tensor::{Device, TensorData};
use burn_memopt_models::propainter::raft::Raft;
use burn_memopt_models::propainter::{FlowCompletion, InpaintGenerator, Published};
use burn_memopt_models::weights::{StateDict, WeightsError};
use clap::ValueEnum;

use crate::choices::NetworkChoice;
use crate::device::{Backend, DeviceChoice};

/// A network with the weights of a file.
#[derive(Debug)]
pub enum Loaded {
    /// Optical flow.
    Raft(Box<Raft>),
    /// Flow inside the holes.
    FlowCompletion(Box<FlowCompletion>),
    /// What no frame shows.
    Generator(Box<InpaintGenerator>),
}

/// A file that was written and found to hold what was read.
#[derive(Clone, Copy, Debug)]
pub struct Converted {
    /// Values that were compared.
    pub num_values: usize,
}

impl Loaded {
    /// Loads a file into the network `choice`, or the one that its name begins with, or any that it
    /// fits.
    ///
    /// # Errors
    /// If the file cannot be read, or does not fit; the error names the network it does fit.
    pub fn open(path: &Path, choice: Option<NetworkChoice>) -> Result<Self> {
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

    /// Loads a file into the network that it fits, or tells what the closest one lacks.
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
    pub fn choice(&self) -> NetworkChoice {
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
    pub fn tensors(&self) -> Result<Vec<(String, TensorData)>> {
        match self {
            Self::Raft(network) => tensors(&**network),
            Self::FlowCompletion(network) => tensors(&**network),
            Self::Generator(network) => tensors(&**network),
        }
    }

    /// Writes the weights as safetensors, and compares every value that is in the file then with
    /// what was loaded.
    ///
    /// # Errors
    /// If the file cannot be written or read, or a value differs.
    pub fn convert(&self, output: &Path) -> Result<Converted> {
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
        Ok(Converted { num_values })
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
    let network = match path.extension().is_some_and(|it| it == "safetensors") {
        true => network.load_safetensors(path),
        false => network.load_pytorch(path),
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
