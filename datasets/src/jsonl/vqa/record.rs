//! The fields of a record.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor,
};

use super::VqaConfig;

/// A question about an image, its answers, and the name of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VqaRecord {
    /// Path of the image, as the record names it.
    pub image: String,
    /// The question.
    pub question: String,
    /// The answers; numbers, `true` and `false` as text.
    pub answers: Vec<String>,
}

/// Reads the fields that `VqaConfig` names, and passes over all others without keeping
/// them: a record costs what its three fields do, however many it has.
pub(super) struct Fields<'a>(pub &'a VqaConfig);

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = VqaRecord;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<VqaRecord, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = VqaRecord;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VqaConfig {
            image_field,
            question_field,
            ..
        } = self.0;
        write!(
            f,
            "an object with the fields `{image_field}` and `{question_field}`"
        )
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<VqaRecord, A::Error> {
        let config = self.0;
        let (mut image, mut question, mut answers) = (None, None, None);
        while let Some(field) = map.next_key::<String>()? {
            if field == config.image_field {
                set(&mut image, &field, map.next_value::<String>()?)?;
            } else if field == config.question_field {
                set(&mut question, &field, map.next_value::<String>()?)?;
            } else if Some(&field) == config.answer_field.as_ref() {
                let mut found = Vec::new();
                let to = &mut found;
                map.next_value_seed(Answers {
                    to,
                    level: Level::Field,
                })?;
                set(&mut answers, &field, found)?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        let answers = match &config.answer_field {
            Some(field) => needed(answers, field)?,
            None => Vec::new(),
        };
        Ok(VqaRecord {
            image: needed(image, &config.image_field)?,
            question: needed(question, &config.question_field)?,
            answers,
        })
    }
}

fn set<T, E: Error>(slot: &mut Option<T>, field: &str, value: T) -> Result<(), E> {
    match slot.replace(value) {
        Some(_) => Err(E::custom(format_args!("the field `{field}` stands twice"))),
        None => Ok(()),
    }
}

fn needed<T, E: Error>(value: Option<T>, field: &str) -> Result<T, E> {
    value.ok_or_else(|| E::custom(format_args!("the field `{field}` is missing")))
}

/// One answer, or a list of them, added to others. An answer may be an object with `answer`, as in
/// VQA v2.
struct Answers<'a> {
    to: &'a mut Vec<String>,
    level: Level,
}

/// Where an answer is: lists are in fields only, and objects not in each other.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Field,
    List,
    Object,
}

/// The field of an answer that is an object.
const ANSWER: &str = "answer";

impl<'de> DeserializeSeed<'de> for Answers<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Answers<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer: text, a number, true or false")?;
        match self.level {
            Level::Field => f.write_str(", an object with `answer`, or a list of answers"),
            Level::List => f.write_str(", or an object with `answer`"),
            Level::Object => Ok(()),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut found = None;
        if self.level != Level::Object {
            while let Some(field) = map.next_key::<String>()? {
                if field != ANSWER {
                    map.next_value::<IgnoredAny>()?;
                    continue;
                }
                let to = &mut *self.to;
                map.next_value_seed(Answers {
                    to,
                    level: Level::Object,
                })?;
                set(&mut found, ANSWER, ())?;
            }
        }
        found.ok_or_else(|| A::Error::invalid_type(Unexpected::Map, &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if self.level != Level::Field {
            return Err(A::Error::invalid_type(Unexpected::Seq, &self));
        }
        loop {
            let to = &mut *self.to;
            let element = Answers {
                to,
                level: Level::List,
            };
            if list.next_element_seed(element)?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.to.push(text.into());
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.visit_str(&value.to_string())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.visit_str(&value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.visit_str(&value.to_string())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.visit_str(&value.to_string())
    }
}
