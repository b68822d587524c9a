use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A table that grows at its end, whole after every row.
pub(super) struct CsvFile {
    file: File,
    path: PathBuf,
}

impl CsvFile {
    /// Opens a table to go on with it, or begins it with `header`.
    ///
    /// # Errors
    /// If the file cannot be read and written, or holds something else.
    pub(super) fn open(path: &Path, header: &str) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        let file = options.open(path);
        let file = file.with_context(|| format!("cannot open the table `{}`", path.display()))?;
        let mut table = Self {
            file,
            path: path.into(),
        };
        let (first_line, is_whole) = table.look_at().with_context(|| table.what("read"))?;
        if first_line.is_empty() {
            table.append(header)?;
            return Ok(table);
        }
        ensure!(
            first_line.trim_end() == header,
            "`{}` is no table of these columns; give another file, or the devices of before",
            path.display()
        );
        if !is_whole {
            // What was cut off stays for the user to see, in a line of its own.
            table.append("")?;
        }
        Ok(table)
    }

    /// Appends a line, in one write.
    pub(super) fn append(&mut self, line: &str) -> Result<()> {
        let written = self.file.write_all(format!("{line}\n").as_bytes());
        written
            .and_then(|()| self.file.flush())
            .with_context(|| self.what("write"))
    }

    /// The first line, and whether the last one has its end.
    fn look_at(&mut self) -> std::io::Result<(String, bool)> {
        let mut first_line = Vec::new();
        // A file that is no table may be one endless line.
        BufReader::new((&self.file).take(1 << 16)).read_until(b'\n', &mut first_line)?;
        if self.file.seek(SeekFrom::End(0))? == 0 {
            return Ok((String::new(), true));
        }
        let mut last = [0];
        self.file.seek(SeekFrom::End(-1))?;
        self.file.read_exact(&mut last)?;
        let first_line = String::from_utf8_lossy(&first_line).into_owned();
        Ok((first_line, last == *b"\n"))
    }

    fn what(&self, verb: &str) -> String {
        format!("cannot {verb} the table `{}`", self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_table_is_begun_once_and_gone_on_with() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory.csv");
        CsvFile::open(&path, "a,b").unwrap().append("1,2").unwrap();
        assert_eq!(read(&path), "a,b\n1,2\n");
        CsvFile::open(&path, "a,b").unwrap().append("3,4").unwrap();
        assert_eq!(read(&path), "a,b\n1,2\n3,4\n");
    }

    #[test]
    fn another_file_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.txt");
        for content in ["a,b,c\n", "\n", "a,b"] {
            fs::write(&path, content).unwrap();
            let opened = CsvFile::open(&path, "x,y");
            let error = opened.err().expect("an error").to_string();
            assert!(error.contains("notes.txt"), "{error}");
            assert_eq!(read(&path), content);
        }
    }

    #[test]
    fn a_row_that_was_cut_off_is_not_continued() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory.csv");
        fs::write(&path, "a,b\n1,").unwrap();
        CsvFile::open(&path, "a,b").unwrap().append("3,4").unwrap();
        assert_eq!(read(&path), "a,b\n1,\n3,4\n");
    }
}
