//! JSON Lines, with and without images.

use std::path::Path;

use anyhow::{Result, anyhow, bail};
use burn::data::dataset::DatasetError;
use burn_memopt::memory::Bytes;
use burn_memopt::memory::advise::Access;
use burn_memopt::memory::estimate::{DatasetBytes, ItemBytes};
use burn_memopt_datasets::jsonl::{JsonlRecord, JsonlStream, VqaConfig, VqaItem, VqaStream};
use burn_memopt_datasets::stream::StreamingDataset;
use serde_json::Value;

use super::{Source, SourceKind, file_bytes, is_gzip, spread};
use crate::settings::UsageError;

/// Text that is read from the front of a file: 8 MiB.
const FRONT_LEN: u64 = 8 << 20;

/// Records, or questions about images where they are such.
pub(super) fn open(path: &Path, start: &[u8], images: Option<&Path>) -> Result<Source> {
    let records = JsonlStream::<Value>::open(path)?;
    let front = Front::read(path, start, &records)?;
    let first = records.load(front.records[0].clone()).map_err(unwrapped)?;
    match vqa_config(&first, images) {
        Some(config) => front.questions(&VqaStream::open(path, &config)?),
        None if images.is_some() => Err(UsageError(format!(
            "--images belongs to records with the fields `image` and `question`, which those of {} \
             have not; leave it out",
            path.display()
        ))
        .into()),
        None => {
            let bytes = |record: &JsonlRecord| records.item_bytes(record);
            let about = format!("{} records", front.number());
            Ok(front.into_source(SourceKind::Jsonl, about, bytes))
        }
    }
}

/// The first records of a file, for which the others stand.
struct Front {
    records: Vec<JsonlRecord>,
    is_gzip: bool,
    /// Bytes of the file.
    stored: Bytes,
    /// Records of the whole file: exact if the front is all of it, else an estimate from the
    /// length; unknown of what is compressed.
    num_records: Option<u64>,
    is_whole: bool,
}

impl Front {
    fn read(path: &Path, start: &[u8], stream: &JsonlStream<Value>) -> Result<Self> {
        let (stored, is_gzip) = (file_bytes(path)?, is_gzip(start));
        let (mut records, mut end, mut is_whole) = (Vec::new(), 0, true);
        for record in stream.records(0).map_err(unwrapped)? {
            let record = record.map_err(unwrapped)?;
            end = record.offset + record.text.len() as u64 + 1;
            records.push(record);
            if end >= FRONT_LEN {
                is_whole = end >= stored.get() && !is_gzip;
                break;
            }
        }
        if records.is_empty() {
            bail!("{} holds no record, only blank lines", path.display());
        }
        let seen = records.len() as u64;
        let num_records = match is_gzip {
            _ if is_whole => Some(seen),
            true => None,
            false => {
                let all = u128::from(seen) * u128::from(stored.get()) / u128::from(end);
                Some(u64::try_from(all).unwrap_or(u64::MAX))
            }
        };
        Ok(Self {
            records,
            is_gzip,
            stored,
            num_records,
            is_whole,
        })
    }

    /// How many records there are, for people.
    fn number(&self) -> String {
        match self.num_records {
            Some(number) if self.is_whole => number.to_string(),
            Some(number) => format!("about {number}"),
            None => "an unknown number of".into(),
        }
    }

    /// Questions; an image that cannot be read takes nothing, so how many there are is told.
    fn questions(self, stream: &VqaStream<f32>) -> Result<Source> {
        let seen: Vec<_> = spread(self.records.len())
            .map(|index| &self.records[index])
            .collect();
        let without_image = |record: &&&JsonlRecord| {
            let text = record.text.len() + size_of::<VqaItem<f32>>();
            stream.item_bytes(record) <= text as u64
        };
        let missing: Vec<_> = seen.iter().filter(without_image).collect();
        let mut notes = Vec::new();
        if let Some(first) = missing.first() {
            // Loading says why there is no image.
            let why = stream.load((**first).clone()).err().map(unwrapped);
            let why = why.unwrap_or_else(|| anyhow!("it has no pixels"));
            if missing.len() == seen.len() {
                return Err(why);
            }
            let (missing, seen) = (missing.len(), seen.len());
            notes.push(format!(
                "{missing} of {seen} images looked at cannot be read and are not counted: {why:#}"
            ));
        }
        let about = format!("{} questions with images", self.number());
        let bytes = |record: &JsonlRecord| stream.item_bytes(record);
        let mut source = self.into_source(SourceKind::Vqa, about, bytes);
        source.notes.extend(notes);
        Ok(source)
    }

    fn into_source(
        self,
        kind: SourceKind,
        about: String,
        item_bytes: impl Fn(&JsonlRecord) -> u64,
    ) -> Source {
        let item = |index: usize| {
            let record = &self.records[index];
            ItemBytes {
                stored: Bytes::new(record.text.len() as u64 + 1),
                loaded: Bytes::new(item_bytes(record)),
            }
        };
        let seen: Vec<_> = spread(self.records.len()).map(item).collect();
        let items_seen = seen.len() as u64;
        let bytes = DatasetBytes::sampled(self.num_records, seen);
        let (access, mut notes) = match self.is_gzip {
            true => (
                Access::Streamed {
                    record: bytes.mean_item().stored,
                },
                vec!["compressed, so read from front to back; unpacked, in any order".to_owned()],
            ),
            false => (Access::Decoded, Vec::new()),
        };
        if !self.is_whole {
            let seen = self.records.len();
            notes.push(format!(
                "the first {seen} records were read; the others are taken to be like them"
            ));
        }
        Source {
            kind,
            about,
            access,
            bytes: bytes.with_stored(self.stored),
            items_seen,
            notes,
        }
    }
}

/// How to read records such as `record` as questions about images, if they are such.
fn vqa_config(record: &Value, images: Option<&Path>) -> Option<VqaConfig> {
    let config = VqaConfig::new();
    let has = |field: &str| record.get(field).is_some();
    let is_text = |field: &str| record.get(field).is_some_and(Value::is_string);
    if !is_text(&config.image_field) || !is_text(&config.question_field) {
        return None;
    }
    let answer_field = ["answer", "answers"].into_iter().find(|field| has(field));
    Some(
        config
            .with_answer_field(answer_field.map(str::to_owned))
            .with_root(images.map(Path::to_path_buf)),
    )
}

/// What lies in burn's error, which says the same as its cause.
fn unwrapped(error: DatasetError) -> anyhow::Error {
    let error = anyhow::Error::from(error);
    let causes: Vec<_> = error.chain().skip(1).map(ToString::to_string).collect();
    anyhow!(causes.join(": "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn questions_about_images_are_known_by_their_fields() {
        let read = |record: Value| vqa_config(&record, None);
        assert_eq!(read(json!({"text": "a", "image": "a.png"})), None);
        assert_eq!(read(json!({"image": 3, "question": "what?"})), None);
        assert_eq!(read(json!([1, 2])), None);
        let answers = |record| read(record).expect("a question").answer_field;
        let asked = json!({"image": "a.png", "question": "what?"});
        assert_eq!(answers(asked), None);
        let answered = json!({"image": "a.png", "question": "what?", "answers": ["that"]});
        assert_eq!(answers(answered).as_deref(), Some("answers"));
    }
}
