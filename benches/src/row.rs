use burn::tensor::Device;
use burn_memopt::memory::Bytes;
use serde::{Deserialize, Serialize};

/// One measured variant of a case; what does not apply is `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Name of the case.
    pub case: String,
    /// `plain` or the technique's name.
    pub variant: String,
    /// Name of the backend.
    pub backend: String,
    /// Highest live bytes of a step above those live before it.
    pub peak_bytes: Option<u64>,
    /// The peak that a plan predicted.
    pub predicted_bytes: Option<u64>,
    /// Median time of a step; of an epoch, where loading is measured.
    pub seconds: f64,
    /// The part of that time in seconds that networks took, where stages of a pipeline are measured.
    #[serde(default)]
    pub network_seconds: Option<f64>,
    /// The share of the time in which one thread alone computed, where stages of a pipeline are measured.
    #[serde(default)]
    pub single_thread: Option<f64>,
    /// Items in a second (pages, frames), where loading or a pipeline is measured.
    pub items_per_second: Option<f64>,
    /// Whether the gradients equal those of the plain variant: bit for bit on
    /// the CPU, within 1e-5 relative on a GPU. `None` where they are not meant
    /// to (half precision; batch statistics of micro-batches). Where loading is measured,
    /// whether the items and their order do.
    pub exact: Option<bool>,
}

impl Row {
    /// A variant on a device, of which only the time in seconds is known so far.
    pub(crate) fn new(variant: &str, device: &Device, seconds: f64) -> Self {
        let name = format!("{device:?}").to_lowercase();
        let known = ["flex", "cuda", "vulkan", "wgpu"];
        let known = known.into_iter().find(|known| name.contains(known));
        Self {
            case: String::new(),
            variant: variant.to_owned(),
            backend: known.map_or(name.clone(), str::to_owned),
            peak_bytes: None,
            predicted_bytes: None,
            seconds,
            network_seconds: None,
            single_thread: None,
            items_per_second: None,
            exact: None,
        }
    }
}

/// Rows as a table for people, with the ratios to the plain variant and the share of the time that
/// networks took.
pub fn table(rows: &[Row]) -> String {
    let mut lines = vec![format!(
        "{:<23} {:<12} {:>11} {:>8} {:>11} {:>9} {:>8} {:>8} {:>8} {:>9}  {}",
        "case",
        "variant",
        "peak",
        "vs plain",
        "predicted",
        "seconds",
        "vs plain",
        "networks",
        "1 thread",
        "items/s",
        "exact"
    )];
    for row in rows {
        let plain = rows
            .iter()
            .find(|p| p.case == row.case && p.variant == "plain");
        let share = |of: Option<f64>, by: Option<f64>| match (of, by) {
            (Some(of), Some(by)) if by > 0.0 => format!("{:.3}", of / by),
            _ => String::new(),
        };
        let peak = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
        lines.push(format!(
            "{:<23} {:<12} {:>11} {:>8} {:>11} {:>9.3} {:>8} {:>8} {:>8} {:>9}  {}",
            row.case,
            row.variant,
            row.peak_bytes
                .map_or("unknown".to_owned(), |b| Bytes::new(b).to_string()),
            share(peak(row.peak_bytes), plain.and_then(|p| peak(p.peak_bytes))),
            row.predicted_bytes
                .map_or(String::new(), |b| Bytes::new(b).to_string()),
            row.seconds,
            share(Some(row.seconds), plain.map(|p| p.seconds)),
            share(row.network_seconds, Some(row.seconds)),
            share(row.single_thread, Some(1.0)),
            row.items_per_second.map_or(String::new(), per_second),
            match row.exact {
                Some(true) => "yes",
                Some(false) => "no",
                None => "",
            },
        ));
    }
    lines.join("\n")
}

/// Whole numbers where there are many, else three digits.
fn per_second(items: f64) -> String {
    match items {
        100.0.. => format!("{items:.0}"),
        10.0.. => format!("{items:.1}"),
        _ => format!("{items:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(variant: &str, peak: Option<u64>, seconds: f64) -> Row {
        Row {
            case: "chain32".to_owned(),
            peak_bytes: peak,
            exact: Some(true),
            ..Row::new(variant, &Device::flex(), seconds)
        }
    }

    #[test]
    fn the_table_relates_a_technique_to_the_plain_variant() {
        let rows = [
            row("plain", Some(4 << 20), 2.0),
            row("block", Some(1 << 20), 3.0),
        ];
        let table = table(&rows);
        let technique = table.lines().last().unwrap();
        assert!(
            technique.contains("0.250") && technique.contains("1.500"),
            "{technique}"
        );
    }

    #[test]
    fn the_table_says_what_share_of_a_stage_networks_took() {
        let row = Row {
            network_seconds: Some(3.9),
            items_per_second: Some(2.5),
            ..row("flow", None, 4.0)
        };
        let table = table(&[row]);
        let stage = table.lines().last().unwrap();
        assert!(stage.contains("0.975") && stage.contains("2.50"), "{stage}");
    }

    #[test]
    fn an_unknown_peak_is_shown_as_unknown_and_written_as_null() {
        let row = row("plain", None, 1.0);
        assert!(table(std::slice::from_ref(&row)).contains("unknown"));
        let json = serde_json::to_value(&row).unwrap();
        assert!(json["peak_bytes"].is_null() && json["predicted_bytes"].is_null());
    }
}
