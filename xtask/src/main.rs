//! The front end: parses, then delegates.

use std::process::ExitCode;

use anyhow::Result;
use clap::CommandFactory;
use xtask::cli::{self, Cli, Command, Program};
use xtask::{cargo, downstream, tidy};

fn main() -> ExitCode {
    match run(cli::parse::<Cli>().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Program(program) => run_program(&program),
        Command::Test(args) => cargo::test(args.no_gpu, args.filter.as_deref()),
        Command::Golden(args) => cargo::test(
            args.no_gpu,
            Some(args.filter.as_deref().unwrap_or("golden")),
        ),
        Command::Check(args) => cargo::check(args.no_gpu),
        Command::Downstream => downstream::run(),
        Command::Tidy => tidy::run(&cargo::workspace_root()),
    }
}

/// Builds the program for the device that the flags ask for, and becomes it.
fn run_program(program: &Program) -> Result<ExitCode> {
    match program {
        // Before anything heavy is compiled.
        Program::Inpaint(args) => args
            .check(Cli::command())
            .unwrap_or_else(|wrong| wrong.exit()),
        Program::Bench(args) if args.criterion => cargo::criterion()?,
        _ => {}
    }
    cargo::run_program(&program.target())
}
