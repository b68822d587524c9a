//! What every technique saves and costs: memory and time, plain and with the technique, in one run on
//! the same inputs.
//!
//! [`cases`] are rows of the table that `cargo xtask bench` prints: [`Case::run`] measures one. [`groups`]
//! are small workloads of the same kind, one group a technique, for criterion: `cargo bench`.
//!
//! Peaks are the highest live bytes of a training step (forward and backward pass) above those live
//! before it, so parameters do not count and gradients do. On the CPU they are exact in a program that
//! installs [`burn_memopt::memory::CountingAllocator`]; on a GPU they are sampled from its memory pools.
//! Cases about loading measure an epoch on the host, those about inference a run.

mod bench;
mod busy;
mod chain;
mod chunked;
mod cross_entropy;
mod data;
mod gan;
mod gpt;
mod optim;
mod planning;
mod quantize;
mod tiled;
mod unet;
mod video;

use bench::Bench;
use burn::tensor::Device;
use burn_memopt::{chunked::BoxError, memory::Bytes};
use serde::{Deserialize, Serialize};

pub use bench::Visit;
pub use chunked::CopiedImage;
pub use data::{Order, TiffFiles, sum_of, visit_frames};

/// A comparison: the plain path and a technique on the same inputs.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Name of the case.
    pub name: &'static str,
    /// What is compared, in a few words.
    pub about: &'static str,
    measure: fn(&mut Bench) -> Result<(), BoxError>,
}

impl Case {
    /// Measures the case on a device without autodiff.
    ///
    /// # Errors
    /// If the case cannot run there.
    pub fn run(&self, device: &Device) -> Result<Vec<Row>, BoxError> {
        self.rows(Bench::full(device))
    }

    /// Shows every variant of the small workload to `visit`, in order, the plain one first.
    ///
    /// # Errors
    /// If the case cannot run on the device.
    pub fn visit(&self, device: &Device, visit: &mut Visit) -> Result<(), BoxError> {
        (self.measure)(&mut Bench::visiting(device, visit))
    }

    fn rows(&self, mut bench: Bench) -> Result<Vec<Row>, BoxError> {
        (self.measure)(&mut bench)?;
        let mut rows = bench.into_rows();
        for row in &mut rows {
            row.case = self.name.to_owned();
        }
        Ok(rows)
    }
}

macro_rules! cases {
    ($($name:literal $about:expr, $measure:expr;)*) => {
        vec![$(Case { name: $name, about: $about, measure: $measure }),*]
    };
}

/// A case for each share of the plain peak in percent. A share below the least is refused with an error
/// that names the least.
macro_rules! budgets {
    ($module:ident: $($name:literal $percent:literal),*) => {
        cases! {$(
            $name concat!("the same in ", $percent, " % of the plain peak"), $module::budget::<$percent>;
        )*}
    };
}

/// Every case of the table: data first, then inference, then training steps, quick ones first.
pub fn cases() -> Vec<Case> {
    let single = cases! {
        "loader_workers" "192 deflated pages of 512×512, two loader threads against one", data::workers;
        "tiff_mapped_sequential" "400 uncompressed frames of 256×256 in order, mapped against read into memory first",
            |bench| data::tiff(bench, |files| files.contiguous, Order::Sequential);
        "tiff_mapped_random" "the same shuffled",
            |bench| data::tiff(bench, |files| files.contiguous, Order::Random);
        "tiff_deflate_sequential" "the frames deflated, inflated when asked for against read into memory first",
            |bench| data::tiff(bench, |files| files.deflate, Order::Sequential);
        "tiff_deflate_random" "the same shuffled",
            |bench| data::tiff(bench, |files| files.deflate, Order::Random);
        "chunked_identity" "windows of 256×256 of 3×2048×2048 without a model, against a copy of the image",
            chunked::identity;
        "chunked_unet" "U-Net on 9 windows of 256×256 cut beforehand, cut and blended, and windows without it",
            chunked::overhead;
        "exact_tiles" "small U-Net on 1024×1024 pixels whole, on exact tiles, and on windows that blend",
            chunked::exact_tiles;
        "chunked_2048" "small U-Net on 2048×2048 pixels from file to file, windows of 256×256",
            chunked::flat::<2048>;
        "chunked_8192" "the same on 8192×8192 pixels", chunked::flat::<8192>;
        "quantize_unet" "U-Net of 32 channels read from its file and run on 1×3×64×64, its weights in 8 and in 4 bits",
            quantize::unet;
        "raft_lookup256" "features of two frames of 256×256, compared on demand against all pairs at once",
            video::raft_lookup::<256>;
        "raft_lookup512" "the same of 512×512", video::raft_lookup::<512>;
        "inpaint_80" "80 frames of 64×64 completed in sub-videos of 20, and where the time goes",
            video::streamed::<80>;
        "inpaint_160" "the same with 160 frames", video::streamed::<160>;
        "inpaint_432x240" "12 frames of 432×240 at ProPainter's settings, and where the time goes",
            video::official;
        "chain32" "32 residual blocks on 2×16×96×96, 6 segments", chain::segments;
        "chain32_least" "the same in the least memory", chain::least;
        "plan_unet40" "U-Net on 2×3×256×256 by the memory planner, in 40 % of the plain peak",
            planning::budget::<40>;
        "plan_unet50" "the same in 50 % of the plain peak", planning::budget::<50>;
        "plan_unet80" "the same in 80 % of the plain peak", planning::budget::<80>;
    };
    let chains = budgets!(chain: "chain32_budget10" 10, "chain32_budget20" 20, "chain32_budget30" 30,
        "chain32_budget40" 40, "chain32_budget50" 50, "chain32_budget60" 60, "chain32_budget70" 70,
        "chain32_budget80" 80, "chain32_budget90" 90, "chain32_budget100" 100);
    let models = cases! {
        "unet256" "U-Net on 1×3×256×256, every block recomputed, next to burn's own strategy", unet::block;
        "unet256_least" "the same in the least memory", unet::least;
        "unet256_autocast" "U-Net on 2×3×256×256 in f16", unet::autocast;
        "unet256_accumulate" "U-Net on 8×3×256×256 as 8 micro-batches", unet::accumulate;
        "unet256_all" "all three against f32 on the batch of 8", unet::all;
        "parallel_unet" "U-Net on four micro-batches of 1×3×256×256 on one device, and on two that share its threads",
            unet::parallel;
        "tiled_train_1024" "small U-Net trained on 3×1024×1024, whole and on tiles of 256×256", tiled::against_plain;
        "tiled_train_4096" "the same on 3×4096×4096, on tiles", tiled::flat::<4096>;
        "tiled_train_16384" "the same on 3×16384×16384, on tiles", tiled::flat::<16384>;
        "gpt12" "GPT of 12 blocks on 4 texts of 128 bytes, dropout 0.1, every block recomputed; its masks alone",
            gpt::block;
        "gpt12_no_dropout" "the same without dropout", gpt::block_without_dropout;
        "optim_gpt12" "three updates of a GPT of 12 blocks of width 256 by AdamW: state and update in f32, in 8 bits, on the host",
            optim::gpt;
        "chunked_cross_entropy" "head and loss of 4096 positions, 32,000 words and 256 features, 128 positions at a time",
            cross_entropy::chunked;
        "gan_generator_step" "GRAF's generator on two patches of 64×64, 64 points a ray, rays in chunks, then in f16 too",
            gan::generator_step::<64>;
        "gan_generator_step_32" "the same on patches of 32×32", gan::generator_step::<32>;
        "propainter_step" "ProPainter's generator on 10 + 6 frames of 128×128, recomputed, then in f16 too",
            video::generator_step;
    };
    let unets = budgets!(unet: "unet256_budget10" 10, "unet256_budget20" 20, "unet256_budget30" 30,
        "unet256_budget40" 40, "unet256_budget50" 50, "unet256_budget60" 60, "unet256_budget70" 70,
        "unet256_budget80" 80, "unet256_budget90" 90, "unet256_budget100" 100);
    [single, chains, models, unets].concat()
}

/// The groups of `cargo bench`, one a technique. Show their variants by [`Case::visit`].
pub fn groups() -> Vec<Case> {
    cases! {
        "segments" "8 residual blocks on 1×16×48×48, 3 segments", chain::segments;
        "budget" "the same in 50 % of the plain peak", chain::budget::<50>;
        "head and loss" "512 positions, 1000 words and 32 features, 64 positions at a time", cross_entropy::chunked;
        "accumulation" "U-Net on 4×3×64×64 as 4 micro-batches", unet::accumulate;
        "autocast" "U-Net on 2×3×64×64 in f16", unet::autocast;
        "windows" "U-Net on windows of 64×64 cut beforehand, cut and blended, and windows without it",
            chunked::overhead;
        "exact tiles" "U-Net on 256×256 pixels whole, on exact tiles, and on windows that blend",
            chunked::exact_tiles;
        "packed weights" "U-Net read from its file and run on 1×3×32×32, its weights in 8 and in 4 bits", quantize::unet;
        "tiled training" "U-Net on 3×128×128 pixels whole, and on tiles of 32×32", tiled::against_plain;
        "loader" "16 deflated pages of 512×512, two loader threads against one", data::workers;
        "tiff mapped" "40 uncompressed frames of 256×256, mapped against read into memory first",
            |bench| data::tiff(bench, |files| files.contiguous, Order::Random);
        "tiff deflate" "the frames deflated, inflated when asked for against read into memory first",
            |bench| data::tiff(bench, |files| files.deflate, Order::Random);
        "rays" "GRAF's generator on two patches of 32×32, rays in chunks, then in f16 too", gan::generator_step::<32>;
        "generator step" "ProPainter's generator on 3 + 1 frames of 64×64, recomputed, then in f16 too",
            video::generator_step;
    }
}

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
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use burn_memopt::memory::CountingAllocator;

    use super::*;

    #[global_allocator]
    static ALLOCATOR: CountingAllocator = CountingAllocator::new();

    /// Peaks are the process's: workloads run one at a time.
    fn alone() -> MutexGuard<'static, ()> {
        static RUNNING: Mutex<()> = Mutex::new(());
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What saves nothing is a bug, and so is a technique that computes something else.
    #[test]
    fn every_group_compares_a_technique_that_saves_memory_or_time_and_computes_the_same() {
        let _alone = alone();
        for group in groups() {
            let rows = group.rows(Bench::small(&Device::flex())).unwrap();
            assert_eq!(rows[0].variant, "plain", "{}", group.name);
            assert!(rows.len() > 1, "{}", group.name);
            for row in &rows {
                assert_ne!(row.exact, Some(false), "{} {}", row.case, row.variant);
            }
            let peak = |row: usize| rows[row].peak_bytes.expect("the allocator counts");
            let is_faster_instead = ["loader", "windows"].contains(&group.name);
            assert!(
                is_faster_instead || peak(1) < peak(0),
                "{} must save memory\n{}",
                group.name,
                table(&rows)
            );
        }
    }

    #[test]
    fn every_variant_of_a_group_is_shown_once() {
        let _alone = alone();
        let mut names = Vec::new();
        let mut visit = |name: &str, step: &mut dyn FnMut()| {
            step();
            names.push(name.to_owned());
        };
        let segments = groups()[0];
        segments.visit(&Device::flex(), &mut visit).unwrap();
        assert_eq!(names, ["plain", "segments=3"]);
    }

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
