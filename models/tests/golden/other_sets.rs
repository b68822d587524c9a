//! Cases of other sizes and constants, made here by plain loops in f64: the golden tests must pass with them
//! as with those of the repository.

use std::f64::consts::PI;
use std::fs::{self, File};
use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use rstest::rstest;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use crate::other_set::{OtherSet, Values};
use crate::{harness, published};

#[rstest]
#[case("raft-things", "raft", "raft_loads::case_1_archive")]
#[case(
    "recurrent_flow_completion",
    "recurrent_flow_completion",
    "flow_completion_loads"
)]
fn checkpoints_load_with_another_golden_set(
    #[case] file: &str,
    #[case] manifest: &str,
    #[case] test: &str,
) {
    let set = OtherSet::new();
    let manifest = format!("manifest/{manifest}.json");
    for folder in ["pth", "manifest"] {
        fs::create_dir(set.path().join(folder)).expect("a folder");
    }
    fs::copy(harness::root().join(&manifest), set.path().join(&manifest)).expect("a copy");
    let packed = set.path().join(format!("pth/{file}.pth.gz"));
    let mut packed = GzEncoder::new(File::create(packed).unwrap(), Compression::fast());
    let changed = with_other_values(published::unpacked(file).into_file());
    packed.write_all(&changed).unwrap();
    packed.finish().unwrap();
    set.check(&format!("published::golden_checkpoint_of_{test}"));
}

/// The checkpoint with all floats halved.
fn with_other_values(checkpoint: File) -> Vec<u8> {
    let mut archive = ZipArchive::new(checkpoint).unwrap();
    let mut changed = ZipWriter::new(io::Cursor::new(Vec::new()));
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        let name = file.name().unwrap().into_owned();
        // Integers are of eight bytes: a counter, whose upper half is zero, and no float here is.
        if name.contains("/data/") && bytes.get(4..8) != Some(&[0; 4]) {
            for value in bytes.as_chunks_mut::<4>().0 {
                *value = (f32::from_le_bytes(*value) / 2.0).to_le_bytes();
            }
        }
        let stored =
            SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        changed.start_file(name, stored).unwrap();
        changed.write_all(&bytes).unwrap();
    }
    changed.finish().unwrap().into_inner()
}

/// `[batch_size, channels, height, width]`.
struct Images {
    shape: [usize; 4],
    values: Vec<f64>,
}

impl Images {
    fn waves(shape: [usize; 4]) -> Self {
        let len = shape.iter().product();
        let values = (0..len).map(|at| 2.0 * (at as f64 * 0.7).sin());
        Self {
            shape,
            values: values.collect(),
        }
    }

    /// Other planes of `size`, each value from its plane and place.
    fn map(&self, size: [usize; 2], value: impl Fn(&Plane<'_>, usize, usize) -> f64) -> Values {
        let [batch_size, channels, height, width] = self.shape;
        let mut mapped = Vec::new();
        for plane in self.values.chunks(height * width) {
            let plane = Plane {
                values: plane,
                size: [height, width],
            };
            for y in 0..size[0] {
                mapped.extend((0..size[1]).map(|x| value(&plane, y, x)));
            }
        }
        Values::floats(&[batch_size, channels, size[0], size[1]], mapped)
    }
}

struct Plane<'a> {
    values: &'a [f64],
    size: [usize; 2],
}

impl Plane<'_> {
    fn at(&self, y: usize, x: usize) -> f64 {
        self.values[y * self.size[1] + x]
    }

    /// Between pixels; beyond the edges the plane continues as it ends.
    fn between(&self, places: [f64; 2]) -> f64 {
        let axis = |axis: usize| {
            let last = self.size[axis] - 1;
            let place = places[axis].clamp(0.0, last as f64);
            let first = place.floor();
            (
                first as usize,
                (first as usize + 1).min(last),
                place - first,
            )
        };
        let ((top, bottom, down), (left, right, across)) = (axis(0), axis(1));
        let row = |y| self.at(y, left) * (1.0 - across) + self.at(y, right) * across;
        row(top) * (1.0 - down) + row(bottom) * down
    }

    /// The pixels of a window of `side`² whose first is at `[y, x] * stride - padding`.
    fn window(&self, place: [usize; 2], [side, stride, padding]: [usize; 3]) -> Vec<f64> {
        let [rows, columns] = [0, 1].map(|axis| {
            let start = place[axis] * stride;
            (start.saturating_sub(padding)..(start + side - padding).min(self.size[axis]))
                .collect::<Vec<_>>()
        });
        let pixels = rows
            .iter()
            .flat_map(|&y| columns.iter().map(move |&x| (y, x)));
        pixels.map(|(y, x)| self.at(y, x)).collect()
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn normalized(values: &[f64], value: f64) -> f64 {
    let centre = mean(values);
    let squares: Vec<f64> = values.iter().map(|v| (v - centre).powi(2)).collect();
    (value - centre) / (mean(&squares) + 1e-5).sqrt()
}

/// By Simpson's rule.
fn erf(x: f64) -> f64 {
    const STEPS: usize = 100;
    let density = |step: usize| (-(x * step as f64 / STEPS as f64).powi(2)).exp();
    let weight = |step: usize| match step {
        0 | STEPS => 1.0,
        step if step % 2 == 1 => 4.0,
        _ => 2.0,
    };
    let sum: f64 = (0..=STEPS).map(|step| weight(step) * density(step)).sum();
    sum * x / STEPS as f64 / 3.0 * 2.0 / PI.sqrt()
}

/// The exact form.
pub fn gelu(x: f64) -> f64 {
    x * 0.5 * (1.0 + erf(x / 2.0_f64.sqrt()))
}

#[test]
fn resampling_passes_with_another_golden_set() {
    let [height, width] = [15, 22];
    let size = [height, width];
    let x = Images::waves([2, 3, height, width]);
    let times = |factor: usize| size.map(|side| side * factor);
    let over = |factor: usize| size.map(|side| side / factor);
    let pooled = |[side, stride, padding]: [usize; 3]| {
        size.map(|len| (len + 2 * padding - side) / stride + 1)
    };
    // The outer edges of the pixels coincide, or the centres of the outer pixels.
    let edges = |place: usize, factor: f64| (place as f64 + 0.5) / factor - 0.5;
    let centres = |place: usize, factor: usize, side: usize| {
        (place * (side - 1)) as f64 / (side * factor - 1) as f64
    };
    let (max, average) = ([5, 2, 2], [3, 3, 0]);
    let largest = |values: Vec<f64>| values.into_iter().fold(f64::NEG_INFINITY, f64::max);

    let set = OtherSet::new();
    let tensors = [
        ("x", x.map(size, |plane, y, x| plane.at(y, x))),
        (
            "up3_bilinear_align_true",
            x.map(times(3), |plane, y, x| {
                plane.between([centres(y, 3, height), centres(x, 3, width)])
            }),
        ),
        (
            "up5_bilinear_align_true_times7",
            x.map(times(5), |plane, y, x| {
                7.0 * plane.between([centres(y, 5, height), centres(x, 5, width)])
            }),
        ),
        (
            "up3_bilinear_align_false",
            x.map(times(3), |plane, y, x| {
                plane.between([edges(y, 3.0), edges(x, 3.0)])
            }),
        ),
        (
            "up4_nearest",
            x.map(times(4), |plane, y, x| plane.at(y / 4, x / 4)),
        ),
        (
            "down4_bilinear_align_false",
            x.map(over(4), |plane, y, x| {
                plane.between([edges(y, 0.25), edges(x, 0.25)])
            }),
        ),
        (
            "down5_nearest",
            x.map(over(5), |plane, y, x| plane.at(5 * y, 5 * x)),
        ),
        (
            "maxpool_k5_s2_p2",
            x.map(pooled(max), |plane, y, x| {
                largest(plane.window([y, x], max))
            }),
        ),
        (
            "avgpool_k3",
            x.map(pooled(average), |plane, y, x| {
                mean(&plane.window([y, x], average))
            }),
        ),
        (
            "instance_norm",
            x.map(size, |plane, y, x| normalized(plane.values, plane.at(y, x))),
        ),
        (
            "layer_norm_lastdim",
            x.map(size, |plane, y, x| {
                normalized(&plane.values[y * width..][..width], plane.at(y, x))
            }),
        ),
        ("gelu_erf", x.map(size, |plane, y, x| gelu(plane.at(y, x)))),
        (
            "elu",
            x.map(size, |plane, y, x| {
                let value = plane.at(y, x);
                if value > 0.0 {
                    value
                } else {
                    value.exp() - 1.0
                }
            }),
        ),
    ];
    set.write("prim_resample_norm", "", tensors);
    set.check("video_operators::golden_resampling_and_normalization_of_burn");
}
