//! The program `burn-memopt`: every command that computes.
//!
//! `cargo xtask` parses the same flags, builds this binary in release mode with the backend that
//! was asked for, and becomes it. Installed with `cargo install --path xtask/runner` it needs no
//! clone of the repository.

use std::process::ExitCode;

use anyhow::Result;
use burn_memopt::batch::Failure;
use burn_memopt::memory::CountingAllocator;
use clap::{CommandFactory, Parser};
use xtask::{choices, cli};

use crate::cli::Program;
use crate::report::{StdoutClosed, causes, note};
use crate::settings::UsageError;

mod advise;
mod bench;
mod device;
mod infer;
mod inpaint;
mod interrupt;
mod monitor;
mod plan;
mod report;
mod run_dir;
mod settings;
mod train;
mod weights;

/// The flags of the program.
#[derive(Debug, Parser)]
#[command(name = "burn-memopt", version, about = cli::ABOUT, after_help = cli::EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    program: Program,
}

/// The exit code of a panic.
const FAULT: i32 = 101;

/// Counts live and peak bytes, for progress, summaries and artifacts.
#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

fn main() -> ExitCode {
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        // What a panic says is said below, or where it is caught, without its place in the source.
        std::panic::set_hook(Box::new(|_| {}));
    }
    let ran = std::panic::catch_unwind(|| run(cli::parse::<Cli>().program));
    let ended = ran.unwrap_or_else(|panic| {
        let why = Failure::panic_text(&*panic);
        note(format_args!(
            "error: {why}\nThis is a fault of the program: please report it, with what the same \
             command says when RUST_BACKTRACE=1 is set"
        ));
        std::process::exit(FAULT)
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<StdoutClosed>() => ExitCode::SUCCESS,
        Err(error) => {
            note(format_args!("error: {}", causes(&error)));
            let is_usage = error.chain().any(|cause| cause.is::<UsageError>());
            if is_usage {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn run(program: Program) -> Result<()> {
    match program {
        Program::Train(args) => train::train(&args.into_model()),
        Program::Evaluate(args) => train::evaluate(&args),
        Program::Quantize(args) => train::quantize(&args),
        Program::Infer(args) => infer::run(&args),
        Program::Inpaint(args) => {
            args.check(Cli::command())
                .unwrap_or_else(|wrong| wrong.exit());
            inpaint::run(&args)
        }
        Program::Advise(args) => advise::run(&args),
        Program::Monitor(args) => monitor::run(&args),
        Program::Plan(args) => plan::run(&args),
        Program::Weights(args) => weights::run(&args),
        Program::Bench(args) => bench::run(&args),
    }
}
