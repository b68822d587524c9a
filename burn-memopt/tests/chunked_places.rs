//! Where windows, sums and results of chunked inference are: the host, a device, files.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt::batch::{BatchRunner, BatchSizeConfig};
use burn_memopt::chunked::{
    Accumulator, Blend, ChunkedError, ExactTiles, ImageSource, NpyError, NpySink, NpySource,
    Padding, Progress, RowSink, SlidingWindow, TensorSink, Windows,
};
use proptest::prelude::*;
use rstest::rstest;

mod blocks;

fn random(dims: [usize; 4]) -> Tensor<4> {
    Tensor::random(dims, Distribution::Default, &Device::flex())
}

fn in_file() -> Accumulator {
    Accumulator::File(std::env::temp_dir())
}

fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Writes a tensor as a file of NumPy.
fn save(tensor: Tensor<4>, path: &Path) {
    let mut sink = NpySink::new(path);
    sink.begin(tensor.dims()).unwrap();
    let height = tensor.dims()[2];
    sink.write(0..height, tensor.into_data().as_slice().unwrap())
        .unwrap();
    sink.finish().unwrap();
}

fn load(path: &Path) -> Tensor<4> {
    let source = NpySource::open(path, &Device::flex()).unwrap();
    let [num_images, _, height, width] = source.dims();
    let image = |image| source.read(image, 0..height, 0..width).unwrap();
    Tensor::cat((0..num_images).map(image).collect(), 0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn sums_are_the_same_wherever_they_are_kept(
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
        let run = |accumulator| {
            let windows = windows.clone().with_accumulator(accumulator);
            // Differs from window to window, so that sums matter.
            let result = windows.infer(x.clone(), |window| window.clone() + window.mean().unsqueeze());
            result.into_data()
        };
        let host = run(Accumulator::Host);
        prop_assert_eq!(&run(in_file()), &host);
        run(Accumulator::Device).assert_approx_eq::<f32>(&host, Default::default());
    }
}

#[rstest]
fn tiles_are_the_same_wherever_they_are_kept(
    #[values(Accumulator::Host, Accumulator::Device, in_file())] accumulator: Accumulator,
) {
    let x = random([2, 3, 50, 33]);
    let tiles = ExactTiles::with_halo([16, 8], 3, 4).with_accumulator(accumulator);
    let tiled = tiles.infer(x.clone(), |tile| tile * 2.0);
    assert_eq!(tiled.into_data(), (x * 2.0).into_data());
}

#[rstest]
fn batches_that_are_divided_have_the_same_sums_wherever_they_are_kept(
    #[values(Accumulator::Host, Accumulator::Device, in_file())] accumulator: Accumulator,
) {
    let x = random([1, 2, 40, 90]);
    let windows = SlidingWindow::new([16, 16]).with_blend(Blend::GAUSSIAN);
    let whole = windows.infer(x.clone(), Tensor::sin);
    let windows = windows.with_accumulator(accumulator);
    let mut runner = BatchRunner::new(BatchSizeConfig::default());
    let mut sink = TensorSink::new();
    windows
        .stream_adaptive(
            &x,
            [&mut sink],
            &mut runner,
            go_on,
            |windows| match windows.places.len() {
                1..=3 => Ok([windows.pixels.sin()]),
                _ => Err("can't allocate buffer of size: 64".into()),
            },
        )
        .unwrap();
    assert_eq!(runner.report().failed_sizes, [8, 4]);
    sink.into_tensor(&Device::flex())
        .into_data()
        .assert_approx_eq::<f32>(&whole.into_data(), Default::default());
}

#[test]
fn a_run_from_file_to_file_is_that_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let [image, result] = ["image.npy", "result.npy"].map(|name| folder.path().join(name));
    let x = random([2, 3, 45, 37]);
    save(x.clone(), &image);
    assert_eq!(load(&image).into_data(), x.clone().into_data());

    let windows = SlidingWindow::new([16, 12]).with_blend(Blend::GAUSSIAN);
    let source = NpySource::open(&image, &Device::flex()).unwrap();
    let mut sink = NpySink::new(&result);
    let streamed = windows.clone().with_accumulator(in_file());
    let model = |windows: Windows| Ok([windows.pixels.sin()]);
    streamed.stream(&source, [&mut sink], go_on, model).unwrap();
    assert!(!result.exists() && sink.part().exists());
    sink.finish().unwrap();
    assert_eq!(
        load(&result).into_data(),
        windows.infer(x, Tensor::sin).into_data()
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[rstest]
#[case::sums_in_memory(Accumulator::Host)]
#[case::sums_in_a_file(in_file())]
#[case::sums_on_a_device(Accumulator::Device)]
fn finished_rows_of_an_interrupted_run_are_not_done_again(#[case] accumulator: Accumulator) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result.npy");
    let x = random([1, 2, 100, 40]);
    let windows = SlidingWindow::new([16, 16]).with_accumulator(accumulator);
    // Eight rows of windows, 12 pixels apart.
    assert_eq!(windows.num_windows([100, 40]), 8 * 3);
    // Runs the model `most` times at most, then fails as a process that is ended.
    let run = |most: usize| {
        let mut runs = 0;
        let mut sink = NpySink::new(&path);
        let result = windows.stream(&x, [&mut sink], go_on, |windows: Windows| {
            if runs == most {
                return Err("ended".into());
            }
            runs += 1;
            Ok([windows.pixels.clone() + windows.pixels.mean().unsqueeze()])
        });
        match result {
            Ok(()) => sink.finish().unwrap(),
            Err(error) => {
                assert!(matches!(error, ChunkedError::Model { .. }), "{error}");
                let error = sink.finish().unwrap_err();
                assert!(matches!(error, NpyError::Unfinished { height: 100, .. }));
            }
        }
        runs
    };
    // Two rows of windows finish 24 rows; the second touches the 25th too.
    assert_eq!(run(7), 7);
    // One window tells what comes; three rows of windows more, and 48 rows are there.
    assert_eq!(run(1 + 9), 1 + 9);
    assert_eq!(run(usize::MAX), 1 + 5 * 3);
    let whole = windows
        .clone()
        .with_accumulator(Accumulator::Host)
        .infer(x, |window| window.clone() + window.mean().unsqueeze());
    load(&path)
        .into_data()
        .assert_approx_eq::<f32>(&whole.into_data(), Default::default());
}

#[test]
fn a_finished_part_costs_no_more_than_a_look() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result.npy");
    let x = random([1, 1, 64, 16]);
    for expected in [8, 1] {
        let mut runs = 0;
        let mut sink = NpySink::new(&path);
        let windows = SlidingWindow::new([16, 8]).with_overlap([0.0; 2]);
        let model = |windows: Windows| {
            runs += 1;
            Ok([windows.pixels])
        };
        windows.stream(&x, [&mut sink], go_on, model).unwrap();
        assert_eq!(runs, expected);
    }
}

#[test]
fn a_part_of_another_result_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("result.npy");
    NpySink::new(&path).begin([1, 1, 10, 10]).unwrap();
    assert_eq!(NpySink::new(&path).begin([1, 1, 10, 10]).unwrap(), 0);
    let error = NpySink::new(&path).begin([1, 1, 20, 5]).unwrap_err();
    assert!(
        error.to_string().ends_with(
            "result.npy.part is a part of another result than [1, 1, 20, 5]: remove it to start anew"
        ),
        "{error}"
    );
}

#[rstest]
#[case::empty(b"", "it has 0 bytes")]
#[case::of_another_kind(b"II*\0................", "it starts otherwise")]
#[case::header_beyond_the_end(
    b"\x93NUMPY\x02\0\xff\xff\xff\xff{}",
    "its header ends at byte 4294967307 of 14"
)]
#[case::no_description(b"\x93NUMPY\x01\0\x04\0{}  ", "its header has no 'descr'")]
fn files_that_are_no_arrays_are_refused(#[case] bytes: &[u8], #[case] found: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.npy");
    fs::write(&path, bytes).unwrap();
    let error = NpySource::open(&path, &Device::flex()).unwrap_err();
    assert!(error.to_string().ends_with(found), "{error}");
}

#[test]
fn an_array_that_claims_more_than_its_file_holds_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.npy");
    save(random([1, 1, 20, 20]), &path);
    let mut bytes = fs::read(&path).unwrap();
    bytes.pop();
    fs::write(&path, &bytes).unwrap();
    let error = NpySource::open(&path, &Device::flex()).unwrap_err();
    let found = "its 1599 bytes of pixels do not hold [1, 1, 20, 20]";
    assert!(error.to_string().ends_with(found), "{error}");
}

#[test]
fn a_folder_for_sums_that_is_not_there_is_an_error() {
    let x = random([1, 1, 20, 20]);
    let nowhere = Accumulator::File("/nowhere/at/all".into());
    let windows = SlidingWindow::new([8, 8]).with_accumulator(nowhere);
    let model = |windows: Windows| Ok([windows.pixels]);
    let error = windows
        .stream(&x, [&mut TensorSink::new()], go_on, model)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot keep the sums of output 0 in a file"
    );
}

#[cfg(feature = "wgpu")]
mod gpu {
    use burn_memopt::batch::Failure;

    use super::*;

    #[rstest]
    fn windows_run_on_a_gpu_while_image_and_result_stay_in_host_memory(
        #[values(Accumulator::Host, Accumulator::Device, in_file())] accumulator: Accumulator,
    ) {
        let Some(gpu) = blocks::gpu_device() else {
            return;
        };
        let gpu = gpu.inner();
        let x = random([1, 2, 40, 30]);
        let windows = SlidingWindow::new([16, 16])
            .with_batch_size(2)
            .with_device(&gpu)
            .with_accumulator(accumulator);
        let result = windows.infer(x.clone(), |window| {
            assert_eq!(window.device(), gpu);
            window * 2.0
        });
        assert_eq!(result.device(), x.device());
        result
            .into_data()
            .assert_approx_eq::<f32>(&(x * 2.0).into_data(), Default::default());
    }

    #[rstest]
    fn batches_that_a_gpu_has_no_memory_for_are_divided(
        #[values(Accumulator::Host, Accumulator::Device)] accumulator: Accumulator,
    ) {
        let Some(gpu) = blocks::gpu_device() else {
            return;
        };
        let x = random([1, 1, 16, 64]);
        let windows = SlidingWindow::new([16, 16])
            .with_overlap([0.0; 2])
            .with_device(&gpu.inner())
            .with_accumulator(accumulator);
        let mut runner = BatchRunner::new(BatchSizeConfig::default());
        let mut sink = TensorSink::new();
        windows
            .stream_adaptive(&x, [&mut sink], &mut runner, go_on, |windows| {
                let num_windows = windows.places.len();
                let pixels = windows.pixels;
                if num_windows < 3 {
                    return Ok([pixels]);
                }
                // 64 GiB in one buffer.
                let much = pixels.clone().repeat_dim(0, 1 << 24) + 1.0;
                Ok([much.narrow(0, 0, num_windows) + pixels])
            })
            .unwrap();
        assert_eq!(runner.report().failed_sizes, [4]);
        assert_eq!(sink.into_tensor(&Device::flex()).into_data(), x.into_data());
    }

    #[test]
    fn lack_of_memory_of_a_gpu_is_an_error_and_not_a_panic() {
        let Some(gpu) = blocks::gpu_device() else {
            return;
        };
        let gpu = gpu.inner();
        let x = random([1, 1, 64, 16]);
        let windows = SlidingWindow::new([16, 16])
            .with_overlap([0.0; 2])
            .with_device(&gpu);
        let mut sink = TensorSink::new();
        let mut runs = 0;
        // The third window takes 64 GiB in one buffer.
        let result = windows.stream(&x, [&mut sink], go_on, |windows: Windows| {
            runs += 1;
            let pixels = windows.pixels;
            if runs < 3 {
                return Ok([pixels]);
            }
            let much = pixels.clone().repeat_dim(0, 1 << 26) + 1.0;
            Ok([much.narrow(0, 0, 1) + pixels])
        });
        let error = result.unwrap_err();
        assert!(
            matches!(
                error,
                ChunkedError::Model {
                    image: 0,
                    row: 32,
                    column: 0,
                    ..
                }
            ),
            "{error}"
        );
        assert!(Failure::of(&error).is_out_of_memory(), "{error:?}");
        // The device works on.
        windows
            .stream(&x, [&mut sink], go_on, |windows| Ok([windows.pixels]))
            .unwrap();
        assert_eq!(sink.into_tensor(&Device::flex()).into_data(), x.into_data());
    }
}
