//! Frames for `ffmpeg`'s input, each with its time: a Matroska stream of uncompressed pictures.
//!
//! Elements are an identifier, a length and content (RFC 8794); their names and identifiers are those
//! of RFC 9559.

use std::io::{self, Write};

const EBML: u32 = 0x1A45_DFA3;
const DOC_TYPE: u32 = 0x4282;
const SEGMENT: u32 = 0x1853_8067;
const INFO: u32 = 0x1549_A966;
const TIMESTAMP_SCALE: u32 = 0x002A_D7B1;
const TRACKS: u32 = 0x1654_AE6B;
const TRACK_ENTRY: u32 = 0xAE;
const TRACK_NUMBER: u32 = 0xD7;
const TRACK_UID: u32 = 0x73C5;
const TRACK_TYPE: u32 = 0x83;
const FLAG_LACING: u32 = 0x9C;
const CODEC_ID: u32 = 0x86;
const DEFAULT_DURATION: u32 = 0x0023_E383;
const VIDEO: u32 = 0xE0;
const PIXEL_WIDTH: u32 = 0xB0;
const PIXEL_HEIGHT: u32 = 0xBA;
const UNCOMPRESSED_FOURCC: u32 = 0x002E_B524;
const CLUSTER: u32 = 0x1F43_B675;
const TIMESTAMP: u32 = 0xE7;
const SIMPLE_BLOCK: u32 = 0xA3;

/// Writes what comes before the frames: RGB frames of a size, with times in nanoseconds. The last
/// stays for `last_nanos`.
pub(super) fn write_header(
    out: &mut impl Write,
    height: usize,
    width: usize,
    last_nanos: u64,
) -> io::Result<()> {
    let video = [
        number(PIXEL_WIDTH, width as u64),
        number(PIXEL_HEIGHT, height as u64),
        // Red, green and blue, 24 bits together.
        element(UNCOMPRESSED_FOURCC, b"RGB\x18"),
    ];
    let track = [
        number(TRACK_NUMBER, 1),
        number(TRACK_UID, 1),
        number(TRACK_TYPE, 1),
        number(FLAG_LACING, 0),
        element(CODEC_ID, b"V_UNCOMPRESSED"),
        number(DEFAULT_DURATION, last_nanos),
        element(VIDEO, &video.concat()),
    ];
    out.write_all(&element(EBML, &element(DOC_TYPE, b"matroska")))?;
    // Of unknown length: all bits of it are set.
    out.write_all(&SEGMENT.to_be_bytes())?;
    out.write_all(&[0x01, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF])?;
    out.write_all(&element(INFO, &number(TIMESTAMP_SCALE, 1)))?;
    out.write_all(&element(TRACKS, &element(TRACK_ENTRY, &track.concat())))
}

/// Writes what comes before the `len` bytes of a frame's pixels.
pub(super) fn write_frame_header(out: &mut impl Write, nanos: u64, len: usize) -> io::Result<()> {
    // Of track 1, at the time of the cluster, a key frame.
    let block = [0x81, 0, 0, 0x80];
    let timestamp = number(TIMESTAMP, nanos);
    let block_start = start(SIMPLE_BLOCK, block.len() + len);
    let cluster_len = timestamp.len() + block_start.len() + block.len() + len;
    out.write_all(&start(CLUSTER, cluster_len))?;
    out.write_all(&[&timestamp[..], &block_start, &block].concat())
}

/// Identifier and length of an element.
fn start(id: u32, len: usize) -> Vec<u8> {
    let id = id.to_be_bytes();
    // An identifier is as long as it has bytes, and a length has 8, of which the first is a mark.
    let first = id.iter().position(|byte| *byte != 0).unwrap_or(0);
    let length = (1 << 56 | len as u64).to_be_bytes();
    [&id[first..], &length].concat()
}

fn element(id: u32, content: &[u8]) -> Vec<u8> {
    [&start(id, content.len()), content].concat()
}

fn number(id: u32, value: u64) -> Vec<u8> {
    element(id, &value.to_be_bytes())
}
