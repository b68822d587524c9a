//! The heavy binary: what needs burn. The front end starts it with its own arguments.

use std::process::ExitCode;

use anyhow::{Result, bail};
use burn_memopt::memory::CountingAllocator;
use clap::Parser;
use xtask::cli::{Cli, Command};
use xtask::settings::UsageError;
use xtask::{advise, bench, infer, inpaint, monitor, plan, train, weights};

/// Counts live and peak bytes, for progress, summaries and artifacts.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            let is_usage = error.chain().any(|cause| cause.is::<UsageError>());
            if is_usage {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Train(args) => train::train(&args.into_model()),
        Command::Infer(args) => infer::run(&args),
        Command::Inpaint(args) => {
            args.check().unwrap_or_else(|wrong| wrong.exit());
            inpaint::run(&args)
        }
        Command::Advise(args) => advise::run(&args),
        Command::Monitor(args) => monitor::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Weights(args) => weights::run(&args),
        Command::Bench(args) => bench::run(&args),
        _ => bail!("this is no command of the runner; start it with cargo xtask"),
    }
}
