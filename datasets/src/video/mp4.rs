//! Where the parts of an MP4 or QuickTime file end, which `ffmpeg` does not say.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// Names of parts that hold frames, or say where they are.
const PARTS: [&[u8; 4]; 9] = [
    b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip", b"styp", b"sidx", b"moof",
];

/// Whether a file begins as MP4 and QuickTime files do, and its last part is not whole, or the table of
/// its frames is missing. No if it cannot be read.
pub(super) fn is_cut_off(path: &Path) -> bool {
    let walk = File::open(path).and_then(|file| {
        let len = file.metadata()?.len();
        ends_early(file, len)
    });
    walk.unwrap_or(false)
}

/// The same for `len` bytes.
fn ends_early(mut file: impl Read + Seek, len: u64) -> io::Result<bool> {
    let (mut offset, mut has_table) = (0_u64, false);
    while offset < len {
        // Length and name; a length of 1 stands for one of 8 bytes behind the name.
        let mut start = [0; 16];
        file.seek(SeekFrom::Start(offset))?;
        let read = file.by_ref().take(16).read(&mut start)?;
        let name = [start[4], start[5], start[6], start[7]];
        if read < 8 || !PARTS.contains(&&name) {
            // Anything may follow a whole file, and metadata has other names.
            return Ok(offset > 0 && !has_table);
        }
        let short = u32::from_be_bytes([start[0], start[1], start[2], start[3]]);
        let part = match short {
            // To the end of the file, whole or not.
            0 => return Ok(!has_table),
            1 => u64::from_be_bytes(std::array::from_fn(|index| start[8 + index])),
            short => u64::from(short),
        };
        // Not even as long as what says so.
        if part < 8 {
            return Ok(!has_table);
        }
        offset = offset.saturating_add(part);
        has_table |= &name == b"moov" && offset <= len;
    }
    Ok(offset > len || !has_table)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use rstest::rstest;

    fn part(name: &str, len: u32) -> Vec<u8> {
        let mut part = [&len.to_be_bytes(), name.as_bytes()].concat();
        part.resize(len as usize, 0);
        part
    }

    #[rstest]
    #[case::table_first(&[part("ftyp", 16), part("moov", 24), part("mdat", 40)])]
    #[case::table_last(&[part("ftyp", 16), part("mdat", 40), part("moov", 24)])]
    #[case::fragments(&[part("moov", 24), part("moof", 24), part("mdat", 40)])]
    fn a_file_is_whole_where_its_last_part_is(#[case] parts: &[Vec<u8>]) {
        let file = parts.concat();
        let ends_early = |file: &[u8]| super::ends_early(Cursor::new(file), file.len() as u64);
        assert!(!ends_early(&file).unwrap());
        for len in file.len() - 20..file.len() {
            assert!(ends_early(&file[..len]).unwrap(), "{len}");
        }
        let followed = [&file[..], &[0; 100]].concat();
        assert!(!ends_early(&followed).unwrap());
    }

    #[test]
    fn a_file_without_a_table_is_cut_off_and_text_is_none() {
        let ends_early = |file: Vec<u8>| {
            let len = file.len() as u64;
            super::ends_early(Cursor::new(file), len).unwrap()
        };
        assert!(ends_early([part("ftyp", 16), part("mdat", 40)].concat()));
        assert!(!ends_early(b"no video at all".to_vec()));
    }
}
