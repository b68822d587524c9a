//! The front end: parses, then delegates.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use xtask::cli::{Cli, Command, InferModel};
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
        Command::Train(args) => {
            let model = args.into_model();
            let flags = model.run();
            let file = match &flags.resume {
                Some(dir) => Some(dir.join("config.json")),
                None => flags.config.clone(),
            };
            cargo::run_runner(flags.device, file.as_deref(), &flags.features)
        }
        Command::Infer(args) => {
            let InferModel::Unet(flags) = args.model;
            cargo::run_runner(flags.device, flags.config.as_deref(), &flags.features)
        }
        Command::Inpaint(args) => {
            // Before anything heavy is compiled.
            args.check().unwrap_or_else(|wrong| wrong.exit());
            cargo::run_runner(args.device, None, &args.features)
        }
        Command::Advise(args) => cargo::run_runner(args.device, None, &args.features),
        Command::Monitor(args) => cargo::run_runner(args.device, None, &args.features),
        Command::Plan(args) => {
            let (device, features) = args.model.target();
            cargo::run_runner(device, None, features)
        }
        Command::Weights(_) => {
            // Whatever computes elsewhere, files are read on the CPU.
            cargo::run_runner(Some(DeviceChoice::on(Backend::Flex)), None, &[])
        }
        Command::Bench(args) => {
            if args.criterion {
                cargo::criterion()?;
            }
            cargo::run_runner(args.device, None, &args.features)
        }
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
