use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use burn_memopt::memory::{Bytes, MemorySnapshot};
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

/// What memory was like at one moment. Serialised, it is the object that `--json` prints.
pub(super) struct Look {
    pub(super) time: SystemTime,
    pub(super) process: u32,
    pub(super) memory: MemorySnapshot,
}

impl Look {
    fn unix_seconds(&self) -> f64 {
        let since = self.time.duration_since(UNIX_EPOCH);
        since.map_or(0.0, |since| since.as_secs_f64())
    }

    /// The names of the columns; devices are numbered from 0.
    pub(super) fn csv_header(&self) -> String {
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
    pub(super) fn csv_row(&self) -> String {
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
        let name = format!("process {}", self.process);
        let widths = memory
            .devices
            .iter()
            .map(|device| device.name.chars().count());
        let width = widths.chain([name.len()]).max().unwrap_or_default();
        let mut line = |cells: [&str; 6]| {
            let [name, in_use, reserved, peak, free, total] = cells;
            writeln!(
                f,
                "{name:<width$}  {in_use:>10}  {reserved:>10}  {peak:>10}  {free:>10}  {total:>10}"
            )
        };
        line(["", "in use", "reserved", "peak", "free", "total"])?;
        let host_used = memory.host_total.zip(memory.host_available);
        let host_used = shown(host_used.map(|(total, available)| total - available));
        let (free, total) = (shown(memory.host_available), shown(memory.host_total));
        line(["host", &host_used, "", "", &free, &total])?;
        let (rss, peak) = (shown(memory.process_rss), shown(memory.process_peak_rss));
        line([&name, &rss, "", &peak, "", ""])?;
        for device in &memory.devices {
            let (in_use, reserved) = (shown(device.bytes_in_use), shown(device.bytes_reserved));
            let (free, total) = (shown(device.free), shown(device.total));
            line([&device.name, &in_use, &reserved, "", &free, &total])?;
        }
        Ok(())
    }
}

fn shown(amount: Option<Bytes>) -> String {
    amount.map_or_else(|| "unknown".into(), |amount| amount.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
    }
}
