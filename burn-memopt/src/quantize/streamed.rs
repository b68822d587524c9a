//! Weights in host memory that are sent to the device where they are used.

use std::fmt;
use std::sync::Arc;

use burn::module::{Module, Param, Reparameterization, Reparameterizer};
use burn::tensor::{Device, FloatDType, Tensor, TensorData};

use super::QuantizeError;
use super::packed::stand_in;
use super::record::check_plain;
use crate::memory::{Bytes, to_host};

/// Runs a model whose weights do not fit on the device: they stay in host memory, and each is sent when it
/// is used.
///
/// For inference. On the device are one weight at a time, and parameters below
/// [`min_bytes`](Self::min_bytes), such as biases. Each use waits until the device has done what was asked of
/// it before, so that it has let go of earlier weights. What that costs is the time of sending all weights
/// once a forward pass.
///
/// # Exactness
/// Bit-equal to the model on the device.
///
/// # Example
/// ```
/// use burn::nn::{Linear, LinearConfig};
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::quantize::StreamedWeights;
///
/// let host = Device::flex();
/// let model: Vec<Linear> = (0..4).map(|_| LinearConfig::new(64, 64).init(&host)).collect();
/// let x = Tensor::<2>::ones([1, 64], &host);
/// let forward = |model: &[Linear], x: Tensor<2>| model.iter().fold(x, |x, layer| layer.forward(x));
/// let plain = forward(&model, x.clone());
///
/// // The device may be a GPU that the model does not fit on.
/// let (model, report) = StreamedWeights::new(&host).stream(model)?;
/// assert_eq!(report.on_host.get(), 4 * 64 * 64 * 4);
/// assert_eq!(forward(&model, x).into_data(), plain.into_data());
/// # Ok::<(), burn_memopt::quantize::QuantizeError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct StreamedWeights {
    device: Device,
    /// Smaller parameters are kept on the device. The default is 16 KiB.
    pub min_bytes: Bytes,
}

impl StreamedWeights {
    /// Runs on `device`.
    pub fn new(device: &Device) -> Self {
        Self {
            device: device.clone().without_autodiff(),
            min_bytes: Bytes::kib(16),
        }
    }

    /// Replaces the size of what is sent rather than kept. The default is 16 KiB.
    #[must_use]
    pub fn with_min_bytes(mut self, min_bytes: Bytes) -> Self {
        self.min_bytes = min_bytes;
        self
    }

    /// The model for inference on the device, with its weights on the host, and what is where.
    ///
    /// Give a `model` that is on the host, and the last copy of it: its weights are taken over without
    /// being copied where nothing else holds them. Running statistics are copied. The result's
    /// weights cannot be saved; save the model before.
    ///
    /// # Errors
    /// If a parameter cannot be read from the device that it is on, or is packed or has an adapter.
    pub fn stream<M: Module>(&self, model: M) -> Result<(M, StreamReport), QuantizeError> {
        check_plain(&model)?;
        let copy = model.valid();
        drop(model);
        let mut streamer = Streamer {
            settings: self,
            report: StreamReport::default(),
            error: None,
        };
        let model = copy.apply_reparameterization(Borrowed(&mut streamer));
        match streamer.error {
            Some(error) => Err(error),
            None => Ok((model.to_device(&self.device), streamer.report)),
        }
    }
}

/// Where the float parameters of a streamed model are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamReport {
    /// Bytes of weights on the host.
    pub on_host: Bytes,
    /// Bytes of parameters on the device.
    pub on_device: Bytes,
    /// Bytes of the largest weight, which are on the device while it is used.
    pub largest: Bytes,
}

impl fmt::Display for StreamReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of weights on the host, sent one by one, the largest {}; {} on the device",
            self.on_host, self.largest, self.on_device
        )
    }
}

struct Streamer<'a> {
    settings: &'a StreamedWeights,
    report: StreamReport,
    error: Option<QuantizeError>,
}

/// burn takes a reparameterizer and does not return it.
struct Borrowed<'a, 'b>(&'a mut Streamer<'b>);

impl Reparameterizer for Borrowed<'_, '_> {
    type Reparam = HostWeight;

    fn reparameterize<const D: usize>(
        &mut self,
        path: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<HostWeight>) {
        let Self(streamer) = self;
        let (id, shape, dtype) = (param.id, param.shape(), param.dtype());
        let bytes = Bytes::new((shape.num_elements() * dtype.size()) as u64);
        let report = &mut streamer.report;
        if bytes < streamer.settings.min_bytes || D < 2 {
            report.on_device += bytes;
            return (param, None);
        }
        match to_host(param.into_value()) {
            Ok(values) => {
                report.on_host += bytes;
                report.largest = report.largest.max(bytes);
                let dtype = FloatDType::from(dtype);
                let stand_in = stand_in(id, shape, dtype, &streamer.settings.device);
                let values = Arc::new(values);
                (stand_in, Some(HostWeight { values }))
            }
            Err(source) => {
                let path = path.into();
                let error = QuantizeError::Read { path, source };
                streamer.error.get_or_insert(error);
                let device = &streamer.settings.device;
                (stand_in(id, shape, dtype.into(), device), None)
            }
        }
    }
}

/// What is stored for a streamed weight; [`Param::val`] sends it to the device at each use.
#[derive(Module, Debug)]
pub struct HostWeight {
    #[module(skip)]
    values: Arc<TensorData>,
}

impl Reparameterization for HostWeight {
    const NAME: &'static str = "streamed";

    /// The weight on the device of `base`, whose values are not read.
    ///
    /// # Panics
    /// If the device fails.
    fn apply<const D: usize>(&self, base: Tensor<D>) -> Tensor<D> {
        let device = base.device();
        // Operations wait in queues and hold their weights.
        device.sync().unwrap_or_else(|error| {
            panic!("the device failed before a weight was sent to it: {error}")
        });
        Tensor::from_data(self.values.as_ref().clone(), (&device, base.dtype()))
    }
}
