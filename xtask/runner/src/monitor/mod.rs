//! `monitor`: what host, process and devices hold, once or again and again.

mod csv;
mod look;

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use burn_memopt::memory::MemoryMonitor;

use crate::cli::MonitorArgs;
use csv::CsvFile;
use look::Look;

/// Time between two looks unless the user says otherwise.
const INTERVAL: Duration = Duration::from_secs(1);

/// Clears a terminal and puts the cursor into its first corner.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Looks at memory and prints what there is, until Ctrl-C with `--watch`.
///
/// # Errors
/// If a device cannot be opened, the process is not there, or the table cannot be written.
pub fn run(args: &MonitorArgs) -> Result<()> {
    // Before anything that takes time: Ctrl-C must find its handler.
    let interrupted = args.watch.then(ctrl_c).transpose()?;
    let devices = crate::device::open_all(args.device.unwrap_or_default())?;
    let mut monitor = MemoryMonitor::new(devices);
    let process = args.pid.unwrap_or_else(std::process::id);
    monitor = monitor.with_process(process);
    let mut csv = None;
    loop {
        let look = Look {
            time: SystemTime::now(),
            process,
            memory: monitor.snapshot(),
        };
        if look.memory.process_rss.is_none() && args.pid.is_some() {
            if csv.is_none() {
                bail!("there is no process {process}, or it may not be read");
            }
            eprintln!("process {process} has ended");
            return Ok(());
        }
        let csv = match &mut csv {
            Some(csv) => csv,
            None => csv.insert(Csv::open(args, &look)?),
        };
        csv.append(&look)?;
        if !print(&look, args)? {
            return Ok(());
        }
        let interval = args.interval.unwrap_or(INTERVAL);
        match &interrupted {
            Some(interrupted) if interrupted.recv_timeout(interval).is_err() => {}
            _ => return Ok(()),
        }
    }
}

/// The table on disk, if one is wanted.
struct Csv(Option<CsvFile>);

impl Csv {
    fn open(args: &MonitorArgs, look: &Look) -> Result<Self> {
        let path = args.csv.as_deref();
        let open = |path| CsvFile::open(path, &look.csv_header());
        Ok(Self(path.map(open).transpose()?))
    }

    fn append(&mut self, look: &Look) -> Result<()> {
        let file = self.0.as_mut();
        file.map_or(Ok(()), |file| file.append(&look.csv_row()))
    }
}

/// Prints a look; answers whether anybody still reads.
fn print(look: &Look, args: &MonitorArgs) -> Result<bool> {
    let mut stdout = std::io::stdout().lock();
    let text = match args.json {
        true => serde_json::to_string(look)? + "\n",
        false if args.watch && stdout.is_terminal() => format!("{CLEAR}{look}"),
        false if args.watch => format!("{look}\n"),
        false => look.to_string(),
    };
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).context("cannot write to stdout"),
    }
}

/// Receives something when Ctrl-C is pressed or the system asks the program to end.
fn ctrl_c() -> Result<Receiver<()>> {
    let (pressed, interrupted) = channel();
    let handler = move || {
        // Nobody receives it once the program is about to end.
        let _ = pressed.send(());
    };
    ctrlc::set_handler(handler).context("cannot take over Ctrl-C")?;
    Ok(interrupted)
}
