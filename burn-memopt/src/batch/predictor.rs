use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor, TensorData};

use super::{
    AdaptiveBatches, BatchError, BatchReport, BatchRunner, BatchSizeConfig, ModelCache, ModelError,
};
use crate::chunked::BoxError;
use crate::memory::to_host;
use crate::precision::{Autocast, Precision, PrecisionError};

/// Runs a trained model on any number of items, in batches that are as large as memory allows, and
/// brings results to the host at once.
///
/// On the device are the model, and one batch with what is computed for it. Results are f32,
/// whatever the precision. How large a batch may be is learned once, and kept from call to call.
/// The model is one in memory, or one of a file by a [`ModelCache`].
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
/// let device = Device::flex();
/// let model = LinearConfig::new(4, 2).init(&device);
/// let mut predictor = Predictor::new(Linear::forward::<2>, &device)
///     .with_precision(Precision::F16)?
///     .with_batch_size(BatchSizeConfig { start: 4, ..BatchSizeConfig::default() })
///     .with_model(&model);
/// let items = (0..10).map(|_| TensorData::ones::<f32, _>([4]));
/// let results: Vec<TensorData> = predictor.predict(items).collect::<Result<_, _>>()?;
/// assert_eq!(results.len(), 10);
/// assert_eq!(results[0].shape()[..], [2]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Predictor<M, const D: usize, const E: usize = D> {
    /// The model in use, in its precision.
    model: Option<M>,
    forward: Box<Forward<M, D, E>>,
    device: Device,
    autocast: Autocast,
    runner: BatchRunner,
}

type Forward<M, const D: usize, const E: usize> = dyn Fn(&M, Tensor<D>) -> Tensor<E>;

impl<M: Module, const D: usize, const E: usize> Predictor<M, D, E> {
    /// Runs `forward` on `device`, where models must be.
    ///
    /// The defaults are [`Precision::F32`], [`BatchSizeConfig::default`], and what
    /// [`BatchRunner::on`] says of the device. A model must be chosen before items are run, by
    /// [`with_model`](Self::with_model) or [`open`](Self::open).
    ///
    /// # Shapes
    /// The first axis of what goes into `forward` and comes out of it is that of the items.
    pub fn new(forward: impl Fn(&M, Tensor<D>) -> Tensor<E> + 'static, device: &Device) -> Self {
        let device = device.clone().without_autodiff();
        Self {
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

    /// Uses a model in memory from now on.
    pub fn with_model(mut self, model: &M) -> Self {
        self.model = Some(self.autocast.view(&model.valid()));
        self
    }

    /// Uses the model in the file at `path` from now on, as the file is now: `models` loads it again
    /// only if it changed. The model in use is dropped before, as two may be more than fits.
    ///
    /// # Errors
    /// If the file is not there or cannot be loaded; then no model is in use.
    ///
    /// # Example
    /// ```
    /// use burn::nn::{Linear, LinearConfig};
    /// use burn::prelude::*;
    /// use burn_memopt::batch::{ModelCache, Predictor};
    ///
    /// # let dir = tempfile::tempdir()?;
    /// # let path = dir.path().join("model.bpk");
    /// let device = Device::flex();
    /// LinearConfig::new(4, 2).init(&device).save_file(&path)?;
    ///
    /// let on = device.clone();
    /// let mut models = ModelCache::new(move |path| {
    ///     Ok(LinearConfig::new(4, 2).init(&on).try_load_file(path)?)
    /// });
    /// let mut predictor = Predictor::new(Linear::forward::<2>, &device);
    /// predictor.open(&mut models, &path)?;
    /// let results = predictor.run(Tensor::ones([3, 4], &device))?;
    /// assert_eq!(results.shape()[..], [3, 2]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open(&mut self, models: &mut ModelCache<M>, path: &Path) -> Result<(), ModelError> {
        self.model = None;
        let model = models.get(path)?.valid();
        self.model = Some(self.autocast.view(&model));
        Ok(())
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
    /// If no model is in use, or it returns another number of results than it got items.
    pub fn run(&mut self, batch: Tensor<D>) -> Result<TensorData, BatchError> {
        let num_items = batch.dims()[0];
        let (runner, pass) = self.parts();
        let (mut results, mut done) = (Vec::new(), 0);
        while done < num_items {
            let run = |count: usize| {
                let part = if count == num_items {
                    batch.clone()
                } else {
                    batch.clone().narrow(0, done, count)
                };
                let result = pass.run(part)?;
                assert_eq!(
                    result.shape().first(),
                    Some(&count),
                    "a batch must have one result for each of its items"
                );
                Ok::<_, BoxError>(result)
            };
            let (count, result) = runner
                .run_first(num_items - done, run)
                .map_err(|error| error.after(done))?;
            done += count;
            results.push(result);
        }
        Ok(joined(results))
    }

    /// What happened so far.
    pub fn report(&self) -> BatchReport {
        self.runner.report()
    }

    fn parts(&mut self) -> (&mut BatchRunner, Pass<'_, M, D, E>) {
        let pass = Pass {
            model: self.model.as_ref().expect("a model must be chosen first"),
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

/// Puts results of batches one after the other. f32.
fn joined(mut batches: Vec<TensorData>) -> TensorData {
    if batches.len() == 1 {
        return batches.swap_remove(0);
    }
    let num_items = batches.iter().map(|batch| batch.shape()[0]).sum();
    let item = batches.first().map_or(&[][..], |batch| &batch.shape()[1..]);
    let dims: Vec<usize> = [&[num_items], item].concat();
    let values = batches.iter().flat_map(|batch| batch.iter::<f32>());
    TensorData::new(values.collect::<Vec<_>>(), dims)
}

/// Puts items of one shape into one, with a first axis for them. f32.
fn together(items: &[TensorData]) -> Result<TensorData, BoxError> {
    let shape = items.first().map_or(&[][..], |item| &item.shape()[..]);
    let mut values = Vec::with_capacity(items.iter().map(TensorData::num_elements).sum());
    for item in items {
        if item.shape()[..] != *shape {
            let other = &item.shape()[..];
            return Err(format!("items must have one shape, got {shape:?} and {other:?}").into());
        }
        match item.as_slice::<f32>() {
            Ok(slice) => values.extend_from_slice(slice),
            Err(_) => values.extend(item.iter::<f32>()),
        }
    }
    let dims: Vec<usize> = [&[items.len()], shape].concat();
    Ok(TensorData::new(values, dims))
}

/// Takes a tensor apart along its first axis.
fn apart(batch: TensorData) -> Result<Vec<TensorData>, BoxError> {
    let dims = batch.shape().to_vec();
    let Some((&num_items, shape)) = dims.split_first() else {
        return Err("a result must have an axis for the items of its batch".into());
    };
    let values = batch.as_slice::<f32>()?;
    let len = values.len() / num_items.max(1);
    let item = |at: usize| {
        let values = values[at * len..(at + 1) * len].to_vec();
        TensorData::new(values, shape.to_vec())
    };
    Ok((0..num_items).map(item).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_together_comes_apart_again() {
        let items: Vec<_> = (0..3)
            .map(|item| TensorData::new(vec![item as f32, 7.0], [1, 2]))
            .collect();
        let batch = together(&items).unwrap();
        assert_eq!(batch.shape()[..], [3, 1, 2]);
        assert_eq!(apart(batch).unwrap(), items);
        let pixels = [TensorData::new(vec![3_u8, 4], [2])];
        let widened = TensorData::new(vec![3.0_f32, 4.0], [1, 2]);
        assert_eq!(together(&pixels).unwrap(), widened);
    }

    #[test]
    fn items_of_different_shapes_make_no_batch() {
        let items = [[1, 2], [2, 1]].map(|shape| TensorData::new(vec![0.0_f32; 2], shape));
        let error = together(&items).unwrap_err().to_string();
        assert_eq!(error, "items must have one shape, got [1, 2] and [2, 1]");
    }
}
