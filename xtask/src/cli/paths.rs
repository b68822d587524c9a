//! Paths among settings. On most systems they are bytes, not text; settings files are text.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serializer};

/// The last characters of Unicode, which have no meaning and are in no name: each is a byte that is
/// no text.
#[cfg(unix)]
const NO_TEXT: u32 = 0x10_ff00;

/// A path as text. [`from_text`] makes the same path of it, also where it is not UTF-8.
#[cfg(unix)]
pub fn to_text(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;

    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text += chunk.valid();
        let invalid = chunk
            .invalid()
            .iter()
            .map(|byte| NO_TEXT + u32::from(*byte));
        text.extend(invalid.filter_map(char::from_u32));
    }
    text
}

/// The path that [`to_text`] made text of.
#[cfg(unix)]
pub fn from_text(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;

    let mut bytes = Vec::new();
    for character in text.chars() {
        match u32::from(character).checked_sub(NO_TEXT) {
            Some(byte) => bytes.push(byte as u8),
            None => bytes.extend(character.encode_utf8(&mut [0; 4]).bytes()),
        }
    }
    std::ffi::OsString::from_vec(bytes).into()
}

/// A path as text.
#[cfg(not(unix))]
pub fn to_text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A path of text.
#[cfg(not(unix))]
pub fn from_text(text: &str) -> PathBuf {
    text.into()
}

/// Serialises a path as [`to_text`] does.
///
/// # Errors
/// If the serializer fails.
pub fn serialize<S: Serializer>(path: impl AsRef<Path>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&to_text(path.as_ref()))
}

/// Reads what [`serialize`] wrote.
///
/// # Errors
/// If it is no text.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    Ok(from_text(&String::deserialize(deserializer)?))
}

/// The same for a path that may be missing.
pub mod optional {
    use super::{Deserialize, Deserializer, PathBuf, Serializer, from_text, to_text};

    /// Serialises a path as [`to_text`] does, or nothing.
    ///
    /// # Errors
    /// If the serializer fails.
    pub fn serialize<S: Serializer>(
        path: &Option<PathBuf>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match path {
            Some(path) => serializer.serialize_some(&to_text(path)),
            None => serializer.serialize_none(),
        }
    }

    /// Reads what [`serialize`] wrote.
    ///
    /// # Errors
    /// If it is neither text nor nothing.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<PathBuf>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        Ok(text.as_deref().map(from_text))
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    #[test]
    fn any_bytes_come_back() {
        for bytes in [
            &b"data/a.tif"[..],
            b"caf\xe9/\xff\x80.tif",
            b"\xf0\x9f\x98\x80 \xf0\x9f",
            b"",
        ] {
            let path = Path::new(std::ffi::OsStr::from_bytes(bytes));
            assert_eq!(from_text(&to_text(path)), path);
        }
        assert_eq!(to_text(Path::new("a/b\u{e9}.tif")), "a/b\u{e9}.tif");
    }
}
