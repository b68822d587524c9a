//! Reads the golden cases and compares tensors with them.
//!
//! Test crates of the whole workspace include this file with `#[path]`; each uses a part of it. Sizes,
//! counts and constants come from the case, so that another set of the same layout passes too.
#![allow(dead_code, unused_imports, reason = "each crate uses a part")]

#[path = "comparison.rs"]
mod comparison;

use std::collections::HashMap;
use std::path::PathBuf;

use burn::tensor::{Device, Int, Tensor, TensorData};
pub use comparison::Comparison;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// The folder of the fixtures: `BURN_MEMOPT_GOLDEN`, or the copy in the repository.
pub fn root() -> PathBuf {
    match std::env::var_os("BURN_MEMOPT_GOLDEN") {
        Some(folder) => folder.into(),
        None => PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/tests/golden"),
    }
}

/// Reads a JSON file of the fixtures.
pub fn json(path: &str) -> Value {
    let path = root().join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path:?}: {e}"))
}

/// One stored tensor.
enum Stored {
    Float(Vec<f32>),
    Int(Vec<i64>),
}

/// One case: its description and its tensors.
pub struct Case {
    /// Name of the case, the stem of its files.
    pub name: String,
    description: Value,
    tensors: HashMap<String, (Vec<usize>, Stored)>,
}

impl Case {
    /// Reads `cases/<name>.json` and `cases/<name>.safetensors`; panics if the set has no such case.
    pub fn open(name: &str) -> Self {
        let path = root().join(format!("cases/{name}.safetensors"));
        let bytes = std::fs::read(&path)
            .unwrap_or_else(|e| panic!("the golden set has no case {name}: {path:?}: {e}"));
        let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("{path:?}: {e}"));
        let tensors = file
            .tensors()
            .into_iter()
            .map(|(name, view)| {
                let stored = decode(view.dtype(), view.data());
                (name, (view.shape().to_vec(), stored))
            })
            .collect();
        Self {
            name: name.into(),
            description: json(&format!("cases/{name}.json")),
            tensors,
        }
    }

    /// The salt of the parameter fill.
    pub fn salt(&self) -> &str {
        self.description["salt"].as_str().unwrap_or_default()
    }

    /// The name of the gain table of the parameter fill.
    pub fn gain_table(&self) -> &str {
        self.description["gain_tables"][0]
            .as_str()
            .unwrap_or_default()
    }

    /// A parameter of the case by JSON pointer without the leading slash, such as `hyper/lr`.
    pub fn param(&self, pointer: &str) -> Option<&Value> {
        let found = self.description["params"].pointer(&format!("/{pointer}"));
        found.filter(|value| !value.is_null())
    }

    /// A number among the parameters.
    pub fn number(&self, pointer: &str) -> Option<f64> {
        self.param(pointer).and_then(Value::as_f64)
    }

    /// A number the case cannot do without.
    pub fn require(&self, pointer: &str) -> f64 {
        let number = self.number(pointer);
        number.unwrap_or_else(|| panic!("{}: no number params/{pointer}", self.name))
    }

    /// A boolean among the parameters, `false` where it is absent.
    pub fn flag(&self, pointer: &str) -> bool {
        self.param(pointer).and_then(Value::as_bool) == Some(true)
    }

    /// A word among the parameters, in lower case.
    pub fn word(&self, pointer: &str) -> Option<String> {
        let word = self.param(pointer).and_then(Value::as_str);
        word.map(str::to_lowercase)
    }

    /// The numbers that the description of the case or the note of a tensor states after `key`, such
    /// as 0.5 and 1 after `starts at` in `p starts at [0.5,1]; lr 0.01`.
    pub fn stated(&self, key: &str) -> Vec<f64> {
        let notes = self.names("");
        let notes = notes.iter().map(|name| self.note(name));
        let description = self.description["description"].as_str().unwrap_or_default();
        let stated = notes.chain([description]).find_map(|text| {
            let numbers = numbers_after(text, key);
            (!numbers.is_empty()).then_some(numbers)
        });
        stated.unwrap_or_else(|| panic!("{}: states no number after {key:?}", self.name))
    }

    /// The note of a tensor, empty if it has none.
    pub fn note(&self, tensor: &str) -> &str {
        let note = &self.description["tensors"][tensor]["note"];
        note.as_str().unwrap_or_default()
    }

    /// Names of all tensors that start with `prefix`, sorted.
    pub fn names(&self, prefix: &str) -> Vec<&str> {
        let mut names: Vec<&str> = self.tensors.keys().map(String::as_str).collect();
        names.retain(|name| name.starts_with(prefix));
        names.sort_unstable();
        names
    }

    /// The list in the note of `tensor`, such as the parameters whose norms it holds.
    pub fn note_list(&self, tensor: &str) -> Vec<String> {
        let note = &self.description["tensors"][tensor]["note"];
        if let Some((_, names)) = note.as_str().and_then(|note| note.split_once("order: ")) {
            return names.split(", ").map(Into::into).collect();
        }
        let list = note
            .as_array()
            .unwrap_or_else(|| panic!("{}: {tensor} has no list as its note", self.name));
        list.iter()
            .map(|name| name.as_str().expect("a note of names").into())
            .collect()
    }

    /// Shape of a stored tensor.
    pub fn shape(&self, name: &str) -> &[usize] {
        &self.stored(name).0
    }

    /// A float tensor's values.
    pub fn floats(&self, name: &str) -> &[f32] {
        match &self.stored(name).1 {
            Stored::Float(values) => values,
            Stored::Int(_) => panic!("{}: {name} holds integers", self.name),
        }
    }

    /// An integer or boolean tensor's values.
    pub fn ints(&self, name: &str) -> &[i64] {
        match &self.stored(name).1 {
            Stored::Int(values) => values,
            Stored::Float(_) => panic!("{}: {name} holds floats", self.name),
        }
    }

    /// A float tensor on `device`.
    pub fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let data = TensorData::new(self.floats(name).to_vec(), self.shape(name));
        Tensor::from_data(data, device)
    }

    /// An integer tensor on `device`.
    pub fn int_tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D, Int> {
        let data = TensorData::new(self.ints(name).to_vec(), self.shape(name));
        Tensor::from_data(data, device)
    }

    /// Stored 8-bit frames `[frames, height, width, 3]` on `device`, as a clip in [-1, 1]:
    /// `[1, frames, 3, height, width]`.
    pub fn clip(&self, name: &str, device: &Device) -> Tensor<5> {
        let bytes = self.ints(name).iter().map(|&byte| byte as f32);
        let data = TensorData::new(bytes.collect(), self.shape(name));
        let frames = Tensor::<4>::from_data(data, device).permute([0, 3, 1, 2]);
        (frames / 255.0 * 2.0 - 1.0).unsqueeze()
    }

    /// The tolerance of a tensor relative to its largest stored value.
    pub fn tolerance(&self, name: &str) -> f64 {
        let own = self.description["tensors"][name]["tolerance"].as_f64();
        own.or_else(|| self.description["tolerance"].as_f64())
            .unwrap_or_else(|| panic!("{}: {name} has no tolerance", self.name))
    }

    fn stored(&self, name: &str) -> &(Vec<usize>, Stored) {
        let found = self.tensors.get(name);
        found.unwrap_or_else(|| panic!("{}: no tensor {name}", self.name))
    }
}

/// The list of numbers behind `key`, which must be whole words of `text`.
fn numbers_after(text: &str, key: &str) -> Vec<f64> {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    let places = text.match_indices(key).map(|(start, _)| start);
    let lists = places.filter_map(|start| {
        let (before, after) = (&text[..start], &text[start + key.len()..]);
        let is_word = !before.ends_with(in_word) && !after.starts_with(in_word);
        is_word.then(|| after.trim_start_matches([' ', '[', '(']))
    });
    let mut numbers = lists.map(|list| {
        let end = list.find(|c: char| c.is_alphabetic() && c != 'e' || "];()".contains(c));
        let mut numbers = Vec::new();
        for item in list[..end.unwrap_or(list.len())].split(',') {
            let mut words = item.split_whitespace();
            let Some(number) = words.next().and_then(|word| word.parse().ok()) else {
                break;
            };
            numbers.push(number);
            if words.next().is_some() {
                break;
            }
        }
        numbers
    });
    numbers
        .find(|numbers| !numbers.is_empty())
        .unwrap_or_default()
}

/// The number behind `key` in the name of a tensor, such as 4 behind `_stride` in `flow_stride4_f`.
pub fn number_in<T: std::str::FromStr>(name: &str, key: &str) -> Option<T> {
    let (_, rest) = name.rsplit_once(key)?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

fn decode(dtype: Dtype, bytes: &[u8]) -> Stored {
    match dtype {
        Dtype::F32 => Stored::Float(chunks(bytes, f32::from_le_bytes)),
        Dtype::F64 => Stored::Float(chunks(bytes, |b| f64::from_le_bytes(b) as f32)),
        Dtype::I64 => Stored::Int(chunks(bytes, i64::from_le_bytes)),
        Dtype::I32 => Stored::Int(chunks(bytes, |b| i32::from_le_bytes(b).into())),
        Dtype::U8 | Dtype::BOOL => Stored::Int(bytes.iter().map(|&b| b.into()).collect()),
        other => panic!("stored tensors of type {other:?} are not read yet"),
    }
}

fn chunks<const N: usize, T>(bytes: &[u8], convert: impl Fn([u8; N]) -> T) -> Vec<T> {
    let (chunks, rest) = bytes.as_chunks::<N>();
    assert!(rest.is_empty(), "a stored tensor ends within an element");
    chunks.iter().map(|&chunk| convert(chunk)).collect()
}
