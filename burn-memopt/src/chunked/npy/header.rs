//! The first bytes of a file of NumPy: the type, order and shape of its numbers.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

const MAGIC: &[u8] = b"\x93NUMPY";
/// Pixels start at a multiple of this.
const ALIGNMENT: usize = 64;
/// f32 in this machine's byte order.
const DESCR: &str = if cfg!(target_endian = "little") {
    "<f4"
} else {
    ">f4"
};

/// The header, of format 1.0, of an array of f32 in C order.
pub(super) fn format(dims: [usize; 4]) -> Vec<u8> {
    let [a, b, c, d] = dims;
    let mut text =
        format!("{{'descr': '{DESCR}', 'fortran_order': False, 'shape': ({a}, {b}, {c}, {d}), }}");
    let start = MAGIC.len() + 4;
    let len = (start + text.len() + 1).next_multiple_of(ALIGNMENT) - start;
    text.extend(std::iter::repeat_n(' ', len - 1 - text.len()));
    text.push('\n');
    let mut header = [MAGIC, &[1, 0]].concat();
    // Four numbers of at most 20 digits take less than 65,536 bytes.
    header.extend((len as u16).to_le_bytes());
    header.extend(text.as_bytes());
    header
}

/// Reads the shape, and the byte that pixels start at; all of them are in the file. The inner error says
/// what is wrong with the file.
pub(super) fn read(file: &mut File) -> io::Result<Result<([usize; 4], u64), String>> {
    let len = file.metadata()?.len();
    let mut start = [0; 12];
    if len < start.len() as u64 {
        return Ok(Err(format!("it has {len} bytes")));
    }
    file.read_exact(&mut start)?;
    let Some(text) = text_range(&start) else {
        return Ok(Err("it starts otherwise".to_owned()));
    };
    let first = text.end as u64;
    if first > len {
        return Ok(Err(format!("its header ends at byte {first} of {len}")));
    }
    let mut bytes = vec![0; text.len()];
    file.seek(SeekFrom::Start(text.start as u64))?;
    file.read_exact(&mut bytes)?;
    Ok(dims(&String::from_utf8_lossy(&bytes)).and_then(|dims| {
        let pixels = len - first;
        match num_bytes(dims) {
            Some(bytes) if bytes <= pixels => Ok((dims, first)),
            _ => Err(format!("its {pixels} bytes of pixels do not hold {dims:?}")),
        }
    }))
}

/// The bytes of a header's text, by its first 12 bytes: magic, version, and the length of the text.
fn text_range(start: &[u8; 12]) -> Option<Range<usize>> {
    if !start.starts_with(MAGIC) {
        return None;
    }
    let [major, a, b, c, d] = [start[6], start[8], start[9], start[10], start[11]];
    match major {
        1 => Some(10..10 + u16::from_le_bytes([a, b]) as usize),
        2 | 3 => Some(12..12usize.checked_add(u32::from_le_bytes([a, b, c, d]) as usize)?),
        _ => None,
    }
}

/// The shape in a header's text, with ones in front up to four axes.
fn dims(text: &str) -> Result<[usize; 4], String> {
    let value = |key: &str| {
        let rest = text.split_once(&format!("'{key}':"));
        rest.map(|(_, rest)| rest.trim_start())
            .ok_or_else(|| format!("its header has no '{key}'"))
    };
    let descr = value("descr")?;
    if !descr.starts_with(&format!("'{DESCR}'")) {
        let kind = descr.split(',').next().unwrap_or_default();
        return Err(format!("its numbers are {kind}, not '{DESCR}'"));
    }
    if !value("fortran_order")?.starts_with("False") {
        return Err("it is in Fortran order".to_owned());
    }
    let shape = value("shape")?.strip_prefix('(');
    let inside = shape.and_then(|rest| rest.split_once(')'));
    let (inside, _) = inside.ok_or("its shape is not readable")?;
    let parts = inside.split(',').map(str::trim);
    let sides: Vec<usize> = parts
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().map_err(|_| format!("its shape has '{part}'")))
        .collect::<Result<_, _>>()?;
    if !(2..=4).contains(&sides.len()) {
        return Err(format!("it has {} axes", sides.len()));
    }
    let mut dims = [1; 4];
    dims[4 - sides.len()..].copy_from_slice(&sides);
    Ok(dims)
}

/// Bytes of the pixels; `None` if there are too many to count.
pub(super) fn num_bytes(dims: [usize; 4]) -> Option<u64> {
    let size = size_of::<f32>() as u64;
    dims.into_iter()
        .try_fold(size, |product, side| product.checked_mul(side as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_aligned_and_has_its_shape() {
        for dims_in in [[1, 2, 3, 4], [1, 1, 123_456, 7_890_123]] {
            let header = format(dims_in);
            assert_eq!(header.len() % ALIGNMENT, 0);
            let range = text_range(header[..12].try_into().unwrap()).unwrap();
            assert_eq!(range.end, header.len());
            let text = std::str::from_utf8(&header[range]).unwrap();
            assert_eq!(dims(text), Ok(dims_in));
        }
    }

    #[test]
    fn what_is_not_an_array_of_f32_says_what_it_is() {
        let of = |descr: &str, order: &str, shape: &str| {
            dims(&format!(
                "{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}"
            ))
        };
        let f4 = format!("'{DESCR}'");
        assert_eq!(of(&f4, "False", "(5, 6)"), Ok([1, 1, 5, 6]));
        assert!(
            of("'<f8'", "False", "(5, 6)")
                .unwrap_err()
                .contains("'<f8'")
        );
        assert!(of(&f4, "True", "(5, 6)").unwrap_err().contains("Fortran"));
        assert!(of(&f4, "False", "(5,)").unwrap_err().contains("1 axes"));
        assert!(of(&f4, "False", "(5, -6)").unwrap_err().contains("'-6'"));
        assert!(dims("{}").unwrap_err().contains("descr"));
        assert_eq!(num_bytes([usize::MAX, 2, 1, 1]), None);
        assert_eq!(text_range(b"\x93NUMPX\x01\0\x10\0\0\0"), None);
    }
}
