//! `advise`: how to load a data set on this machine, and why.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use burn_memopt::memory::{Bytes, MemoryMonitor};
use burn_memopt_datasets::advise::{Advice, Advisor, Companions, DataSource, SourceError};
use serde::Serialize;
use xtask::cli::paths;

use crate::cli::AdviseArgs;
use crate::device::DeviceChoice;
use crate::report::print;
use crate::settings::UsageError;

/// Looks at the data and the machine, and prints what to do.
///
/// # Errors
/// If the data is missing, damaged or of no known kind, if an item does not fit into memory, or
/// if the device cannot be opened.
pub fn run(args: &AdviseArgs) -> Result<()> {
    let given = given_memory(args.memory.as_deref())?;
    let source = open(args)?;
    let machine = Machine::look_at(args.device.unwrap_or_default(), given)?;
    let mut advisor = Advisor::new()
        .with_free_memory(machine.free_memory)
        .with_cores(machine.cores)
        .with_batch_size(args.batch_size);
    if machine.has_own_memory {
        advisor = advisor.with_device_memory(machine.device_free);
    }
    let data = args.data.display();
    let advice = advisor
        .advise(&source.bytes, source.access)
        .with_context(|| format!("cannot load {data} ({}) on this machine", source.about))?;
    let report = Report {
        data: &args.data,
        source,
        machine,
        advice,
    };
    if args.json {
        print(serde_json::to_string(&report)? + "\n")
    } else {
        print(report)
    }
}

/// Opens what `--data` names. A flag that does not belong to it is a wrong usage.
fn open(args: &AdviseArgs) -> Result<DataSource> {
    let companions = Companions {
        targets: args.targets.as_deref(),
        pixel_size: args.pixel_size,
        masks: args.masks.as_deref(),
        images: args.images.as_deref(),
    };
    match DataSource::open(&args.data, companions) {
        Err(SourceError::Companion { companion, why }) => {
            Err(UsageError(format!("--{companion} {why}; leave it out")).into())
        }
        source => Ok(source?),
    }
}

/// Free memory and cores of this machine; `None` is unknown.
#[derive(Debug, Serialize)]
struct Machine {
    free_memory: Option<Bytes>,
    /// Whether the free memory is what `--memory` says, and not measured.
    is_given: bool,
    /// What sets how much memory the host has for this process, such as a control group's file.
    host_limit: Option<String>,
    cores: Option<u64>,
    device: String,
    /// Whether the device has memory apart from the host's.
    #[serde(skip)]
    has_own_memory: bool,
    device_free: Option<Bytes>,
}

impl Machine {
    /// Measures what is free now; `given` takes the place of the host's free memory.
    fn look_at(choice: DeviceChoice, given: Option<Bytes>) -> Result<Self> {
        let device = crate::device::open(choice)?;
        let snapshot = MemoryMonitor::new([device]).snapshot();
        let own_memory = snapshot.devices.first();
        Ok(Self {
            free_memory: given.or(snapshot.host_available),
            is_given: given.is_some(),
            host_limit: snapshot.host_limit,
            cores: std::thread::available_parallelism()
                .ok()
                .map(|cores| cores.get() as u64),
            device: crate::device::resolve(choice)?.to_string(),
            has_own_memory: own_memory.is_some(),
            device_free: own_memory.and_then(|device| device.free),
        })
    }
}

/// Reads `--memory`.
fn given_memory(text: Option<&str>) -> Result<Option<Bytes>> {
    let parse = |text: &str| {
        let bytes = text.parse::<Bytes>();
        bytes.map_err(|why| UsageError(format!("--memory: {why}")).into())
    };
    text.map(parse).transpose()
}

/// Data, machine and advice. Serialised, it is the object that `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(with = "paths")]
    data: &'a Path,
    #[serde(flatten)]
    source: DataSource,
    machine: Machine,
    advice: Advice,
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            source, machine, ..
        } = self;
        writeln!(f, "{}", self.data.display())?;
        writeln!(f, "  {}: {}", source.kind, source.about)?;
        writeln!(f, "  {}", source.bytes)?;
        for note in &source.notes {
            writeln!(f, "  {note}")?;
        }
        writeln!(f, "{machine}\n")?;
        write!(f, "{}", self.advice)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.free_memory, self.is_given) {
            (Some(free), true) => write!(f, "planned for {free} of host memory")?,
            (Some(free), false) => {
                write!(f, "{free} of host memory are free")?;
                if let Some(limit) = &self.host_limit {
                    write!(f, " (limit: {limit})")?;
                }
            }
            (None, _) => write!(f, "unknown how much host memory is free")?,
        }
        match self.cores {
            Some(1) => write!(f, ", 1 core")?,
            Some(cores) => write!(f, ", {cores} cores")?,
            None => write!(f, ", unknown how many cores")?,
        }
        write!(f, ", device {}", self.device)?;
        match (self.has_own_memory, self.device_free) {
            (false, _) => Ok(()),
            (true, Some(free)) => write!(f, " with {free} free"),
            (true, None) => write!(f, ", unknown how much is free there"),
        }
    }
}
