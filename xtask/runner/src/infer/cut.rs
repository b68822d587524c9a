//! Where the windows of a page are, and whether a model can be cut into exact tiles, found out by running
//! it.

use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Result, bail};
use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt::chunked::{
    Accumulator, Blend, ChunkedError, ExactReport, ExactTiles, ImageSource, Progress, Reach,
    RowSink, SlidingWindow,
};
use burn_memopt::precision::Precision;

use super::model::{Forward, Trained};
use super::room::Room;
use crate::choices::{BlendChoice, ChunkSizeChoice};
use crate::settings::{InferSettings, UsageError};

/// Chooses windows for pages of any size.
pub struct Cutter<'a> {
    settings: &'a InferSettings,
    stride: usize,
    /// What exact tiles need, if these are wanted.
    margin: Option<Margin>,
    /// What memory allows, if that is asked for.
    room: Option<Room<'a>>,
}

/// How pages of one size are cut.
pub struct Cut {
    /// Height and width of the windows; of exact tiles, what they keep.
    pub window: [usize; 2],
    /// Windows of a page.
    pub num_windows: usize,
    kind: Kind,
}

enum Kind {
    Windows(SlidingWindow),
    Tiles(ExactTiles),
}

impl<'a> Cutter<'a> {
    /// Chooses by `settings`.
    ///
    /// # Errors
    /// If exact tiles are wanted and cannot be, or windows are too small for the model.
    pub fn new(settings: &'a InferSettings, model: &'a Trained, device: &Device) -> Result<Self> {
        let is_auto = settings.chunk_size == ChunkSizeChoice::Auto;
        let margin = settings.exact.then(|| Margin::measure(model, device));
        let wants_room = is_auto || settings.budget.is_some();
        let room = wants_room.then(|| Room::measure(settings, model, device));
        let cutter = Self {
            settings,
            stride: model.stride(),
            margin: margin.transpose()?,
            room: room.transpose()?,
        };
        cutter.check()?;
        Ok(cutter)
    }

    /// Refuses windows that the model would halve to nothing, or that are all margin.
    fn check(&self) -> Result<()> {
        let least = self.least();
        if let ChunkSizeChoice::Pixels(side) = self.settings.chunk_size
            && side < least
        {
            let why = match self.margin {
                Some(margin) => format!("which has a margin of {} on each side", margin.halo),
                None => "which halves an image until so many pixels are one".into(),
            };
            bail!(UsageError(format!(
                "--chunk-size must be at least {least} for this model, {why}, got {side}"
            )));
        }
        Ok(())
    }

    /// Pixels around what is kept of a window.
    fn halo(&self) -> usize {
        self.margin.map_or(0, |margin| margin.halo)
    }

    /// The smallest side of what the model gets.
    fn least(&self) -> usize {
        self.stride + 2 * self.halo()
    }

    /// Chooses windows for pages of `size`, height and width; of exact tiles, what they keep.
    ///
    /// # Errors
    /// If memory, or the budget, has no room for them.
    pub fn window(&mut self, size: [usize; 2]) -> Result<[usize; 2]> {
        // A page that is smaller needs no window around it, but as much as the model halves.
        let whole = match self.margin {
            Some(margin) => size.map(|len| len.next_multiple_of(margin.stride) + 2 * margin.halo),
            None => size.map(|len| len.max(self.stride)),
        };
        let least = self.least();
        let window = match (self.settings.chunk_size, &mut self.room) {
            (ChunkSizeChoice::Pixels(side), _) => whole.map(|len| len.min(side)),
            (ChunkSizeChoice::Auto, Some(room)) => room.window(whole, least)?,
            (ChunkSizeChoice::Auto, None) => whole,
        };
        if let Some(room) = &self.room {
            room.check(whole, window)?;
        }
        Ok(match self.margin {
            Some(margin) => {
                window.map(|side| (side - 2 * margin.halo) / margin.stride * margin.stride)
            }
            None => window,
        })
    }

    /// Windows that the model may get at once by the budget, if there is one.
    pub fn windows_at_once(&self, size: [usize; 2], window: [usize; 2]) -> Option<usize> {
        let read = window.map(|side| side + 2 * self.halo());
        self.room.as_ref()?.windows_at_once(size, read)
    }

    /// Cuts pages of `size` into these windows, of which the model gets so many at once.
    ///
    /// # Errors
    /// If the pages are too small for exact tiles.
    pub fn cut(&self, size: [usize; 2], window: [usize; 2], at_once: usize) -> Result<Cut> {
        match self.margin {
            Some(margin) => self.tiles(margin, size, window, at_once),
            None => Ok(self.windows(size, window, at_once)),
        }
    }

    fn windows(&self, size: [usize; 2], window: [usize; 2], at_once: usize) -> Cut {
        let blend = match self.settings.blend {
            BlendChoice::Constant => Blend::Constant,
            BlendChoice::Gaussian => Blend::GAUSSIAN,
        };
        let windows = SlidingWindow::new(window)
            .with_overlap([self.settings.overlap; 2])
            .with_blend(blend)
            .with_batch_size(at_once);
        Cut {
            window,
            num_windows: windows.num_windows(size),
            kind: Kind::Windows(windows),
        }
    }

    fn tiles(
        &self,
        margin: Margin,
        size: [usize; 2],
        core: [usize; 2],
        at_once: usize,
    ) -> Result<Cut> {
        let [height, width] = size;
        if height.min(width) < self.stride {
            bail!(
                "the model halves an image until {} pixels are one, so that it must have as many on \
                 each side, got {height}×{width}; leave out --exact to have it padded",
                self.stride
            );
        }
        let tiles =
            ExactTiles::with_halo(core, margin.halo, margin.stride).with_batch_size(at_once);
        Ok(Cut {
            window: core,
            num_windows: tiles.num_windows(size),
            kind: Kind::Tiles(tiles),
        })
    }
}

impl Cut {
    /// Keeps the sums of windows in a file next to `result`, so that memory does not grow with the
    /// width of a page.
    pub fn with_sums_next_to(self, result: &Path) -> Self {
        if self.num_windows == 1 {
            return self;
        }
        let folder = match result.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let sums = Accumulator::File(folder.into());
        let kind = match self.kind {
            Kind::Windows(windows) => Kind::Windows(windows.with_accumulator(sums)),
            Kind::Tiles(tiles) => Kind::Tiles(tiles.with_accumulator(sums)),
        };
        Self { kind, ..self }
    }

    /// Pages that may run together: of those that are one window each, as many as windows.
    pub fn pages_at_once(&self, windows_at_once: usize) -> usize {
        if self.num_windows == 1 {
            windows_at_once
        } else {
            1
        }
    }

    /// Runs a model on pages.
    ///
    /// # Errors
    /// As `Chunks::stream_adaptive`.
    pub fn run(
        &self,
        pages: &impl ImageSource,
        result: &mut dyn RowSink,
        progress: impl FnMut(Progress) -> ControlFlow<()>,
        forward: &mut Forward,
    ) -> Result<(), ChunkedError> {
        let Forward { model, runner, .. } = forward;
        match &self.kind {
            Kind::Tiles(tiles) => {
                tiles.stream_adaptive(pages, [result], runner, progress, |tiles| {
                    Ok([model.run_tiles(tiles)])
                })
            }
            Kind::Windows(windows) => {
                windows.stream_adaptive(pages, [result], runner, progress, |windows| {
                    Ok([model.run(windows.pixels)])
                })
            }
        }
    }
}

/// Shortest side of the images that the reach is measured on, in strides of the model.
const LEAST_STRIDES: usize = 16;
/// Times the image is enlarged until a pixel's reach ends inside it.
const NUM_ENLARGED: usize = 2;
/// Layers that an error names at most.
const NUM_NAMED: usize = 3;

/// The margin that exact tiles of a model need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Margin {
    /// Pixels around what a tile keeps, a multiple of the stride.
    pub halo: usize,
    /// Where tiles may start.
    pub stride: usize,
}

impl Margin {
    /// Measures how far a pixel reaches, and whether tiles give what the whole image gives.
    ///
    /// # Errors
    /// If they do not: the error names the layers and the deviation.
    pub fn measure(model: &Trained, device: &Device) -> Result<Self> {
        let stride = model.stride();
        let mut side = (LEAST_STRIDES * stride).max(64);
        let mut reach = measure(model, side, device);
        for _ in 0..NUM_ENLARGED {
            if reach.halo().is_some() || model.sees_everything() {
                break;
            }
            side *= 2;
            reach = measure(model, side, device);
        }
        let halo = reach.halo().unwrap_or(side / 4).next_multiple_of(stride);
        let margin = Self { halo, stride };
        let report = margin.compare(model, device);
        let allowed = allowed_deviation(model.precision());
        if reach.halo().is_some() && report.relative() <= allowed {
            return Ok(margin);
        }
        bail!(
            "this model cannot be cut into exact tiles: with a margin of {halo} pixels, tiles deviate \
             from the whole image by {:.1e} of its largest value, and {allowed:.0e} would be rounding; \
             {}. Leave out --exact to blend overlapping windows, or train with --norm batch",
            report.relative(),
            named(&report.global_layers),
        );
    }

    /// Compares tiles with the whole of a random image.
    fn compare(self, model: &Trained, device: &Device) -> ExactReport {
        let core = (2 * self.halo).max(4 * self.stride);
        let shape = [1, model.channels, 2 * core, 2 * core + self.stride / 2];
        let image = Tensor::<4>::random(shape, Distribution::Default, device);
        let tiles = ExactTiles::with_halo([core; 2], self.halo, self.stride);
        ExactReport::measure(&tiles, model.network(), image, |_, tiles| {
            model.run_tiles(tiles)
        })
    }
}

fn measure(model: &Trained, side: usize, device: &Device) -> Reach {
    let shape = [model.channels, side, side];
    Reach::measure(shape, model.stride(), device, |image| model.run(image))
}

/// What makes tiles differ, as far as it is known; of many layers the first.
fn named(layers: &[String]) -> String {
    match layers {
        [] => "no layer is known to see the whole image".into(),
        [layer] => format!("{layer} sees the whole image"),
        [before @ .., last] if layers.len() <= NUM_NAMED => {
            format!("{} and {last} see the whole image", before.join(", "))
        }
        _ => format!(
            "{} and {} other layers see the whole image",
            layers[..NUM_NAMED].join(", "),
            layers.len() - NUM_NAMED
        ),
    }
}

/// What rounding alone may amount to: kernels add up in another order on another size.
fn allowed_deviation(precision: Precision) -> f32 {
    match precision {
        Precision::F32 => 1e-5,
        Precision::F16 => 1e-2,
        Precision::Bf16 => 5e-2,
    }
}
