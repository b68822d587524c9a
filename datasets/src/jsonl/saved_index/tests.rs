use std::fs;

use rstest::rstest;

use super::*;

const LIMIT: usize = 100;

fn stamp(len: u64) -> Stamp {
    Stamp {
        len,
        seconds: 7,
        nanoseconds: 9,
    }
}

fn index() -> JsonlIndex {
    JsonlIndex::build(&b"1\n22\n333\n"[..], LIMIT).unwrap()
}

#[test]
fn an_index_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    save(&path, stamp(9), &index()).unwrap();
    assert_eq!(load(&path, stamp(9), LIMIT), Some(index()));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_index_of_another_text_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    save(&path, stamp(9), &index()).unwrap();
    assert_eq!(load(&path, stamp(8), LIMIT), None);
    let later = Stamp {
        nanoseconds: 10,
        ..stamp(9)
    };
    assert_eq!(load(&path, later, LIMIT), None);
    assert_eq!(load(&path, stamp(9), 2), None, "above the limit");
    assert_eq!(load(&folder.path().join("none"), stamp(9), LIMIT), None);
}

#[test]
fn a_damaged_index_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    save(&path, stamp(9), &index()).unwrap();
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&path, &damaged).unwrap();
        assert_eq!(load(&path, stamp(9), LIMIT), None, "byte {at} changed");
        fs::write(&path, &whole[..at]).unwrap();
        assert_eq!(load(&path, stamp(9), LIMIT), None, "cut after {at} bytes");
    }
}

#[rstest]
#[case::no_stride(|index: &mut JsonlIndex| index.stride = 0)]
#[case::more_records_than_offsets(|index: &mut JsonlIndex| index.num_records = 1 << 60)]
#[case::offsets_out_of_order(|index: &mut JsonlIndex| index.offsets.swap(0, 1))]
#[case::offset_behind_the_end(|index: &mut JsonlIndex| index.offsets[2] = 9)]
fn an_index_that_leads_astray_is_not_taken(#[case] spoil: fn(&mut JsonlIndex)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("index");
    let mut index = index();
    spoil(&mut index);
    save(&path, stamp(9), &index).unwrap();
    assert_eq!(load(&path, stamp(9), LIMIT), None);
}
