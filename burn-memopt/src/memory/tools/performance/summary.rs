use std::fmt;

use serde::Serialize;

use crate::memory::Bytes;

/// What all batches took; `None` is unknown.
///
/// [`Display`](fmt::Display) is a table for people.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PerformanceSummary {
    /// Batches.
    pub num_batches: u64,
    /// Items in all batches.
    pub num_items: u64,
    /// Time of all batches together, in seconds.
    pub seconds: f64,
    /// Time of a batch on average, in seconds.
    pub mean_seconds: Option<f64>,
    /// Time of the longest batch, in seconds.
    pub max_seconds: Option<f64>,
    /// Items a second, without the first batch, which compiles kernels and fills pools, if there
    /// is another.
    pub items_per_second: Option<f64>,
    /// Processor cores that were busy on average.
    pub mean_cpu_cores: Option<f64>,
    /// Processor cores that were busy in the batch that kept most busy.
    pub max_cpu_cores: Option<f64>,
    /// The memory of a batch on average.
    pub mean_memory: Option<Bytes>,
    /// The memory of the batch that took most.
    pub max_memory: Option<Bytes>,
    /// The same for each size of batch, smallest first.
    pub sizes: Vec<BatchSizePerformance>,
    /// Batches whose size came after the first 256 and has no entry in `sizes`.
    pub num_batches_of_other_sizes: u64,
}

/// What the batches of one size took; `None` is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct BatchSizePerformance {
    /// Items in a batch.
    pub batch_size: usize,
    /// Batches of this size.
    pub num_batches: u64,
    /// Time of a batch on average, in seconds.
    pub mean_seconds: f64,
    /// Items a second, without the first batch of this size if there is another.
    pub items_per_second: Option<f64>,
    /// Processor cores that were busy on average.
    pub mean_cpu_cores: Option<f64>,
    /// The memory of the batch that took most.
    pub max_memory: Option<Bytes>,
}

impl PerformanceSummary {
    /// The size with the most items a second, the smallest of equal ones; with a limit, among those
    /// that are known never to have taken more memory. `None` if there is none.
    pub fn best_batch_size(&self, limit: Option<Bytes>) -> Option<usize> {
        let within = |size: &&BatchSizePerformance| match limit {
            Some(limit) => size.max_memory.is_some_and(|memory| memory <= limit),
            None => true,
        };
        let rates = self.sizes.iter().filter(within);
        let rates = rates.filter_map(|size| Some((size.batch_size, size.items_per_second?)));
        rates
            // The last of equal ones wins, so the smallest size comes last.
            .rev()
            .max_by(|(_, one), (_, other)| one.total_cmp(other))
            .map(|(batch_size, _)| batch_size)
    }
}

impl fmt::Display for PerformanceSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let best = self.best_batch_size(None);
        writeln!(
            f,
            "{:>10}  {:>7}  {:>9}  {:>9}  {:>9}  {:>10}",
            "batch size", "batches", "s a batch", "items/s", "CPU cores", "memory"
        )?;
        for size in &self.sizes {
            let mark = if best == Some(size.batch_size) {
                "  best"
            } else {
                ""
            };
            writeln!(
                f,
                "{:>10}  {:>7}  {:>9.4}  {:>9}  {:>9}  {:>10}{mark}",
                size.batch_size,
                size.num_batches,
                size.mean_seconds,
                shown(size.items_per_second, 1),
                shown(size.mean_cpu_cores, 2),
                shown_bytes(size.max_memory),
            )?;
        }
        write!(
            f,
            "{:>10}  {:>7}  {:>9}  {:>9}  {:>9}  {:>10}",
            "all",
            self.num_batches,
            shown(self.mean_seconds, 4),
            shown(self.items_per_second, 1),
            shown(self.mean_cpu_cores, 2),
            shown_bytes(self.max_memory),
        )
    }
}

fn shown(number: Option<f64>, decimals: usize) -> String {
    number.map_or_else(|| "unknown".into(), |number| format!("{number:.decimals$}"))
}

fn shown_bytes(amount: Option<Bytes>) -> String {
    amount.map_or_else(|| "unknown".into(), |amount| amount.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_size(batch_size: usize, rate: Option<f64>) -> BatchSizePerformance {
        BatchSizePerformance {
            batch_size,
            num_batches: 2,
            mean_seconds: 0.5,
            items_per_second: rate,
            mean_cpu_cores: None,
            max_memory: Some(Bytes::mib(5)),
        }
    }

    fn summary(sizes: Vec<BatchSizePerformance>) -> PerformanceSummary {
        PerformanceSummary {
            num_batches: 4,
            num_items: 12,
            seconds: 2.0,
            mean_seconds: Some(0.5),
            max_seconds: Some(0.5),
            items_per_second: None,
            mean_cpu_cores: None,
            max_cpu_cores: None,
            mean_memory: None,
            max_memory: None,
            sizes,
            num_batches_of_other_sizes: 0,
        }
    }

    #[test]
    fn the_table_marks_the_best_size_and_names_what_is_unknown() {
        let text = summary(vec![of_size(2, Some(4.0)), of_size(4, Some(8.0))]).to_string();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert!(lines[2].trim_start().starts_with('4') && lines[2].ends_with("best"));
        assert!(!lines[1].contains("best") && lines[1].contains("5.0 MiB"));
        assert!(lines[3].contains("unknown") && !lines[3].contains(" 0.00"));
    }

    #[test]
    fn of_equally_fast_sizes_the_smallest_is_best() {
        let equal = summary(vec![
            of_size(2, Some(8.0)),
            of_size(4, Some(8.0)),
            of_size(8, None),
        ]);
        assert_eq!(equal.best_batch_size(None), Some(2));
    }

    #[test]
    fn unknown_values_are_written_as_null() {
        let json = serde_json::to_value(summary(vec![of_size(1, None)])).unwrap();
        assert!(json["max_memory"].is_null() && json["sizes"][0]["items_per_second"].is_null());
        assert_eq!(json["sizes"][0]["max_memory"], 5 << 20);
    }
}
