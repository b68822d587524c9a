//! `advise`: how to load a data set on this machine, and why.

mod machine;
mod report;

use anyhow::{Context, Result};
use burn_memopt_datasets::advise::{Advisor, Companions, DataSource, SourceError};

use crate::cli::AdviseArgs;
use crate::report::print;
use crate::settings::UsageError;
use machine::Machine;
use report::Report;

/// Looks at the data and the machine, and prints what to do.
///
/// # Errors
/// If the data is missing, damaged or of no known kind, if an item does not fit into memory, or
/// if the device cannot be opened.
pub fn run(args: &AdviseArgs) -> Result<()> {
    let given = machine::given_memory(args.memory.as_deref())?;
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
