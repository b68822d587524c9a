//! The fields of a record that are a question about an image.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor,
};

use super::VqaConfig;

/// A question about an image, its answers, and the name of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VqaRecord {
    /// Path of the image, as it stands in the record.
    pub image: String,
    /// The question.
    pub question: String,
    /// The answers; numbers, `true` and `false` as text.
    pub answers: Vec<String>,
}

/// Reads the fields that `VqaConfig` names, and passes over all others without keeping
/// them: a record costs what its three fields do, however many it has.
pub(super) struct Fields<'a>(pub(super) &'a VqaConfig);

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
                    is_in_list: false,
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

/// One answer, or a list of them, added to others.
struct Answers<'a> {
    to: &'a mut Vec<String>,
    is_in_list: bool,
}

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
        match self.is_in_list {
            true => Ok(()),
            false => f.write_str(", or a list of answers"),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if self.is_in_list {
            return Err(A::Error::invalid_type(Unexpected::Seq, &self));
        }
        loop {
            let to = &mut *self.to;
            let element = Answers {
                to,
                is_in_list: true,
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
