//! What every technique saves and costs: memory beside time, plain beside the
//! technique, in one run on the same inputs.
//!
//! [`cases`] lists the cases, [`Case::run`] measures one. Peaks are the highest live
//! bytes of a training step (forward and backward pass) above those live before
//! it, so parameters do not count and gradients do. On the CPU they are exact in
//! a program that installs [`burn_memopt::memory::CountingAllocator`]; on a GPU
//! they are sampled from its memory pools. Cases about loading measure an epoch on the
//! host, those about inference a run.

mod chain;
mod chunked;
mod gpt;
mod gradients;
mod inpaint;
mod loader;
mod measure;
mod peak_bytes;
mod planning;
mod propainter;
mod raft;
mod row;
mod tiff;
mod unet;

pub use chain::ResidualBlock;
pub use chunked::CopiedImage;
pub use measure::Variant;
pub use peak_bytes::PeakBytes;
pub use row::{Row, table};
pub use tiff::{Order, TiffFiles, sum_of, visit_frames};

use burn::tensor::Device;

/// A comparison: the plain path and one technique on the same inputs.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Name of the case.
    pub name: &'static str,
    /// What is compared, in a few words.
    pub about: &'static str,
    measure: fn(&Device) -> Result<Vec<Row>, String>,
}

/// Every case: data first, then inference, then training steps, quick ones first.
pub fn cases() -> Vec<Case> {
    let mut cases = loading();
    cases.extend(inference());
    cases.extend(training());
    cases.extend(budgets_of_a_chain());
    cases.extend(training_of_models());
    cases.extend(budgets_of_a_unet());
    cases
}

/// Data that is loaded, lazily or by threads.
fn loading() -> Vec<Case> {
    let case = Case::new;
    vec![
        case(
            "loader_workers",
            "192 deflated pages of 512×512, two loader threads against one",
            loader::workers,
        ),
        case(
            "tiff_mapped_sequential",
            "400 uncompressed frames of 256×256 in order, mapped against read into memory first",
            |_| tiff::mapped(Order::Sequential),
        ),
        case("tiff_mapped_random", "the same shuffled", |_| {
            tiff::mapped(Order::Random)
        }),
        case(
            "tiff_deflate_sequential",
            "the frames deflated, inflated when asked for against read into memory first",
            |_| tiff::deflate(Order::Sequential),
        ),
        case("tiff_deflate_random", "the same shuffled", |_| {
            tiff::deflate(Order::Random)
        }),
    ]
}

/// Images that are worked through window by window, and frames that are compared.
fn inference() -> Vec<Case> {
    let case = Case::new;
    vec![
        case(
            "chunked_identity",
            "windows of 256×256 of 3×2048×2048 without a model, against a copy of the image",
            |_| chunked::identity(),
        ),
        case(
            "chunked_unet",
            "U-Net on 9 windows of 256×256 cut beforehand, cut and blended, and windows without it",
            chunked::overhead,
        ),
        case(
            "chunked_2048",
            "small U-Net on 2048×2048 pixels from file to file, windows of 256×256",
            |device| chunked::flat(2048, device),
        ),
        case("chunked_8192", "the same on 8192×8192 pixels", |device| {
            chunked::flat(8192, device)
        }),
        case(
            "raft_lookup256",
            "features of two frames of 256×256, compared on demand against all pairs at once",
            |_| raft::on_demand(256),
        ),
        case("raft_lookup512", "the same of 512×512", |_| {
            raft::on_demand(512)
        }),
        case(
            "inpaint_80",
            "80 frames of 64×64 completed in sub-videos of 20, and where the time goes",
            |device| inpaint::streamed(80, device),
        ),
        case("inpaint_160", "the same with 160 frames", |device| {
            inpaint::streamed(160, device)
        }),
    ]
}

/// Steps of training of a chain of blocks, and in planned memory.
fn training() -> Vec<Case> {
    let case = Case::new;
    vec![
        case(
            "chain32",
            "32 residual blocks on 2×16×96×96, 6 segments",
            chain::segments,
        ),
        case(
            "chain32_least",
            "the same in the least memory",
            chain::least,
        ),
        case(
            "plan_unet30",
            "U-Net on 2×3×256×256 by the memory planner, in 30 % of the plain peak",
            |device| planning::budget(30, device),
        ),
        case(
            "plan_unet50",
            "the same in 50 % of the plain peak",
            |device| planning::budget(50, device),
        ),
        case(
            "plan_unet80",
            "the same in 80 % of the plain peak",
            |device| planning::budget(80, device),
        ),
    ]
}

/// A case for each share of the plain peak.
macro_rules! budgets {
    ($work:ident: $($name:literal $percent:literal),*) => {
        vec![$(Case::new(
            $name,
            concat!("the same in ", $percent, " % of the plain peak"),
            $work::budget::<$percent>,
        )),*]
    };
}
/// `chain32` in shares of its plain peak. A share below the least is refused, which names the least.
fn budgets_of_a_chain() -> Vec<Case> {
    budgets!(chain: "chain32_budget10" 10, "chain32_budget20" 20, "chain32_budget30" 30,
        "chain32_budget40" 40, "chain32_budget50" 50, "chain32_budget60" 60,
        "chain32_budget70" 70, "chain32_budget80" 80, "chain32_budget90" 90,
        "chain32_budget100" 100)
}

/// `unet256` in shares of its plain peak.
fn budgets_of_a_unet() -> Vec<Case> {
    budgets!(unet: "unet256_budget10" 10, "unet256_budget20" 20, "unet256_budget30" 30,
        "unet256_budget40" 40, "unet256_budget50" 50, "unet256_budget60" 60,
        "unet256_budget70" 70, "unet256_budget80" 80, "unet256_budget90" 90,
        "unet256_budget100" 100)
}

/// Steps of training of the models.
fn training_of_models() -> Vec<Case> {
    let case = Case::new;
    vec![
        case(
            "unet256",
            "U-Net on 1×3×256×256, every block recomputed",
            unet::block,
        ),
        case("unet256_least", "the same in the least memory", unet::least),
        case(
            "unet256_autocast",
            "U-Net on 2×3×256×256 in f16",
            unet::autocast,
        ),
        case(
            "unet256_accumulate",
            "U-Net on 8×3×256×256 as 8 micro-batches",
            unet::accumulate,
        ),
        case(
            "unet256_all",
            "all three against f32 on the batch of 8",
            unet::all,
        ),
        case(
            "gpt12",
            "GPT of 12 blocks on 4 texts of 128 bytes, dropout 0.1, every block recomputed; its masks alone",
            gpt::block,
        ),
        case(
            "gpt12_no_dropout",
            "the same without dropout",
            gpt::block_without_dropout,
        ),
        case(
            "propainter_step",
            "ProPainter's generator on 10 + 6 frames of 128×128, recomputed, then in f16 too",
            propainter::step,
        ),
    ]
}

impl Case {
    fn new(
        name: &'static str,
        about: &'static str,
        measure: fn(&Device) -> Result<Vec<Row>, String>,
    ) -> Self {
        Self {
            name,
            about,
            measure,
        }
    }

    /// Measures the case on a device without autodiff.
    ///
    /// # Errors
    /// A sentence that says why the case cannot run there.
    pub fn run(&self, device: &Device) -> Result<Vec<Row>, String> {
        let mut rows = (self.measure)(device)?;
        for row in &mut rows {
            row.case = self.name.to_owned();
        }
        Ok(rows)
    }
}
