//! `bench`: what every technique saves and costs, as a table and as JSON.

use std::path::Path;

use anyhow::{Context, Result, bail};
use burn_memopt::files;
use burn_memopt_benches::{Case, Row, cases, table};

use crate::cli::BenchArgs;
use crate::report::{note, print};
use crate::settings::UsageError;

/// Measures the chosen cases one after the other.
///
/// # Errors
/// If a case is unknown, the device cannot be opened, or the file cannot be written. A case that
/// cannot run on the device is reported and left out, and the command fails at the end.
pub fn run(args: &BenchArgs) -> Result<()> {
    let chosen = choose(&args.only)?;
    let device = crate::device::open(args.target.device.unwrap_or_default())?;
    let mut rows: Vec<Row> = Vec::new();
    let mut failed = Vec::new();
    for case in &chosen {
        note(format_args!("{}: {}", case.name, case.about));
        match case.run(&device) {
            Ok(measured) => {
                note(format_args!("{}\n", table(&measured)));
                rows.extend(measured);
            }
            Err(why) => {
                note(format_args!("  left out: {why}\n"));
                failed.push(case.name);
            }
        }
        // What was measured is kept, whatever becomes of the next case.
        if let Some(path) = &args.json {
            write_json(path, &rows)?;
        }
    }
    print(table(&rows) + "\n")?;
    if !failed.is_empty() {
        bail!("{} could not be measured on this device", failed.join(", "));
    }
    Ok(())
}

fn choose(only: &[String]) -> Result<Vec<Case>> {
    let all = cases();
    let names: Vec<_> = all.iter().map(|case| case.name).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) {
        let message = format!(
            "unknown case `{unknown}`; the cases are {}",
            names.join(", ")
        );
        return Err(UsageError(message).into());
    }
    let is_chosen = |case: &Case| only.is_empty() || only.iter().any(|name| name == case.name);
    Ok(all.into_iter().filter(is_chosen).collect())
}

fn write_json(path: &Path, rows: &[Row]) -> Result<()> {
    let json = serde_json::to_string_pretty(rows)?;
    files::write(path, |out| out.write_all(json.as_bytes()))
        .with_context(|| format!("cannot write the measurements to {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases_are_chosen_by_name_and_an_unknown_one_lists_those_there_are() {
        assert_eq!(choose(&[]).unwrap().len(), cases().len());
        let one = choose(&["chain32".to_owned()]).unwrap();
        assert_eq!(
            one.iter().map(|case| case.name).collect::<Vec<_>>(),
            ["chain32"]
        );

        let error = choose(&["chain33".to_owned()]).unwrap_err();
        assert!(error.is::<UsageError>());
        assert!(error.to_string().contains("chain33") && error.to_string().contains("unet256"));
    }
}
