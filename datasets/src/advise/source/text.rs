//! What JSON Lines take, with and without images.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use burn_memopt::memory::Bytes;
use flate2::bufread::MultiGzDecoder;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{DataSource, SourceError, SourceKind, file_bytes, spread};
use crate::{
    advise::{Access, DatasetBytes, ItemBytes},
    jsonl::{
        JsonlConfig, JsonlError, JsonlRecord, JsonlRecords, JsonlStream, VqaConfig, VqaItem,
        VqaStream,
    },
    stream::StreamingDataset,
    with_causes,
};

/// Text that is read from the front of a file: 8 MiB.
const FRONT_LEN: u64 = 8 << 20;

/// Records, or questions about images where they are such.
pub(super) fn open(
    path: &Path,
    is_gzip: bool,
    images: Option<&Path>,
) -> Result<DataSource, SourceError> {
    let front = Front::read(path, is_gzip)?;
    let first = front.first_whole(path)?;
    if let Some(config) = vqa_config(&first, images) {
        return front.questions(&VqaStream::open(path, &config)?);
    }
    if images.is_some() {
        return Err(SourceError::Companion {
            companion: "images",
            why: format!(
                "belongs to records with the fields `image` and `question`, which those of {} \
                 have not",
                path.display()
            ),
        });
    }
    let records = JsonlStream::<Value>::open(path)?;
    let about = format!("{} records", front.number());
    Ok(front.into_source(SourceKind::Jsonl, about, |record| {
        records.item_bytes(record)
    }))
}

/// The first records of a file, which represent the others.
struct Front {
    records: Vec<JsonlRecord>,
    /// Which of them are no JSON, in ascending order.
    broken: Vec<usize>,
    /// What is wrong with the first of those.
    notes: Vec<String>,
    is_gzip: bool,
    /// Bytes of the file.
    stored: Bytes,
    /// Records of the whole file: exact if the front is all of it, else an estimate from the
    /// length; unknown of what is compressed.
    num_records: Option<u64>,
    is_whole: bool,
}

impl Front {
    fn read(path: &Path, is_gzip: bool) -> Result<Self, SourceError> {
        let stored = file_bytes(path)?;
        let (mut records, mut end, mut is_whole) = (Vec::new(), 0, true);
        for record in JsonlRecords::open(path, JsonlConfig::new().max_line_len, 0)? {
            let record = record?;
            end = record.offset + record.text.len() as u64 + 1;
            records.push(record);
            if end >= FRONT_LEN {
                is_whole = end >= stored.get() && !is_gzip;
                break;
            }
        }
        if records.is_empty() {
            let message = format!("{} holds no record, only blank lines", path.display());
            return Err(SourceError::NoDataset(message));
        }
        // An array in the first line alone is a whole file; one in every line is a record.
        if let [only] = records.as_slice()
            && is_whole
            && only.begins_array_of_records()
        {
            return Err(JsonlError::JsonArray { path: path.into() }.into());
        }
        let (broken, notes) = broken(path, is_gzip, &records)?;
        let seen = records.len() as u64;
        let num_records = if is_whole {
            Some(seen)
        } else if is_gzip {
            None
        } else {
            let all = u128::from(seen) * u128::from(stored.get()) / u128::from(end);
            Some(u64::try_from(all).unwrap_or(u64::MAX))
        };
        Ok(Self {
            records,
            broken,
            notes,
            is_gzip,
            stored,
            num_records,
            is_whole,
        })
    }

    /// The first record that is JSON.
    fn first_whole(&self, path: &Path) -> Result<Value, SourceError> {
        let is_whole = |index: &usize| self.broken.binary_search(index).is_err();
        let first = (0..self.records.len()).find(is_whole).unwrap_or(0);
        Ok(self.records[first].parse(path)?)
    }

    /// How many records there are, for people.
    fn number(&self) -> String {
        match self.num_records {
            Some(number) if self.is_whole => number.to_string(),
            Some(number) => format!("about {number}"),
            None => "an unknown number of".into(),
        }
    }

    /// Questions; an image that cannot be read takes nothing, so a note says how many there are.
    fn questions(self, stream: &VqaStream<f32>) -> Result<DataSource, SourceError> {
        // What is no JSON has a note of its own.
        let seen: Vec<_> = spread(self.records.len())
            .filter(|index| self.broken.binary_search(index).is_err())
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
            let why = match stream.item(first) {
                Err(error) => SourceError::from(error),
                Ok(_) => SourceError::NoDataset("it has no pixels".into()),
            };
            if missing.len() == seen.len() {
                return Err(why);
            }
            notes.push(format!(
                "{} of {} images looked at cannot be read and are not counted: {}",
                missing.len(),
                seen.len(),
                with_causes(&why)
            ));
        }
        let about = format!("{} questions with images", self.number());
        let mut source =
            self.into_source(SourceKind::Vqa, about, |record| stream.item_bytes(record));
        source.notes.extend(notes);
        Ok(source)
    }

    fn into_source(
        self,
        kind: SourceKind,
        about: String,
        item_bytes: impl Fn(&JsonlRecord) -> u64,
    ) -> DataSource {
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
        let (access, mut notes) = if self.is_gzip {
            let record = bytes.mean_item().stored;
            let note = "compressed, so read from front to back; unpacked, in any order";
            (Access::Streamed { record }, vec![note.to_owned()])
        } else {
            (Access::Decoded, Vec::new())
        };
        notes.extend(self.notes);
        if !self.is_whole {
            let seen = self.records.len();
            notes.push(format!(
                "the first {seen} records were read; the others are taken to be like them"
            ));
        }
        DataSource {
            kind,
            about,
            access,
            bytes: bytes.with_stored(self.stored),
            items_seen,
            notes,
        }
    }
}

/// Records that are no JSON, and a note that names the first.
fn broken(
    path: &Path,
    is_gzip: bool,
    records: &[JsonlRecord],
) -> Result<(Vec<usize>, Vec<String>), SourceError> {
    let mut broken = Vec::new();
    let mut first = None;
    for (index, record) in records.iter().enumerate() {
        let Err(error) = record.parse::<IgnoredAny>(path) else {
            continue;
        };
        if let JsonlError::JsonArray { .. } = error {
            return Err(error.into());
        }
        broken.push(index);
        first.get_or_insert((record, error));
    }
    let Some((record, error)) = first else {
        return Ok((broken, Vec::new()));
    };
    let line = line_at(path, is_gzip, record.offset).map_err(|source| SourceError::Unreadable {
        path: path.into(),
        source,
    })?;
    let note = format!(
        "{} of {} records looked at cannot be read, the first in line {line}: {}",
        broken.len(),
        records.len(),
        with_causes(&error)
    );
    Ok((broken, vec![note]))
}

/// The line, from 1, at byte `offset` of the text.
fn line_at(path: &Path, is_gzip: bool, offset: u64) -> io::Result<u64> {
    let file = BufReader::new(File::open(path)?);
    let text: Box<dyn Read> = if is_gzip {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let mut before = Vec::new();
    text.take(offset).read_to_end(&mut before)?;
    Ok(1 + before.iter().filter(|&&byte| byte == b'\n').count() as u64)
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
