use super::*;

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_failing_write_leaves_the_earlier_file_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.csv");
    write(&path, |out| out.write_all(b"first")).unwrap();

    let error = write(&path, |out| {
        out.write_all(b"half of the sec")?;
        Err(io::Error::other("interrupted"))
    });

    assert_eq!(error.unwrap_err().to_string(), "interrupted");
    assert_eq!(fs::read(&path).unwrap(), b"first");
    assert_eq!(names_in(folder.path()), ["memory.csv"]);
}

#[test]
fn a_second_write_replaces_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.csv");
    write(&path, |out| out.write_all(b"a long first text")).unwrap();
    write(&path, |out| out.write_all(b"second")).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"second");
    assert_eq!(names_in(folder.path()), ["memory.csv"]);
}

#[test]
fn a_path_without_a_file_name_is_refused() {
    let error = write("/", |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn a_writer_of_paths_is_given_the_extension() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.bpk");
    write_with_path(&path, |part| {
        assert_eq!(part.extension(), path.extension());
        fs::write(part, "weights")
    })
    .unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"weights");
    assert_eq!(names_in(folder.path()), ["model.bpk"]);
}

#[test]
fn a_folder_is_replaced_only_by_a_whole_one() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("state");
    let fill = |name: &'static str| move |folder: &Path| fs::write(folder.join(name), name);
    write_folder(&path, fill("first")).unwrap();
    let failing = |folder: &Path| {
        fill("half")(folder)?;
        Err(io::Error::other("interrupted"))
    };
    write_folder(&path, failing).unwrap_err();
    assert_eq!(names_in(&path), ["first"]);
    write_folder(&path, fill("second")).unwrap();
    assert_eq!(names_in(&path), ["second"]);
    assert_eq!(names_in(root.path()), ["state"]);
}

#[test]
fn a_resumed_file_stays_until_it_is_finished() {
    let folder = tempfile::tempdir().unwrap();
    let (path, part) = (folder.path().join("map"), folder.path().join("map.part"));
    let mut file = PartFile::resume(&path, &part).unwrap();
    file.write_all(b"one ").unwrap();
    drop(file);
    assert_eq!(names_in(folder.path()), ["map.part"]);
    let mut file = PartFile::resume(&path, &part).unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_all(b"two").unwrap();
    file.finish().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"one two");
    assert_eq!(names_in(folder.path()), ["map"]);
}

#[test]
fn a_changed_file_has_another_stamp() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    fs::write(&path, "short").unwrap();
    let first = FileStamp::read(&path).unwrap();
    assert_eq!(FileStamp::read(&path).unwrap(), first);
    fs::write(&path, "longer").unwrap();
    assert_ne!(FileStamp::read(&path).unwrap(), first);
}
