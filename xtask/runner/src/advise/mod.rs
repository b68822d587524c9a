//! `advise`: how to load a data set on this machine, and why.

pub(crate) mod folder;
mod machine;
mod report;
mod source;

use std::io::Write;

use anyhow::{Context, Result};
use burn_memopt::memory::advise::Advisor;

use crate::cli::AdviseArgs;
use machine::Machine;
use report::Report;
use source::Source;

/// Looks at the data and the machine, and prints what to do.
///
/// # Errors
/// If the data is missing, damaged or of no known kind, if an item does not fit into memory, or
/// if the device cannot be opened.
pub fn run(args: &AdviseArgs) -> Result<()> {
    let given = machine::given_memory(args.memory.as_deref())?;
    let source = Source::open(args)?;
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
    let mut stdout = std::io::stdout().lock();
    match args.json {
        true => writeln!(stdout, "{}", serde_json::to_string(&report)?)?,
        false => write!(stdout, "{report}")?,
    }
    Ok(())
}
