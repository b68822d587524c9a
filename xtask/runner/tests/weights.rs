//! `weights` as a user meets it: the real runner on checkpoints with the layout of the published
//! ones, in which every float tensor has one value of its own.

mod run_output;

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::bufread::GzDecoder;
use run_output::Run;
use tempfile::TempDir;

/// A folder with a checkpoint under a name.
fn checkpoint(folder: &TempDir, golden: &str, name: &str) -> PathBuf {
    let root = match std::env::var_os("BURN_MEMOPT_GOLDEN") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/tests/golden"),
    };
    let packed = File::open(root.join(format!("pth/{golden}.pth.gz"))).expect("a checkpoint");
    let path = folder.path().join(name);
    let mut file = File::create(&path).expect("a file");
    io::copy(&mut GzDecoder::new(BufReader::new(packed)), &mut file).expect("it unpacks");
    path
}

fn weights(args: &[&str]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_burn-memopt"));
    command.arg("weights").args(args);
    Run::new(&mut command)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

#[test]
fn every_published_checkpoint_is_verified_and_told_tensor_by_tensor() {
    let folder = tempfile::tempdir().expect("a folder");
    let names = ["raft-things", "recurrent_flow_completion", "ProPainter"];
    let paths = names.map(|name| checkpoint(&folder, name, &format!("{name}.pth")));
    let [raft, completion, generator] = [0, 1, 2].map(|index| text(&paths[index]));
    let run = weights(&["verify", "--json", raft, completion, generator]).succeeded();
    assert_eq!(run.events.len(), 3);
    for (report, name) in run.events.iter().zip(names) {
        assert_eq!(report["network"], name);
        let tensors = report["tensors"].as_array().expect("tensors");
        assert_eq!(report["num_tensors"], tensors.len());
        let floats = tensors.iter().filter(|row| row["dtype"] == "f32");
        let floats: Vec<_> = floats.collect();
        assert!(floats.len() > tensors.len() / 2);
        let mut values = HashSet::new();
        for row in &floats {
            let of = |key: &str| row[key].as_f64().expect("a number");
            assert!((of("mean").abs() - of("absmax")).abs() < 1e-6, "{row}");
            values.insert(of("absmax").to_bits());
        }
        assert_eq!(values.len(), floats.len(), "each has a value of its own");
    }
}

#[test]
fn converted_weights_are_read_back_and_found_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    // No name that tells: recognised by what it holds.
    let input = checkpoint(&folder, "raft-things.legacy", "downloaded.pt");
    let output = folder.path().join("raft-things.safetensors");
    let run = weights(&["convert", text(&input), "--output", text(&output), "--json"]);
    let report = &run.succeeded().events[0];
    assert_eq!(report["network"], "raft-things");
    assert_eq!(report["num_compared"], report["num_values"]);
    let again = weights(&["verify", "--json", text(&output)]).succeeded();
    assert_eq!(again.events[0]["tensors"], report["tensors"]);
    weights(&["convert", text(&output), "--output", text(&output)])
        .failed(1, &["must be another file"]);
    weights(&["convert", text(&input), "--output", "raft.pth"])
        .failed(2, &["must end in .safetensors"]);
}

#[test]
fn what_does_not_fit_is_refused_with_every_difference_and_what_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let misnamed = checkpoint(&folder, "recurrent_flow_completion", "ProPainter.pth");
    let missing = folder.path().join("nowhere.pth");
    let cut = folder.path().join("raft-things.pth");
    let bytes = fs::read(&misnamed).expect("a checkpoint");
    fs::write(&cut, &bytes[..bytes.len() / 2]).expect("a file");
    weights(&["verify", text(&misnamed)]).failed(
        1,
        &[
            "holds the weights of recurrent_flow_completion, not of ProPainter",
            "missing",
            "ss.embedding.weight",
            "unexpected",
            "mid_dilation.0.weight",
        ],
    );
    weights(&["verify", text(&misnamed), text(&missing), text(&cut)]).failed(
        1,
        &[
            "3 of 3 files",
            "nowhere.pth",
            "raft-things.pth: cannot read",
        ],
    );
    let network = ["--network", "recurrent_flow_completion"];
    weights(&["verify", text(&misnamed), network[0], network[1], "--json"]).succeeded();
    assert!(!folder.path().join("ProPainter.safetensors").exists());
}

#[cfg(unix)]
#[test]
fn paths_that_are_no_text_are_read_and_written() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let folder = tempfile::tempdir().expect("a folder");
    let path = checkpoint(&folder, "raft-things", "a.pth");
    let input = path.with_file_name(OsStr::from_bytes(b"\xe9.pth"));
    fs::rename(path, &input).expect("another name");
    let output = input.with_file_name(OsStr::from_bytes(b"\xff.safetensors"));
    let run = |args: [&OsStr; 4]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_burn-memopt"));
        Run::new(command.arg("weights").args(args)).succeeded()
    };
    let [verify, json] = ["verify", "--json"].map(OsStr::new);
    run([verify, json, input.as_ref(), input.as_ref()]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_burn-memopt"));
    command.args(["weights", "convert", "--json", "--output"]);
    Run::new(command.args([&output, &input])).succeeded();
    run([verify, json, output.as_ref(), output.as_ref()]);
}
