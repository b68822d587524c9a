//! What parent and child send to each other: little-endian, after a mark that nothing else prints.

use std::io::{self, BufRead, Read, Write};

use burn::tensor::TensorData;

/// Begins a frame. Its first byte is not in it a second time.
const MARK: &[u8] = b"\x02burn-memopt frame\x03";
const READY: u8 = 0;
const TENSORS: u8 = 1;
const REFUSED: u8 = 2;

/// Axes that a tensor may have.
const MAX_RANK: u64 = 32;
/// Bytes of numbers that are turned round at once.
const CHUNK: usize = 1 << 16;

/// A message.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    /// The child waits for its first batch.
    Ready,
    /// A batch, or its results.
    Tensors(Vec<TensorData>),
    /// Why there are no results.
    Refused(String),
}

/// Says that batches may come.
pub(super) fn write_ready(out: &mut impl Write) -> io::Result<()> {
    begin(out, READY)?;
    out.flush()
}

/// Sends a batch or its results, as f32.
pub(super) fn write_tensors(out: &mut impl Write, tensors: &[TensorData]) -> io::Result<()> {
    begin(out, TENSORS)?;
    write_number(out, tensors.len())?;
    for tensor in tensors {
        write_number(out, tensor.rank())?;
        for &side in tensor.shape().iter() {
            write_number(out, side)?;
        }
        let mut bytes = Vec::with_capacity(CHUNK);
        for value in tensor.iter::<f32>() {
            bytes.extend(value.to_le_bytes());
            if bytes.len() >= CHUNK {
                out.write_all(&bytes)?;
                bytes.clear();
            }
        }
        out.write_all(&bytes)?;
    }
    out.flush()
}

/// Says why there are no results.
pub(super) fn write_refused(out: &mut impl Write, why: &str) -> io::Result<()> {
    begin(out, REFUSED)?;
    write_number(out, why.len())?;
    out.write_all(why.as_bytes())?;
    out.flush()
}

/// Reads the next frame and skips what is before it; `None` at the end.
pub(super) fn read(from: &mut impl BufRead) -> io::Result<Option<Frame>> {
    if !skip_to_mark(from)? {
        return Ok(None);
    }
    let mut kind = [0];
    from.read_exact(&mut kind)?;
    Ok(Some(match kind[0] {
        READY => Frame::Ready,
        TENSORS => {
            let num_tensors = read_number(from)?;
            let tensors = (0..num_tensors).map(|_| read_tensor(from));
            Frame::Tensors(tensors.collect::<io::Result<_>>()?)
        }
        REFUSED => {
            let len = read_number(from)?;
            Frame::Refused(String::from_utf8_lossy(&read_bytes(from, len)?).into_owned())
        }
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }))
}

fn begin(out: &mut impl Write, kind: u8) -> io::Result<()> {
    out.write_all(MARK)?;
    out.write_all(&[kind])
}

fn skip_to_mark(from: &mut impl BufRead) -> io::Result<bool> {
    let mut matched = 0;
    while matched < MARK.len() {
        let mut byte = [0];
        if from.read(&mut byte)? == 0 {
            return Ok(false);
        }
        matched = match byte[0] {
            byte if byte == MARK[matched] => matched + 1,
            byte if byte == MARK[0] => 1,
            _ => 0,
        };
    }
    Ok(true)
}

fn write_number(out: &mut impl Write, number: usize) -> io::Result<()> {
    out.write_all(&(number as u64).to_le_bytes())
}

fn read_number(from: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn read_tensor(from: &mut impl Read) -> io::Result<TensorData> {
    let rank = read_number(from)?;
    if rank > MAX_RANK {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let dims = (0..rank).map(|_| read_number(from));
    let dims: Vec<u64> = dims.collect::<io::Result<_>>()?;
    let len = dims
        .iter()
        .try_fold(4_u64, |len, &side| len.checked_mul(side));
    let bytes = read_bytes(from, len.ok_or(io::ErrorKind::InvalidData)?)?;
    let values: Vec<f32> = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|value| f32::from_le_bytes(*value))
        .collect();
    let dims: Vec<usize> = dims.into_iter().map(|side| side as usize).collect();
    Ok(TensorData::new(values, dims))
}

/// Reads `len` bytes; nothing is allocated for bytes that do not come.
fn read_bytes(from: &mut impl Read, len: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(len).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_through_whatever_is_printed_between_them() {
        let tensors = vec![
            TensorData::new(vec![1.5_f32, -2.0], [1, 2]),
            TensorData::new(Vec::<f32>::new(), [0]),
            TensorData::new((0..40_000).map(|value| value as f32).collect(), [200, 200]),
        ];
        let mut pipe = b"running 1 test\n\x02burn-\x02".to_vec();
        write_ready(&mut pipe).unwrap();
        pipe.extend(b"a driver's banner\n");
        write_tensors(&mut pipe, &tensors).unwrap();
        write_refused(&mut pipe, "out of memory").unwrap();
        let mut from = &pipe[..];
        let mut next = || read(&mut from).unwrap();
        assert_eq!(next(), Some(Frame::Ready));
        assert_eq!(next(), Some(Frame::Tensors(tensors)));
        assert_eq!(next(), Some(Frame::Refused("out of memory".into())));
        assert_eq!(next(), None);
    }

    #[test]
    fn a_frame_that_ends_early_is_an_error() {
        let mut pipe = Vec::new();
        write_tensors(&mut pipe, &[TensorData::new(vec![1.0_f32; 9], [9])]).unwrap();
        for len in MARK.len()..pipe.len() {
            assert!(read(&mut &pipe[..len]).is_err(), "{len}");
        }
    }
}
