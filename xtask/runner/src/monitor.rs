//! `monitor`: what host, process and devices hold, once or again and again.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use burn_memopt::memory::{Bytes, MemoryMonitor, MemorySnapshot};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use crate::cli::MonitorArgs;
use crate::report::{known, table};

/// Time between two looks unless the user says otherwise.
const INTERVAL: Duration = Duration::from_secs(1);

/// Clears a terminal and puts the cursor into its first corner.
const CLEAR: &str = "\x1b[2J\x1b[H";

/// Looks at memory and prints what there is, until Ctrl-C with `--watch`.
///
/// # Errors
/// If a device cannot be opened, the process is not there, or the table cannot be written.
pub fn run(args: &MonitorArgs) -> Result<()> {
    // Before anything that takes time: Ctrl-C must find its handler.
    let interrupted = args.watch.then(ctrl_c).transpose()?;
    let devices = crate::device::open_all(args.device.unwrap_or_default())?;
    let mut monitor = MemoryMonitor::new(devices);
    let process = args.pid.unwrap_or_else(std::process::id);
    monitor = monitor.with_process(process);
    let mut csv = None;
    let mut is_first = true;
    loop {
        let look = Look {
            time: SystemTime::now(),
            process,
            memory: monitor.snapshot(),
        };
        if look.memory.process_rss.is_none() && args.pid.is_some() {
            if is_first {
                bail!("there is no process {process}, or it may not be read");
            }
            crate::report::note(format_args!("process {process} has ended"));
            return Ok(());
        }
        if let (true, Some(path)) = (is_first, &args.csv) {
            csv = Some(CsvFile::open(path, &look.csv_header())?);
        }
        is_first = false;
        if let Some(csv) = &mut csv {
            csv.append(&look.csv_row())?;
        }
        print(&look, args)?;
        let interval = args.interval.unwrap_or(INTERVAL);
        match &interrupted {
            Some(interrupted) if interrupted.recv_timeout(interval).is_err() => {}
            _ => return Ok(()),
        }
    }
}

/// Prints a look.
fn print(look: &Look, args: &MonitorArgs) -> Result<()> {
    let text = if args.json {
        serde_json::to_string(look)? + "\n"
    } else if args.watch && std::io::stdout().is_terminal() {
        format!("{CLEAR}{look}")
    } else if args.watch {
        format!("{look}\n")
    } else {
        look.to_string()
    };
    crate::report::print(text)
}

/// Receives something when Ctrl-C is pressed or the system asks the program to end.
fn ctrl_c() -> Result<Receiver<()>> {
    let (pressed, interrupted) = channel();
    let handler = move || {
        // Nobody receives it once the program is about to end.
        let _ = pressed.send(());
    };
    ctrlc::set_handler(handler).context("cannot take over Ctrl-C")?;
    Ok(interrupted)
}

/// What memory was like at one moment. Serialised, it is the object that `--json` prints.
struct Look {
    time: SystemTime,
    process: u32,
    memory: MemorySnapshot,
}

impl Look {
    fn unix_seconds(&self) -> f64 {
        let since = self.time.duration_since(UNIX_EPOCH);
        since.map_or(0.0, |since| since.as_secs_f64())
    }

    /// The names of the columns; devices are numbered from 0.
    fn csv_header(&self) -> String {
        let mut header = String::from(
            "unix_seconds,host_total_bytes,host_available_bytes,process_rss_bytes,\
             process_peak_rss_bytes",
        );
        for number in 0..self.memory.devices.len() {
            for amount in ["in_use", "reserved", "free", "total"] {
                header += &format!(",device{number}_{amount}_bytes");
            }
        }
        header
    }

    /// The amounts in bytes, an empty field for what is unknown.
    fn csv_row(&self) -> String {
        let memory = &self.memory;
        let mut amounts = vec![
            memory.host_total,
            memory.host_available,
            memory.process_rss,
            memory.process_peak_rss,
        ];
        for device in &memory.devices {
            let (in_use, reserved) = (device.bytes_in_use, device.bytes_reserved);
            amounts.extend([in_use, reserved, device.free, device.total]);
        }
        let field = |amount: Option<Bytes>| amount.map(|bytes| bytes.get().to_string());
        let fields = amounts
            .into_iter()
            .map(|amount| field(amount).unwrap_or_default());
        fields.fold(format!("{:.3}", self.unix_seconds()), |row, field| {
            row + "," + &field
        })
    }
}

impl Serialize for Look {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut look = serializer.serialize_struct("Look", 3)?;
        look.serialize_field("unix_seconds", &self.unix_seconds())?;
        look.serialize_field("process", &self.process)?;
        look.serialize_field("memory", &self.memory)?;
        look.end()
    }
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = &self.memory;
        let header = [
            "", "in use", "reserved", "peak", "free", "total", "total is",
        ];
        let header = header.map(String::from);
        let host_used = memory.host_total.zip(memory.host_available);
        let host_used = host_used.map(|(total, available)| total - available);
        let none = String::new;
        let host = [
            "host".into(),
            known(host_used),
            none(),
            none(),
            known(memory.host_available),
            known(memory.host_total),
            memory.host_limit.clone().unwrap_or_default(),
        ];
        let process = [
            format!("process {}", self.process),
            known(memory.process_rss),
            none(),
            known(memory.process_peak_rss),
            none(),
            none(),
            none(),
        ];
        let devices = memory.devices.iter().map(|device| {
            let (in_use, reserved) = (known(device.bytes_in_use), known(device.bytes_reserved));
            let (free, total) = (known(device.free), known(device.total));
            let name = device.name.clone();
            [name, in_use, reserved, none(), free, total, none()]
        });
        let rows: Vec<_> = [header, host, process].into_iter().chain(devices).collect();
        f.write_str(&table(&rows, 1))
    }
}

/// A table that grows at its end, whole after every row.
struct CsvFile {
    file: File,
    path: PathBuf,
}

impl CsvFile {
    /// Opens a table to append to it, or begins it with `header`.
    ///
    /// # Errors
    /// If the file cannot be read and written, or holds something else.
    fn open(path: &Path, header: &str) -> Result<Self> {
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
            "`{}` is no table of these columns; give another file, or the same devices as before",
            path.display()
        );
        if !is_whole {
            // What was cut off stays for the user to see, in a line of its own.
            table.append("")?;
        }
        Ok(table)
    }

    /// Appends a line, in one write.
    fn append(&mut self, line: &str) -> Result<()> {
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

    use burn_memopt::memory::DeviceMemory;

    use super::*;

    fn look() -> Look {
        let card = DeviceMemory {
            name: "a card with a long name".into(),
            bytes_in_use: Some(Bytes::mib(1)),
            bytes_reserved: Some(Bytes::mib(2)),
            total: None,
            free: None,
        };
        Look {
            time: UNIX_EPOCH + Duration::from_millis(1500),
            process: 42,
            memory: MemorySnapshot {
                host_total: Some(Bytes::gib(4)),
                host_limit: Some("cgroup v2 /sys/fs/cgroup/job/memory.max".into()),
                host_available: Some(Bytes::gib(1)),
                process_rss: Some(Bytes::mib(3)),
                process_peak_rss: None,
                live: None,
                live_peak: None,
                devices: vec![card],
            },
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_and_names_what_is_unknown() {
        let table = look().to_string();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4, "{table}");
        assert!(lines[1].starts_with("host ") && lines[1].contains("3.0 GiB"));
        assert!(lines[1].ends_with("  cgroup v2 /sys/fs/cgroup/job/memory.max"));
        assert!(lines[2].starts_with("process 42 ") && lines[2].contains("unknown"));
        assert!(lines[3].starts_with("a card with a long name ") && lines[3].contains("1.0 MiB"));
        let width = |line: &str| line.chars().count();
        assert!(
            lines.iter().all(|line| width(line) == width(lines[0])),
            "{table}"
        );
    }

    #[test]
    fn a_row_has_a_field_for_every_column() {
        let (header, row) = (look().csv_header(), look().csv_row());
        assert_eq!(header.split(',').count(), row.split(',').count());
        assert!(header.ends_with("device0_reserved_bytes,device0_free_bytes,device0_total_bytes"));
        assert_eq!(
            row,
            "1.500,4294967296,1073741824,3145728,,1048576,2097152,,"
        );
    }

    #[test]
    fn the_object_holds_time_process_and_memory() {
        let json = serde_json::to_value(look()).unwrap();
        assert_eq!(
            (&json["unix_seconds"], &json["process"]),
            (&1.5.into(), &42.into())
        );
        assert_eq!(json["memory"]["devices"][0]["bytes_in_use"], 1 << 20);
        assert!(json["memory"]["process_peak_rss"].is_null());
        let limit = &json["memory"]["host_limit"];
        assert_eq!(limit, "cgroup v2 /sys/fs/cgroup/job/memory.max");
    }

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
