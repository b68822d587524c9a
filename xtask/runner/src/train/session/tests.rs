use std::path::Path;

use anyhow::bail;
use burn::data::dataset::Dataset;
use burn::module::Module;
use burn::tensor::Tensor;
use burn_memopt::train::MicroBatchTrainer;
use burn_memopt_models::unet::UNet;
use tempfile::TempDir;
use xtask::cli::values::Words;

use super::*;
use crate::run_dir::RunDir;
use crate::settings::{Settings, UNetSettings, settings_of};
use crate::train::images::UNetJob;
use crate::train::images::data::{Batch, Data, Sample};
use crate::train::job::{Load, Metrics};
use crate::train::saved::{self, CutPlan};

/// A UNet's job on a device that has no memory for more than `fits` items.
struct Small {
    job: UNetJob,
    fits: usize,
}

impl Job for Small {
    type Settings = UNetSettings;
    type Network = UNet;
    type Trainer = MicroBatchTrainer;
    type Data = Data;
    type Item = Sample;
    type Batch = Batch;

    const DRAWS: bool = false;

    fn new(settings: Settings<UNetSettings>) -> Result<Self> {
        let job = UNetJob::new(settings)?;
        Ok(Self { job, fits: 1 })
    }

    fn trainer(
        &self,
        _: &Data,
        config: &MicroBatchTrainerConfig,
        optimizer: &ModuleOptimizer,
    ) -> MicroBatchTrainer {
        config.init(optimizer.clone())
    }

    fn open(&self) -> Result<Option<Data>> {
        self.job.open()
    }

    fn generate(&self, folder: &Path) -> Result<Data> {
        self.job.generate(folder)
    }

    fn parts(data: &Data) -> Vec<&dyn Dataset<Sample>> {
        UNetJob::parts(data)
    }

    fn network(&self, data: Option<&Data>, cut: &mut CutPlan, device: &Device) -> Result<UNet> {
        self.job.network(data, cut, device)
    }

    fn loader(
        &self,
        data: &Data,
        load: &Load,
        device: &Device,
    ) -> Result<burn_memopt_datasets::loader::Loader<Sample, Batch>> {
        self.job.loader(data, load, device)
    }

    fn num_items(batch: &Batch) -> usize {
        batch.num_items()
    }

    fn micro_batch(&self, network: &UNet, train: &mut MicroBatchTrainer, batch: Batch) {
        let num_items = batch.num_items();
        self.job.micro_batch(network, train, batch);
        assert!(
            num_items <= self.fits,
            "can't allocate buffer of size: {num_items}"
        );
    }

    fn evaluate(&self, _: &UNet, _: &Data, _: usize, _: &RunDir, _: &[Device]) -> Result<Metrics> {
        bail!("nothing is evaluated here")
    }
}

/// A run of 160 generated frames.
struct Trial {
    job: Small,
    data: Data,
    run: RunSettings,
    device: Device,
    _folder: TempDir,
}

impl Trial {
    fn new(batch_size: usize, accumulation_steps: usize, fits: usize) -> Self {
        let mut settings = settings_of::<UNetSettings>(&Words::new()).unwrap();
        settings.model.image.network.base_channels = 2;
        settings.model.image.network.depth = 1;
        settings.run.batch_size = batch_size;
        settings.run.accumulation_steps = accumulation_steps;
        settings.run.auto_micro_batch = true;
        let run = settings.run.clone();
        let job = UNetJob::new(settings).unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self {
            data: job.generate(folder.path()).unwrap(),
            job: Small { job, fits },
            run,
            device: Device::flex().autodiff(),
            _folder: folder,
        }
    }

    fn session(&self) -> Session<Small> {
        Session::new(
            &self.job,
            &self.data,
            &self.run,
            Precision::F32,
            std::slice::from_ref(&self.device),
        )
        .unwrap()
    }

    /// A network whose weights are drawn: the random stream is that of all tests, so that two are
    /// only alike if one is a clone of the other.
    fn network(&self) -> UNet {
        let network = self
            .job
            .network(Some(&self.data), &mut CutPlan::default(), &self.device)
            .unwrap();
        network.forward(Tensor::ones([1, 1, 32, 32], &self.device));
        network
    }

    fn steps(
        &self,
        session: &mut Session<Small>,
        mut network: UNet,
        num_steps: usize,
    ) -> (UNet, Vec<StepDone>) {
        let mut steps = Vec::new();
        for _ in 0..num_steps {
            let (next, done) = session.advance(&self.job, &self.data, network);
            network = next;
            steps.push(done.unwrap());
        }
        (network, steps)
    }

    fn losses(&self, network: UNet, num_steps: usize) -> Vec<f64> {
        let (_, steps) = self.steps(&mut self.session(), network, num_steps);
        losses(&steps)
    }
}

fn losses(steps: &[StepDone]) -> Vec<f64> {
    steps.iter().filter_map(|step| step.loss).collect()
}

#[test]
fn a_run_that_lacks_memory_is_the_run_that_began_with_what_fits() {
    let trial = Trial::new(24, 1, 6);
    let (mut session, network) = (trial.session(), trial.network());
    // Beyond an epoch, whose last step has 16 items.
    let (_, steps) = trial.steps(&mut session, network.clone(), 9);
    let items: Vec<_> = steps.iter().map(|step| step.items).collect();
    assert_eq!(items, [24, 24, 24, 24, 24, 24, 16, 24, 24]);
    assert_eq!(session.parts.tried(), [24, 12]);
    assert_eq!(session.steps_per_epoch(), 7);
    assert_eq!(losses(&steps), Trial::new(6, 4, 6).losses(network, 9));
}

#[test]
fn memory_that_runs_out_later_changes_no_item_of_a_step() {
    let mut trial = Trial::new(24, 1, 24);
    let network = trial.network();
    let wanted = trial.losses(network.clone(), 9);
    let mut session = trial.session();
    let (network, first) = trial.steps(&mut session, network, 5);
    trial.job.fits = 12;
    let (_, rest) = trial.steps(&mut session, network, 4);
    assert_eq!(session.parts.tried(), [24]);
    let got = [losses(&first), losses(&rest)].concat();
    for (got, wanted) in got.iter().zip(&wanted) {
        assert!(
            (got - wanted).abs() <= 1e-4 * wanted.abs(),
            "{got} is not {wanted}"
        );
    }
}

#[test]
fn a_resumed_run_goes_on_with_what_fits() {
    let trial = Trial::new(24, 1, 6);
    let (mut whole, dir) = (trial.session(), tempfile::tempdir().unwrap());
    let (network, _) = trial.steps(&mut whole, trial.network(), 2);
    saved::save(dir.path(), &network, &whole).unwrap();
    let (_, wanted) = trial.steps(&mut whole, network, 2);

    let mut resumed = trial.session();
    let (job, data) = (&trial.job, &trial.data);
    let network = saved::load(dir.path(), job, data, trial.network(), &mut resumed).unwrap();
    assert_eq!(resumed.parts.size(), 6);
    let (_, got) = trial.steps(&mut resumed, network, 2);
    assert_eq!(losses(&got), losses(&wanted));
    assert!(resumed.parts.tried().is_empty());
}

#[test]
fn where_nothing_fits_the_sizes_are_named_and_the_network_is_as_before() {
    let trial = Trial::new(4, 1, 0);
    let (mut session, network) = (trial.session(), trial.network());
    let seen = |network: &UNet| {
        let image = Tensor::<4>::ones([1, 1, 32, 32], &Device::flex());
        network.valid().forward(image).into_data()
    };
    let before = seen(&network);
    let (network, done) = session.advance(&trial.job, &trial.data, network);
    let error = done.unwrap_err().to_string();
    assert!(error.contains("for micro-batches of 4, 2, 1;"), "{error}");
    assert_eq!(seen(&network), before);
    assert_eq!(session.step, 0);
}
