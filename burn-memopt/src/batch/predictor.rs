use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor, TensorData};

use super::stacked::{apart, together};
use super::{
    AdaptiveBatches, BatchError, BatchReport, BatchRunner, BatchSizeConfig, ModelCache, ModelError,
};
use crate::chunked::BoxError;
use crate::memory::to_host;
use crate::precision::{Autocast, Precision, PrecisionError};

/// Runs a trained model on any number of items: loads it once, takes batches as large as memory
/// allows, and brings results to the host at once.
///
/// On the device are the model, and one batch with what is computed for it. Results are f32,
/// whatever the precision. How large a batch may be is learned once, and kept from call to call.
///
/// # Exactness
/// A batch gives what its items give alone, to rounding, as long as the model does not mix items.
/// Half precision is approximate.
///
/// # Example
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::prelude::*;
/// use burn_memopt::batch::{BatchSizeConfig, Predictor};
/// use burn_memopt::precision::Precision;
///
/// # let dir = tempfile::tempdir()?;
/// # let path = dir.path().join("model.bpk");
/// let device = Device::flex();
/// LinearConfig::new(4, 2).init(&device).save_file(&path)?;
///
/// let on = device.clone();
/// let load = move |path: &std::path::Path| Ok(LinearConfig::new(4, 2).init(&on).try_load_file(path)?);
/// let mut predictor = Predictor::new(load, Linear::forward::<2>, &device)
///     .with_precision(Precision::F16)?
///     .with_batch_size(BatchSizeConfig { start: 4, ..BatchSizeConfig::default() });
/// predictor.open(&path)?;
/// let items = (0..10).map(|_| TensorData::ones::<f32, _>([4]));
/// let results: Vec<TensorData> = predictor.predict(items).collect::<Result<_, _>>()?;
/// assert_eq!(results.len(), 10);
/// assert_eq!(results[0].shape()[..], [2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Predictor<M, const D: usize, const E: usize = D> {
    models: ModelCache<M>,
    /// The model in use, in its precision.
    model: Option<M>,
    forward: Box<Forward<M, D, E>>,
    device: Device,
    autocast: Autocast,
    runner: BatchRunner,
}

type Forward<M, const D: usize, const E: usize> = dyn Fn(&M, Tensor<D>) -> Tensor<E>;

impl<M: Module, const D: usize, const E: usize> Predictor<M, D, E> {
    /// Runs `forward` on models that `load` brings to `device`. Nothing is loaded yet.
    ///
    /// The defaults are [`Precision::F32`], [`BatchSizeConfig::default`], and what
    /// [`BatchRunner::on`] says of the device.
    ///
    /// # Shapes
    /// The first axis of what goes into `forward` and comes out of it is that of the items.
    pub fn new(
        load: impl FnMut(&Path) -> Result<M, BoxError> + 'static,
        forward: impl Fn(&M, Tensor<D>) -> Tensor<E> + 'static,
        device: &Device,
    ) -> Self {
        let device = device.clone().without_autodiff();
        Self {
            models: ModelCache::new(load),
            model: None,
            forward: Box::new(forward),
            autocast: Autocast::new(Precision::F32),
            runner: BatchRunner::on(BatchSizeConfig::default(), &device),
            device,
        }
    }

    /// Computes in `precision`; what [`AutocastPolicy`](crate::precision::AutocastPolicy) keeps stays
    /// in f32.
    ///
    /// # Errors
    /// If the device lacks it; names those it has.
    pub fn with_precision(self, precision: Precision) -> Result<Self, PrecisionError> {
        precision.check(&self.device)?;
        Ok(Self {
            autocast: Autocast::new(precision),
            ..self
        })
    }

    /// Chooses how the size of batches changes.
    ///
    /// # Panics
    /// If the sizes contradict each other.
    pub fn with_batch_size(self, config: BatchSizeConfig) -> Self {
        let runner = BatchRunner::on(config, &self.device);
        self.with_runner(runner)
    }

    /// Chooses how batches are run: size, estimate and pressure.
    pub fn with_runner(self, runner: BatchRunner) -> Self {
        Self { runner, ..self }
    }

    /// Uses the model in the file at `path` from now on. A file that is in use already is looked at
    /// and loaded again only if it changed.
    ///
    /// # Errors
    /// If the file is not there or cannot be loaded; then no model is in use.
    pub fn open(&mut self, path: &Path) -> Result<(), ModelError> {
        self.model = None;
        let model = self.models.get(path)?.valid();
        self.model = Some(self.autocast.view(&model));
        Ok(())
    }

    /// Uses a model in memory from now on.
    pub fn with_model(mut self, model: &M) -> Self {
        self.model = Some(self.autocast.view(&model.valid()));
        self
    }

    /// The results of `items`, in their order, one by one as they are asked for.
    ///
    /// # Shapes
    /// Items have no axis for the batch, and one shape; nor have results.
    ///
    /// # Panics
    /// If no model is in use.
    pub fn predict<S: IntoIterator<Item = TensorData>>(
        &mut self,
        items: S,
    ) -> impl Iterator<Item = Result<TensorData, BatchError>> + use<'_, S, M, D, E> {
        let (runner, pass) = self.parts();
        AdaptiveBatches::new(runner, items, move |items: &[TensorData]| {
            apart(pass.run(pass.stack(items)?)?)
        })
    }

    /// The results of a batch, which is divided if memory does not suffice for all of it.
    ///
    /// # Shapes
    /// - batch: `[num_items, …]`
    /// - result: `[num_items, …]`
    ///
    /// # Errors
    /// If not even the smallest batch fits, or anything else fails.
    ///
    /// # Panics
    /// If no model is in use.
    pub fn run(&mut self, batch: Tensor<D>) -> Result<TensorData, BatchError> {
        let num_items = batch.dims()[0];
        let (runner, pass) = self.parts();
        let items: Vec<usize> = (0..num_items).collect();
        let run = |items: &[usize]| -> Result<Vec<TensorData>, BoxError> {
            let part = match items.len() == num_items {
                true => batch.clone(),
                false => batch.clone().narrow(0, items[0], items.len()),
            };
            apart(pass.run(part)?)
        };
        let results: Vec<_> = AdaptiveBatches::new(runner, items, run).collect::<Result<_, _>>()?;
        Ok(together(&results).expect("invariant: the results of one model have one shape"))
    }

    /// What happened so far.
    pub fn report(&self) -> BatchReport {
        self.runner.report()
    }

    /// How often a model was loaded.
    pub fn num_loads(&self) -> usize {
        self.models.num_loads()
    }

    fn parts(&mut self) -> (&mut BatchRunner, Pass<'_, M, D, E>) {
        let pass = Pass {
            model: self.model.as_ref().expect("a model must be opened first"),
            forward: &*self.forward,
            device: &self.device,
            autocast: &self.autocast,
        };
        (&mut self.runner, pass)
    }
}

/// One forward pass.
struct Pass<'a, M, const D: usize, const E: usize> {
    model: &'a M,
    forward: &'a Forward<M, D, E>,
    device: &'a Device,
    autocast: &'a Autocast,
}

impl<M, const D: usize, const E: usize> Pass<'_, M, D, E> {
    /// Brings items to the device.
    fn stack(&self, items: &[TensorData]) -> Result<Tensor<D>, BoxError> {
        Ok(Tensor::from_data(together(items)?, self.device))
    }

    /// Runs the model and reads the result.
    fn run(&self, batch: Tensor<D>) -> Result<TensorData, BoxError> {
        let batch = self.autocast.cast(batch.to_device(self.device));
        let output = (self.forward)(self.model, batch);
        Ok(to_host(output.cast(FloatDType::F32))?)
    }
}
