//! Byte order and offset width: what the first bytes of a TIFF file say.

/// How numbers and directories are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) big_endian: bool,
    pub(super) big_tiff: bool,
}

impl Format {
    /// The unsigned number in `bytes` (at most eight of them).
    pub(super) fn number(self, bytes: &[u8]) -> u64 {
        let push = |number, byte: &u8| number << 8 | u64::from(*byte);
        match self.big_endian {
            true => bytes.iter().fold(0, push),
            false => bytes.iter().rev().fold(0, push),
        }
    }

    /// Appends `value` in `len` bytes.
    pub(super) fn push(self, bytes: &mut Vec<u8>, value: u64, len: usize) {
        match self.big_endian {
            true => bytes.extend(&value.to_be_bytes()[8 - len..]),
            false => bytes.extend(&value.to_le_bytes()[..len]),
        }
    }

    /// Bytes of the number of tags in a directory.
    pub(super) fn count_len(self) -> usize {
        if self.big_tiff { 8 } else { 2 }
    }

    /// Bytes of an offset, or of the values that fit into a tag.
    pub(super) fn word_len(self) -> usize {
        if self.big_tiff { 8 } else { 4 }
    }

    /// Bytes of a tag.
    pub(super) fn tag_len(self) -> usize {
        4 + 2 * self.word_len()
    }

    /// A header whose first page is the directory at `offset`.
    pub(super) fn header(self, offset: u64) -> Vec<u8> {
        let mut header = if self.big_endian { *b"MM" } else { *b"II" }.to_vec();
        if self.big_tiff {
            self.push(&mut header, 43, 2);
            self.push(&mut header, 8, 2);
            self.push(&mut header, 0, 2);
        } else {
            self.push(&mut header, 42, 2);
        }
        self.push(&mut header, offset, self.word_len());
        header
    }

    /// Parses the header; answers the format and the first directory's offset.
    pub(super) fn parse(head: &[u8]) -> Result<(Self, u64), String> {
        let big_endian = match head.get(..2) {
            Some(b"II") => false,
            Some(b"MM") => true,
            Some(other) => return Err(format!("it starts with the bytes {other:02x?}")),
            None => return Err(format!("it holds {} bytes", head.len())),
        };
        let order = Self {
            big_endian,
            big_tiff: false,
        };
        let field = |start: usize, len: usize| {
            let bytes = head.get(start..start + len);
            bytes
                .map(|bytes| order.number(bytes))
                .ok_or_else(|| "its header is cut off".to_string())
        };
        match field(2, 2)? {
            42 => Ok((order, field(4, 4)?)),
            43 if field(4, 2)? == 8 && field(6, 2)? == 0 => Ok((
                Self {
                    big_tiff: true,
                    ..order
                },
                field(8, 8)?,
            )),
            43 => Err("its BigTIFF header is corrupt".into()),
            version => Err(format!("its version number is {version}, not 42 or 43")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_parses_to_what_it_was_made_of() {
        for big_endian in [false, true] {
            for big_tiff in [false, true] {
                let format = Format {
                    big_endian,
                    big_tiff,
                };
                let parsed = Format::parse(&format.header(0x0102_0304));
                assert_eq!(parsed, Ok((format, 0x0102_0304)));
            }
        }
    }

    #[test]
    fn a_png_header_is_refused_by_its_first_bytes() {
        let error = Format::parse(b"\x89PNG\r\n\x1a\n").unwrap_err();
        assert_eq!(error, "it starts with the bytes [89, 50]");
    }
}
