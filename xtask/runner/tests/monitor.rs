//! `monitor` as a user meets it: the real runner, one process a test.

#[path = "../../tests/process/mod.rs"]
mod process;

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_burn-memopt"));
    command
        .arg("monitor")
        .args(args)
        .args(["--device", "flex"])
        .env_remove("BURN_MEMOPT_DEVICE");
    command
}

fn monitor(args: &[&str]) -> Output {
    process::output(&mut command(args))
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whoever installed the program has no `cargo xtask`.
#[test]
fn the_help_of_the_program_names_the_program_alone() {
    for args in [
        &["--help"][..],
        &["train", "unet", "--help"],
        &["infer", "unet", "--help"],
        &["inpaint", "--help"],
        &["plan", "unet", "--help"],
    ] {
        let output = process::output(Command::new(env!("CARGO_BIN_EXE_burn-memopt")).args(args));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let help = stdout(&output);
        assert!(help.contains("Usage: burn-memopt"), "{help}");
        assert!(!help.contains("xtask"), "{help}");
    }
}

#[test]
fn one_look_is_one_table() {
    let output = monitor(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let table = stdout(&output);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[1].starts_with("host") && lines[1].contains("iB"));
    assert!(lines[2].starts_with("process"));
}

#[test]
fn every_look_appends_a_row_and_json_is_one_object() {
    let dir = tempfile::tempdir().expect("a folder");
    let csv = dir.path().join("memory.csv");
    for _ in 0..2 {
        let output = monitor(&["--json", "--csv", csv.to_str().expect("UTF-8")]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let look: Value = serde_json::from_str(&stdout(&output)).expect("one object");
        assert!(
            look["memory"]["host_total"]
                .as_u64()
                .is_some_and(|total| total > 1 << 20)
        );
    }
    let table = fs::read_to_string(&csv).expect("the table");
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[0].starts_with("unix_seconds,"));
    assert!(lines[2].split(',').count() == lines[0].split(',').count());
}

#[test]
fn a_process_that_is_not_there_is_an_error() {
    let output = monitor(&["--pid", "4294967294"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("4294967294"),
        "{}",
        stderr(&output)
    );
    assert!(output.stdout.is_empty());
}

#[test]
fn a_file_that_is_something_else_is_left_as_it_is() {
    let dir = tempfile::tempdir().expect("a folder");
    let notes = dir.path().join("notes.txt");
    fs::write(&notes, "dear diary\n").expect("a file");
    let output = monitor(&["--csv", notes.to_str().expect("UTF-8")]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("notes.txt"), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(&notes).expect("a file"), "dear diary\n");
}

#[cfg(unix)]
mod watching {
    use std::io::{BufRead, BufReader, Read};
    use std::process::{Child, Stdio};

    use rstest::rstest;

    use super::*;

    fn send(signal: &str, child: &Child) {
        let id = child.id().to_string();
        let status = Command::new("kill").args([signal, &id]).status();
        assert!(status.expect("the signal is sent").success());
    }

    #[rstest]
    #[case::ctrl_c("-INT")]
    #[case::terminated("-TERM")]
    fn it_ends_well_on_request_and_leaves_the_table_whole(#[case] signal: &str) {
        let dir = tempfile::tempdir().expect("a folder");
        let csv = dir.path().join("memory.csv");
        let csv_arg = csv.to_str().expect("UTF-8");
        let args = ["--watch", "--interval", "0.02", "--json", "--csv", csv_arg];
        let (mut child, _watchdog) = process::spawn(command(&args).stdout(Stdio::piped()));
        let mut looks = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        for _ in 0..3 {
            let look = looks.next().expect("a look").expect("text");
            serde_json::from_str::<Value>(&look).expect("an object");
        }
        send(signal, &child);
        let num_looks = 3 + looks.inspect(|look| assert!(look.is_ok())).count();
        assert_eq!(child.wait().expect("it ends").code(), Some(0));
        let table = fs::read_to_string(&csv).expect("the table");
        assert!(table.ends_with('\n'));
        assert_eq!(table.lines().count(), 1 + num_looks);
        let num_fields = |line: &str| line.split(',').count();
        assert!(
            table
                .lines()
                .all(|line| num_fields(line) == num_fields("a,b,c,d,e")),
            "{table}"
        );
    }

    #[test]
    fn it_ends_with_the_process_that_it_watches() {
        let mut watched = Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep starts");
        let id = watched.id().to_string();
        let args = ["--watch", "--interval", "0.02", "--json", "--pid", &id];
        let mut command = command(&args);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let (mut child, _watchdog) = process::spawn(command);
        let mut looks = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut first = String::new();
        looks.read_line(&mut first).expect("a look");
        let look: Value = serde_json::from_str(&first).expect("an object");
        assert_eq!(look["process"], watched.id());
        assert!(look["memory"]["live"].is_null());
        watched.kill().expect("it is killed");
        watched.wait().expect("it ends");
        let mut rest = String::new();
        looks.read_to_string(&mut rest).expect("text");
        let mut said = String::new();
        child
            .stderr
            .take()
            .expect("a pipe")
            .read_to_string(&mut said)
            .expect("text");
        assert_eq!(child.wait().expect("it ends").code(), Some(0), "{said}");
        assert!(said.contains("has ended"), "{said}");
    }

    #[test]
    fn it_ends_when_nobody_reads_any_more() {
        let args = ["--watch", "--interval", "0.02", "--json"];
        let (mut child, _watchdog) = process::spawn(command(&args).stdout(Stdio::piped()));
        let mut looks = BufReader::new(child.stdout.take().expect("a pipe"));
        looks.read_line(&mut String::new()).expect("a look");
        drop(looks);
        assert_eq!(child.wait().expect("it ends").code(), Some(0));
    }
}
