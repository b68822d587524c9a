//! Chunked inference against the whole image: values, order, interruptions, memory.

use std::ops::{ControlFlow, Range};

use burn::tensor::{Device, Distribution, Tensor, TensorData};
use burn_memopt::batch::{BatchError, BatchRunner, BatchSizeConfig, Failure};
use burn_memopt::chunked::{
    Blend, BoxError, ChunkedError, ImageSource, Padding, Progress, RowSink, SlidingWindow,
    TensorSink, WindowPlace, Windows,
};
use burn_memopt::grad_checkpoint::hold_random_stream;
use proptest::prelude::*;

fn random(dims: [usize; 4]) -> Tensor<4> {
    let _stream = hold_random_stream().seeded(&Device::flex(), 1);
    Tensor::random(dims, Distribution::Default, &Device::flex())
}

fn values(tensor: Tensor<4>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// Keeps rows, and fails at a row if told to.
#[derive(Default)]
struct File {
    dims: [usize; 4],
    rows: Vec<Range<usize>>,
    done: usize,
    fails_at: Option<usize>,
    result: TensorSink,
}

impl RowSink for File {
    fn begin(&mut self, dims: [usize; 4]) -> Result<usize, BoxError> {
        if self.done == 0 {
            self.result.begin(dims)?;
        }
        self.dims = dims;
        Ok(self.done)
    }

    fn write(&mut self, rows: Range<usize>, pixels: &[f32]) -> Result<(), BoxError> {
        if self.fails_at.is_some_and(|row| rows.contains(&row)) {
            return Err("the disk is full".into());
        }
        assert_eq!(rows.start, self.done, "rows come in order");
        self.done = rows.end;
        self.rows.push(rows.clone());
        self.result.write(rows, pixels)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_model_of_single_pixels_gives_what_it_gives_on_the_whole_image(
        height in 1_usize..40, width in 1_usize..40, window in prop::array::uniform2(0_usize..24),
        overlap in prop::array::uniform2(0.0..0.9_f64), batch_size in 1_usize..5, images in 1_usize..3,
        blend in prop_oneof![Just(Blend::Constant), Just(Blend::GAUSSIAN)],
    ) {
        let x = random([images, 2, height, width]);
        let windows = SlidingWindow::new(window)
            .with_overlap(overlap)
            .with_blend(blend)
            .with_padding(Padding::Replicate)
            .with_batch_size(batch_size);
        let mine = values(windows.infer(x.clone(), |window| window * 3.0));
        let whole = values(x * 3.0);
        prop_assert_eq!(mine.len(), whole.len());
        for (mine, whole) in mine.iter().zip(&whole) {
            prop_assert!((mine - whole).abs() < 1e-5, "{} is not {}", mine, whole);
        }
    }
}

#[test]
fn outputs_of_other_resolutions_keep_theirs() {
    let x = random([1, 1, 20, 28]);
    let windows = SlidingWindow::new([8, 12]).with_overlap([0.5, 0.5]);
    let halve = |x: Tensor<4>| {
        let [images, channels, height, width] = x.dims();
        let x = x.reshape([images * channels, height / 2, 2, width / 2, 2]);
        x.mean_dim(4)
            .mean_dim(2)
            .reshape([images, channels, height / 2, width / 2])
    };
    let [whole, half] = windows.infer_many(x.clone(), |windows| {
        [windows.pixels.clone() * 2.0, halve(windows.pixels)]
    });
    whole
        .into_data()
        .assert_approx_eq::<f32>(&(x.clone() * 2.0).into_data(), Default::default());
    half.into_data()
        .assert_approx_eq::<f32>(&halve(x).into_data(), Default::default());
}

#[test]
#[should_panic(expected = "windows must start on pixels of each output")]
fn windows_between_the_pixels_of_an_output_are_refused() {
    let windows = SlidingWindow::new([8, 8]).with_overlap([0.6, 0.5]);
    windows.infer(random([1, 1, 20, 20]), |window| {
        window.slice([0..1, 0..1, 0..4, 0..4])
    });
}

#[test]
fn the_model_is_told_where_its_windows_lie() {
    let x = random([2, 1, 10, 6]);
    let mut places = Vec::new();
    SlidingWindow::new([8, 8])
        .with_overlap([0.5, 0.5])
        .with_batch_size(3)
        .infer_many(x, |windows| {
            places.push(windows.places.clone());
            [windows.pixels]
        });
    let places: Vec<Vec<_>> = places
        .iter()
        .map(|batch| {
            let place = |place: &WindowPlace| (place.image, place.row, place.column);
            batch.iter().map(place).collect()
        })
        .collect();
    assert_eq!(places, [[(0, 0, -1), (1, 0, -1)], [(0, 2, -1), (1, 2, -1)]]);
}

#[test]
fn rows_come_once_in_order_and_as_early_as_they_can() {
    let x = random([1, 1, 20, 9]);
    let mut file = File::default();
    let windows = SlidingWindow::new([8, 8]).with_overlap([0.5, 0.0]);
    let go_on = |_| ControlFlow::Continue(());
    let same = |windows: Windows| Ok([windows.pixels]);
    windows.stream(&x, [&mut file], go_on, same).unwrap();
    assert_eq!(file.rows, [0..4, 4..8, 8..12, 12..20]);
}

#[test]
fn an_interrupted_run_is_taken_up_where_it_stopped() {
    let x = random([2, 1, 41, 23]);
    let windows = SlidingWindow::new([16, 10]).with_blend(Blend::GAUSSIAN);
    let model = |windows: Windows| Ok([windows.pixels.sin()]);
    let go_on = |_| ControlFlow::Continue(());
    let whole = values(windows.infer(x.clone(), Tensor::sin));

    for stop in [1, 11, 12, 25, 40] {
        let mut file = File {
            fails_at: Some(stop),
            ..File::default()
        };
        let error = windows.stream(&x, [&mut file], go_on, model).unwrap_err();
        assert!(
            matches!(error, ChunkedError::Write { output: 0, .. }),
            "{error}"
        );
        let (before, mut runs) = (file.done, 0);
        file.fails_at = None;
        let counted = |windows| {
            runs += 1;
            model(windows)
        };
        windows.stream(&x, [&mut file], go_on, counted).unwrap();
        let all = 2 * windows.num_windows([41, 23]);
        assert!(
            before < 16 || runs < all,
            "{runs} of {all} after {before} rows"
        );
        assert_eq!(values(file.result.into_tensor(&Device::flex())), whole);
    }
}

#[test]
fn a_run_stops_when_it_is_asked_to() {
    let x = random([1, 1, 64, 16]);
    let mut file = File::default();
    let stop = |progress: Progress| match progress.done {
        3 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let windows = SlidingWindow::new([16, 16]).with_overlap([0.0; 2]);
    let error = windows
        .stream(&x, [&mut file], stop, |windows| Ok([windows.pixels]))
        .unwrap_err();
    assert_eq!(error.to_string(), "stopped by request after 3 of 4 windows");
    assert_eq!(file.done, 32);
}

/// Rows made when they are asked for; a part of them cannot be read.
struct Damaged;

impl ImageSource for Damaged {
    fn dims(&self) -> [usize; 4] {
        [1, 1, 64, 8]
    }

    fn read(
        &self,
        _image: usize,
        rows: Range<usize>,
        columns: Range<usize>,
    ) -> Result<Tensor<4>, BoxError> {
        if rows.contains(&40) {
            return Err("row 40 is damaged".into());
        }
        let pixels = vec![1.0; rows.len() * columns.len()];
        let data = TensorData::new(pixels, [1, 1, rows.len(), columns.len()]);
        Ok(Tensor::from_data(data, &Device::flex()))
    }
}

#[test]
fn what_was_finished_before_a_damaged_part_is_kept() {
    let mut file = File::default();
    let windows = SlidingWindow::new([16, 8]).with_overlap([0.0; 2]);
    let go_on = |_| ControlFlow::Continue(());
    let error = windows
        .stream(&Damaged, [&mut file], go_on, |windows| Ok([windows.pixels]))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot read image 0 at row 32, column 0 for a window"
    );
    assert_eq!(file.done, 32);
}

#[test]
fn a_model_that_fails_says_where_and_keeps_what_was_finished() {
    let x = random([1, 1, 64, 16]);
    let mut file = File::default();
    let go_on = |_| ControlFlow::Continue(());
    let mut runs = 0;
    let mut model = |x| {
        runs += 1;
        match runs {
            3 => Err("can't allocate buffer of size: 4096".into()),
            _ => Ok(x),
        }
    };
    let windows = SlidingWindow::new([16, 16]).with_overlap([0.0; 2]);
    let error = windows
        .stream(&x, [&mut file], go_on, |windows| model([windows.pixels]))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot run the model on image 0 at row 32, column 0"
    );
    assert!(Failure::of(&error).is_out_of_memory());
    assert_eq!(file.done, 32);
}

/// Batches of up to 16 windows, from 8 on.
fn runner() -> BatchRunner {
    BatchRunner::new(BatchSizeConfig {
        ceiling: 16,
        grow_after: 2,
        ..BatchSizeConfig::default()
    })
}

#[test]
fn windows_of_a_batch_that_does_not_fit_run_again_in_smaller_ones() {
    let x = random([2, 1, 41, 90]);
    let windows = SlidingWindow::new([16, 10]).with_blend(Blend::GAUSSIAN);
    let whole = values(windows.infer(x.clone(), Tensor::sin));
    let mut runner = runner();
    let mut sink = TensorSink::new();
    let (mut progress, mut largest) = (Vec::new(), 0);
    let note = |at: Progress| {
        progress.push(at.done);
        ControlFlow::Continue(())
    };
    windows
        .stream_adaptive(&x, [&mut sink], &mut runner, note, |windows| {
            largest = largest.max(windows.places.len());
            if windows.places.len() > 3 {
                return Err("can't allocate buffer of size: 4096".into());
            }
            Ok([windows.pixels.sin()])
        })
        .unwrap();
    assert_eq!(values(sink.into_tensor(&Device::flex())), whole);
    let report = runner.report();
    let total = 2 * windows.num_windows([41, 90]);
    assert_eq!(report.num_items, total);
    assert_eq!(report.failed_sizes, [8, 4]);
    assert_eq!((largest, report.largest_batch), (8, 2));
    assert_eq!(progress.last(), Some(&total));
    assert!(progress.is_sorted());

    // What was learned stays, and the batch size bounds it.
    let one = windows.with_batch_size(1);
    let mut sink = TensorSink::new();
    let go_on = |_| ControlFlow::Continue(());
    one.stream_adaptive(&x, [&mut sink], &mut runner, go_on, |windows| {
        assert_eq!(windows.places.len(), 1);
        Ok([windows.pixels.sin()])
    })
    .unwrap();
    assert_eq!(runner.report().failed_sizes, [8, 4]);
}

#[test]
fn windows_of_which_not_even_one_fits_are_an_error_with_their_place() {
    let x = random([1, 1, 40, 40]);
    let windows = SlidingWindow::new([16, 16]).with_overlap([0.0; 2]);
    let mut sink = TensorSink::new();
    let go_on = |_| ControlFlow::Continue(());
    let error = windows
        .stream_adaptive(&x, [&mut sink], &mut runner(), go_on, |windows| {
            if windows.places[0].column > 0 || windows.places.len() > 1 {
                return Err("out of memory".into());
            }
            Ok([windows.pixels])
        })
        .unwrap_err();
    assert!(
        matches!(&error, ChunkedError::Model { column: 16, source, .. }
            if matches!(source.downcast_ref(), Some(BatchError::OutOfMemory { .. }))),
        "{error:?}"
    );
    assert!(Failure::of(&error).is_out_of_memory());
}

mod exact {
    use burn::module::Module;
    use burn::nn::conv::{Conv2d, Conv2dConfig};
    use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
    use burn::nn::{GroupNorm, GroupNormConfig, PaddingConfig2d};
    use burn::tensor::activation::relu;
    use burn_memopt::chunked::{ExactTiles, Reach, global_layers};

    use super::*;

    /// Halves, convolves, and doubles again.
    #[derive(Module, Debug)]
    struct Net {
        first: Conv2d,
        pool: MaxPool2d,
        second: Conv2d,
        norm: Option<GroupNorm>,
    }

    impl Net {
        fn new(has_norm: bool) -> Self {
            let device = Device::flex();
            let conv = |channels| {
                Conv2dConfig::new(channels, [3, 3])
                    .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1))
                    .init(&device)
            };
            Self {
                first: conv([1, 4]),
                pool: MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
                second: conv([4, 4]),
                norm: has_norm.then(|| GroupNormConfig::new(2, 4).init(&device)),
            }
        }

        fn forward(&self, x: Tensor<4>) -> Tensor<4> {
            let [.., height, width] = x.dims();
            let x = relu(self.first.forward(x));
            let skip = x.clone();
            let x = self.second.forward(self.pool.forward(x));
            let x = match &self.norm {
                Some(norm) => norm.forward(x),
                None => x,
            };
            let [images, channels, rows, columns] = x.dims();
            let x = x
                .reshape([images, channels, rows, 1, columns, 1])
                .repeat(&[1, 1, 1, 2, 1, 2])
                .reshape([images, channels, 2 * rows, 2 * columns]);
            let missing = [height - 2 * rows, width - 2 * columns];
            let x = x.pad((0, missing[1], 0, missing[0]), 0.0);
            x + skip
        }
    }

    #[test]
    fn tiles_of_a_measured_reach_are_the_whole_image() {
        let net = Net::new(false);
        let device = Device::flex();
        let reach = Reach::measure([1, 32, 32], 2, &device, |x| net.forward(x));
        let halo = reach.halo().expect("a limited reach");
        assert!((3..=5).contains(&halo), "{halo}");
        for [height, width] in [[75, 110], [16, 16], [31, 200]] {
            let x = random([2, 1, height, width]);
            let tiles = ExactTiles::new([16, 24], &reach);
            let mine = tiles.infer(x.clone(), |x| net.forward(x));
            let whole = net.forward(x);
            let off = (mine - whole.clone()).abs().max().into_scalar::<f32>();
            let scale = whole.abs().max().into_scalar::<f32>();
            assert!(off <= 1e-6 * scale, "{height}×{width}: off by {off}");
        }
    }

    #[test]
    fn tiles_in_batches_are_those_that_run_alone() {
        let x = random([2, 1, 50, 150]);
        let tiles = ExactTiles::with_halo([16, 16], 4, 2);
        // Differs by the place of the tile.
        let model = |tiles: Windows| {
            let dims = tiles.pixels.dims();
            assert_eq!((dims[0], tiles.image_size), (tiles.places.len(), [50, 150]));
            let columns = tiles.places.iter().map(|place| place.column as f32);
            let columns = TensorData::new(columns.collect(), [dims[0], 1, 1, 1]);
            [tiles.pixels + Tensor::from_data(columns, &Device::flex())]
        };
        let [alone] = tiles.infer_many(x.clone(), model);
        let mut largest = 0;
        let [batches] = tiles
            .clone()
            .with_batch_size(5)
            .infer_many(x.clone(), |tiles| {
                largest = largest.max(tiles.places.len());
                model(tiles)
            });
        assert_eq!(largest, 5);
        assert_eq!(values(batches), values(alone.clone()));

        let mut sink = TensorSink::new();
        let mut runner = runner();
        let go_on = |_| ControlFlow::Continue(());
        tiles
            .stream_adaptive(&x, [&mut sink], &mut runner, go_on, |tiles| {
                if tiles.places.len() > 4 {
                    return Err("can't allocate buffer of size: 4096".into());
                }
                Ok(model(tiles))
            })
            .unwrap();
        assert_eq!(values(sink.into_tensor(&Device::flex())), values(alone));
        let report = runner.report();
        assert_eq!(report.num_items, 2 * tiles.num_windows([50, 150]));
        assert_eq!((report.failed_sizes, report.largest_batch), (vec![8], 4));
    }

    #[test]
    fn tiles_of_a_smaller_halo_are_not() {
        let net = Net::new(false);
        let x = random([1, 1, 64, 64]);
        let mine = ExactTiles::with_halo([16, 16], 0, 2).infer(x.clone(), |x| net.forward(x));
        let off = (mine - net.forward(x)).abs().max().into_scalar::<f32>();
        assert!(off > 1e-3, "off by {off}");
    }

    #[test]
    fn group_normalization_is_found_and_named() {
        let net = Net::new(true);
        let device = Device::flex();
        let reach = Reach::measure([1, 32, 32], 2, &device, |x| net.forward(x));
        assert_eq!(reach.halo(), None);
        assert!(reach.farthest_change() > 0.0);
        assert_eq!(global_layers(&net), ["norm (GroupNorm)"]);
        assert!(global_layers(&Net::new(false)).is_empty());
    }

    #[test]
    #[should_panic(expected = "the model must have a limited reach for exact tiles")]
    fn exact_tiles_of_a_global_model_are_refused() {
        let net = Net::new(true);
        let reach = Reach::measure([1, 32, 32], 2, &Device::flex(), |x| net.forward(x));
        ExactTiles::new([16, 16], &reach);
    }

    #[test]
    fn exact_tiles_go_on_where_a_run_stopped() {
        let x = random([2, 1, 50, 33]);
        let tiles = ExactTiles::with_halo([16, 16], 1, 1);
        let go_on = |_| ControlFlow::Continue(());
        let mut file = File {
            fails_at: Some(33),
            ..File::default()
        };
        let model = |tiles: Windows| Ok([tiles.pixels * 2.0]);
        let error = tiles.stream(&x, [&mut file], go_on, model).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot write rows from 32 on of output 0"
        );
        assert_eq!(file.done, 32);
        file.fails_at = None;
        tiles.stream(&x, [&mut file], go_on, model).unwrap();
        let mine = file.result.into_tensor(&Device::flex());
        assert_eq!(values(mine), values(x * 2.0));
    }
}
