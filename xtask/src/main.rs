//! The front end: parses, then delegates.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use xtask::cli::{Cli, Command, InferModel, Program};
use xtask::device::{Backend, DeviceChoice};
use xtask::{cargo, downstream, tidy};

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Program(program) => run_program(program),
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
fn run_program(program: Program) -> Result<ExitCode> {
    match program {
        Program::Train(args) => {
            let model = args.into_model();
            let flags = model.run();
            let file = match &flags.resume {
                Some(dir) => Some(dir.join("config.json")),
                None => flags.config.clone(),
            };
            cargo::run_program(flags.device, file.as_deref(), &flags.features)
        }
        Program::Infer(args) => {
            let InferModel::Unet(flags) = args.model;
            cargo::run_program(flags.device, flags.config.as_deref(), &flags.features)
        }
        Program::Inpaint(args) => {
            // Before anything heavy is compiled.
            args.check().unwrap_or_else(|wrong| wrong.exit());
            cargo::run_program(args.device, None, &args.features)
        }
        Program::Advise(args) => cargo::run_program(args.device, None, &args.features),
        Program::Monitor(args) => cargo::run_program(args.device, None, &args.features),
        Program::Plan(args) => {
            let (device, features) = args.model.target();
            cargo::run_program(device, None, features)
        }
        Program::Weights(_) => {
            // Whatever computes elsewhere, files are read on the CPU.
            cargo::run_program(Some(DeviceChoice::on(Backend::Flex)), None, &[])
        }
        Program::Bench(args) => {
            if args.criterion {
                cargo::criterion()?;
            }
            cargo::run_program(args.device, None, &args.features)
        }
    }
}
