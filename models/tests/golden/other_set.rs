//! Another golden set, with which the tests of this program run again: what they know about the sizes,
//! counts and constants of the set in the repository would fail there. Test crates include this file as they
//! include `harness.rs`.
#![allow(dead_code, reason = "each crate uses a part")]

use std::fs;
use std::path::Path;
use std::process::Command;

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Map, json};
use tempfile::TempDir;

/// Shape and values of a tensor.
pub enum Values {
    Floats(Vec<usize>, Vec<f32>),
    Bytes(Vec<usize>, Vec<u8>),
}

impl Values {
    /// Values of f64 in f32.
    pub fn floats(shape: &[usize], values: impl IntoIterator<Item = f64>) -> Self {
        let values = values.into_iter().map(|value| value as f32);
        Self::Floats(shape.to_vec(), values.collect())
    }
}

/// A folder in the layout of a golden set.
pub struct OtherSet {
    folder: TempDir,
}

impl OtherSet {
    /// A set without a case.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("cases")).expect("a folder");
        Self { folder }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Adds a case, whose settings are in its description.
    pub fn write<const N: usize>(
        &self,
        name: &str,
        description: &str,
        tensors: [(&str, Values); N],
    ) {
        let tensors = tensors.map(|(name, values)| match values {
            Values::Floats(shape, values) => {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes());
                (name, Dtype::F32, shape, bytes.collect())
            }
            Values::Bytes(shape, bytes) => (name, Dtype::U8, shape, bytes),
        });
        let notes = tensors
            .iter()
            .map(|(name, ..)| (name.to_string(), json!({})));
        let description = json!({
            "case": name,
            "description": description,
            "tolerance": 1e-5,
            "salt": "",
            "tensors": notes.collect::<Map<_, _>>(),
        });
        let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
            let view = TensorView::new(*dtype, shape.clone(), bytes);
            (*name, view.expect("as many bytes as the shape says"))
        });
        let bytes = safetensors::serialize(views, None).expect("it can be written");
        let cases = self.path().join("cases");
        fs::write(cases.join(format!("{name}.safetensors")), bytes).expect("it can be written");
        let description = description.to_string();
        fs::write(cases.join(format!("{name}.json")), description).expect("it can be written");
    }

    /// Runs one test of this program with this set.
    pub fn check(&self, test: &str) {
        let program = std::env::current_exe().expect("the program of the test");
        let output = Command::new(program)
            .env("BURN_MEMOPT_GOLDEN", self.path())
            .args([test, "--exact", "--nocapture"])
            .output()
            .expect("the test runs");
        let text =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{test} fails with another set:\n{text}"
        );
        assert!(
            text.contains("1 passed"),
            "there is no test {test}:\n{text}"
        );
    }
}
