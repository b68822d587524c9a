use super::*;
use crate::tiff::{FrameSource, TiffStack};

#[test]
fn a_stack_that_outgrows_a_classic_tiff_becomes_a_bigtiff() {
    let folder = tempfile::tempdir().unwrap();
    for (classic_len, version) in [(16 + 3 * 8 + 3 * 126, 42), (16 + 3 * 8 + 3 * 126 - 1, 43)] {
        let path = folder.path().join("stack.tif");
        let mut writer = TiffStackWriter::create(&path, 2, 2).unwrap();
        writer.classic_len = classic_len;
        for page in 0..3i16 {
            writer.write_frame(&[page, -page, 7, 8]).unwrap();
        }
        writer.finish().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(u16::from_ne_bytes([bytes[2], bytes[3]]), version);
        let stack = TiffStack::open_checked(&path).unwrap();
        assert_eq!(stack.frame(2).unwrap().pixels, [2.0, -2.0, 7.0, 8.0]);
    }
}

#[test]
fn a_stack_is_gone_on_with_in_the_middle_of_a_page_and_after_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let [path, part] = ["a.tif", "a.tif.part"].map(|name| folder.path().join(name));
    let open = |rows| TiffStackWriter::resume::<f32>(&path, &part, 2, 1, rows);
    let mut writer = open(0).unwrap();
    writer.write_rows(&[1f32, 2.0, 3.0, 99.0]).unwrap();
    drop(writer);
    // A row behind those that count is written again.
    let mut writer = open(3).unwrap();
    writer.write_rows(&[4f32]).unwrap();
    assert_eq!(writer.num_frames(), 2);
    drop(writer);
    open(4).unwrap().finish().unwrap();
    assert!(!part.exists());
    let stack = TiffStack::open_checked(&path).unwrap();
    assert_eq!(stack.num_frames(), 2);
    assert_eq!(stack.frame(1).unwrap().pixels, [3.0, 4.0]);
}

#[test]
fn rows_that_are_not_there_are_not_made_up() {
    let folder = tempfile::tempdir().unwrap();
    let [path, part] = ["a.tif", "a.tif.part"].map(|name| folder.path().join(name));
    let error = TiffStackWriter::resume::<f32>(&path, &part, 2, 1, 3).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("0 rows") && text.contains('3'), "{text}");
}

#[test]
fn every_page_names_the_software() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tif");
    for classic_len in [0, u64::from(u32::MAX)] {
        let mut writer = TiffStackWriter::create(&path, 2, 1).unwrap();
        writer.classic_len = classic_len;
        let mut writer = writer.with_software("a program");
        writer.write_frame(&[1u8, 2]).unwrap();
        writer.write_frame(&[3u8, 4]).unwrap();
        writer.finish().unwrap();
        let stack = TiffStack::open_checked(&path).unwrap();
        assert_eq!(stack.notes(), [] as [&str; 0]);
        assert_eq!(stack.frame(1).unwrap().pixels, [3.0, 4.0]);
        let mut pages = tiff::decoder::Decoder::new(std::fs::File::open(&path).unwrap()).unwrap();
        for page in 0..2 {
            pages.seek_to_image(page).unwrap();
            let software = pages
                .get_tag_ascii_string(tiff::tags::Tag::Software)
                .unwrap();
            assert_eq!(software, "a program");
        }
    }
}
