//! Temporary measurement.
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Distribution, Tensor};
use burn_memopt::memory::{CountingAllocator, PeakMeter};
use burn_memopt::precision::{Autocast, Precision};
use burn_memopt_models::propainter::loss::InpaintLoss;
use burn_memopt_models::propainter::{
    Flows, GeneratorInput, InpaintGenerator, InpaintGeneratorConfig,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator::new();

struct Touch(Vec<Vec<u8>>, Option<GradientsParams>);
impl ModuleVisitor for Touch {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        param.val();
        if let Some(g) = &self.1 {
            self.0.push(
                g.get::<D>(param.id)
                    .map(|g| g.into_data().as_bytes().to_vec())
                    .unwrap_or_default(),
            );
        }
    }
}

#[test]
fn peak() {
    let device = Device::flex().autodiff();
    let mut config = InpaintGeneratorConfig::new();
    if let Ok(mib) = std::env::var("WORKING_MIB") {
        config = config.with_working_bytes(mib.parse::<usize>().unwrap() << 20);
    }
    let plain = config.init(&device);
    plain.visit(&mut Touch(vec![], None));
    let normal = Distribution::Normal(0.0, 1.0);
    let random = |frames: usize, channels: usize| {
        Tensor::<5>::random([1, frames, channels, 128, 128], normal, &device)
    };
    let truth = random(16, 3).tanh();
    let masks = Tensor::<5>::ones([1, 16, 1, 64, 64], &device).pad([(32, 32), (32, 32)], 0.0);
    let input = GeneratorInput {
        frames: truth.clone() * masks.clone().neg().add_scalar(1.0),
        flows: Flows {
            forward: random(9, 2),
            backward: random(9, 2),
        },
        updated_masks: masks.clone(),
        masks: masks.clone(),
        num_local: 10,
    };
    let step = |generator: &InpaintGenerator, half: bool| {
        let GeneratorInput {
            frames,
            flows,
            masks,
            updated_masks,
            num_local,
        } = input.clone();
        let predicted = if half {
            let i = [frames, flows.forward, flows.backward, masks, updated_masks];
            Autocast::new(Precision::F16).run(
                generator,
                i,
                |h, [frames, forward, backward, masks, updated_masks]| {
                    h.forward_all(GeneratorInput {
                        frames,
                        flows: Flows { forward, backward },
                        masks,
                        updated_masks,
                        num_local,
                    })
                },
            )
        } else {
            generator.forward_all(input.clone())
        };
        let loss = InpaintLoss::new()
            .terms(&predicted, &truth, &input.masks, None)
            .total();
        drop(predicted);
        if std::env::var("VERBOSE").is_ok() {
            eprintln!(
                "forward done live {:?}",
                burn_memopt::memory::live_on(&device)
            );
        }
        let scale = if half { 1024.0 } else { 1.0 };
        GradientsParams::from_grads((loss * scale).backward(), generator)
    };
    let variants = std::env::var("VARIANTS").unwrap_or("pc".into());
    let mut all: Vec<Vec<Vec<u8>>> = vec![];
    for v in variants.chars() {
        let g = match v {
            'p' => plain.clone(),
            _ => plain.clone().with_grad_checkpoint(true),
        };
        let start = std::time::Instant::now();
        if std::env::var("VERBOSE").is_ok() {
            eprintln!("start live {:?}", burn_memopt::memory::live_on(&device));
        }
        let meter = PeakMeter::start(&device);
        let grads = step(&g, v == 'h');
        let peak = meter.finish().peak.unwrap().get();
        eprintln!("PEAK {v} {peak}");
        let mut t = Touch(vec![], Some(grads));
        plain.visit(&mut t);
        eprintln!(
            "{v}: peak {:.1} MiB, {:.1} s, grads {:.1} MiB",
            peak as f64 / 1048576.0,
            start.elapsed().as_secs_f64(),
            t.0.iter().map(Vec::len).sum::<usize>() as f64 / 1048576.0
        );
        all.push(t.0);
    }
    if all.len() > 1 {
        eprintln!("equal {:?}", all[0] == all[1]);
    }
}
