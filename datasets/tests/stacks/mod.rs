//! TIFF stacks of any layout, built byte by byte.

// Every test program uses a part of it.
#![allow(dead_code)]

pub const SHORT: u16 = 3;
pub const LONG: u16 = 4;
pub const LONG8: u16 = 16;

/// Byte order and version of a stack.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    pub big_endian: bool,
    pub big_tiff: bool,
}

impl Format {
    /// `value` in `len` bytes.
    pub fn number(self, value: u64, len: usize) -> Vec<u8> {
        match self.big_endian {
            true => value.to_be_bytes()[8 - len..].to_vec(),
            false => value.to_le_bytes()[..len].to_vec(),
        }
    }

    fn word(self) -> usize {
        if self.big_tiff { 8 } else { 4 }
    }

    pub fn header(self, first: u64) -> Vec<u8> {
        let mut header = if self.big_endian { *b"MM" } else { *b"II" }.to_vec();
        let version: &[u64] = if self.big_tiff { &[43, 8, 0] } else { &[42] };
        for &value in version {
            header.extend(self.number(value, 2));
        }
        header.extend(self.number(first, self.word()));
        header
    }

    /// A directory of tags: number, type, count and value or offset.
    pub fn directory(self, tags: &[(u16, u16, u64, u64)], next: u64) -> Vec<u8> {
        let mut bytes = self.number(tags.len() as u64, if self.big_tiff { 8 } else { 2 });
        for &(tag, kind, count, value) in tags {
            bytes.extend(self.number(u64::from(tag), 2));
            bytes.extend(self.number(u64::from(kind), 2));
            bytes.extend(self.number(count, self.word()));
            let each = match kind {
                2 => 1,
                SHORT => 2,
                LONG => 4,
                _ => 8,
            };
            let len = match each * count as usize <= self.word() {
                true => each,
                false => self.word(),
            };
            bytes.extend(self.number(value, len));
            bytes.resize(bytes.len() + self.word() - len, 0);
        }
        bytes.extend(self.number(next, self.word()));
        bytes
    }
}

/// What a page is.
#[derive(Debug, Clone, Copy)]
pub struct Gray {
    pub height: u64,
    pub width: u64,
    pub bits: u64,
    /// 1 unsigned, 2 signed, 3 floating-point.
    pub format: u64,
    pub compression: u64,
    pub predictor: u64,
}

impl Gray {
    pub fn u16(height: u64, width: u64) -> Self {
        Self {
            height,
            width,
            bits: 16,
            format: 1,
            compression: 1,
            predictor: 1,
        }
    }

    pub fn page_bytes(self) -> u64 {
        self.height * self.width * self.bits / 8
    }

    /// The tags of a page in one strip.
    pub fn tags(self, data: u64, stored: u64) -> Vec<(u16, u16, u64, u64)> {
        let offset = if data > u64::from(u32::MAX) {
            LONG8
        } else {
            LONG
        };
        vec![
            (256, LONG, 1, self.width),
            (257, LONG, 1, self.height),
            (258, SHORT, 1, self.bits),
            (259, SHORT, 1, self.compression),
            (262, SHORT, 1, 1),
            (273, offset, 1, data),
            (277, SHORT, 1, 1),
            (278, LONG, 1, self.height),
            (279, LONG, 1, stored),
            (317, SHORT, 1, self.predictor),
            (339, SHORT, 1, self.format),
        ]
    }
}

/// The directories of uncompressed pages that lie one behind the other from `data` on; the
/// directories start at `start`.
pub fn directories(format: Format, gray: Gray, num_pages: u64, data: u64, start: u64) -> Vec<u8> {
    let len = format.directory(&gray.tags(0, 0), 0).len() as u64;
    let mut bytes = Vec::new();
    for page in 0..num_pages {
        let next = match page + 1 < num_pages {
            true => start + (page + 1) * len,
            false => 0,
        };
        let tags = gray.tags(data + page * gray.page_bytes(), gray.page_bytes());
        bytes.extend(format.directory(&tags, next));
    }
    bytes
}

/// A stack as ImageJ writes it over 4 GiB: one directory, all images behind it, without the
/// images. Answers where the first one starts.
pub fn imagej_head(format: Format, gray: Gray, images: u64) -> (Vec<u8>, u64) {
    let text = format!("ImageJ=1.54f\nimages={images}\nframes={images}\nhyperstack=true\n");
    let data = 512;
    let mut bytes = format.header(256);
    bytes.extend(text.as_bytes());
    bytes.resize(256, 0);
    let mut tags = gray.tags(data, gray.page_bytes());
    let at = format.header(0).len() as u64;
    tags.insert(5, (270, 2, text.len() as u64, at));
    bytes.extend(format.directory(&tags, 0));
    bytes.resize(data as usize, 0);
    (bytes, data)
}
