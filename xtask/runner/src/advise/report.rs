//! What `advise` found and says, for people and for machines.

use std::fmt;
use std::path::Path;

use burn_memopt_datasets::advise::{Advice, DataSource};
use serde::Serialize;
use xtask::cli::paths;

use super::machine::Machine;

/// Data, machine and advice. Serialised, it is the object that `--json` prints.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    #[serde(with = "paths")]
    pub(super) data: &'a Path,
    #[serde(flatten)]
    pub(super) source: DataSource,
    pub(super) machine: Machine,
    pub(super) advice: Advice,
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
