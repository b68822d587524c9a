//! Mixed precision: half-precision activations, full-precision parameters.
//!
//! | piece | does |
//! |---|---|
//! | [`Precision`] | names a precision and asks the device for it |
//! | [`Autocast`] | shows a model in half precision; gradients reach the f32 parameters |
//! | [`Autocast::check`] | lists the layers of a model that cannot run in half precision |
//! | [`AutocastPolicy`] | what stays in f32, by container type and parameter path |
//! | [`full_precision`], [`batch_norm`] | an f32 island inside a half-precision forward |
//! | [`ops`] | which operation needs which precision, and helpers |
//! | [`LossScaler`] | keeps f16 gradients from vanishing; [`ScaledLoss`], [`Scaled`] and [`Unscaled`] keep the order |
//! | [`PrecisionReport`] | dtype and bytes of each parameter |
//!
//! ```
//! use burn::nn::{Linear, LinearConfig};
//! use burn::tensor::{DType, Device, Tensor};
//! use burn_memopt::precision::{Autocast, Precision};
//!
//! let device = Device::flex().autodiff();
//! let model: Linear = LinearConfig::new(4, 2).init(&device);
//! let images = Tensor::<2>::ones([3, 4], &device);
//!
//! let autocast = Autocast::new(Precision::F16);
//! let output = autocast.run(&model, images, |half, x| half.forward(x));
//! let grads = output.sum().backward();
//!
//! assert_eq!(model.weight.grad(&grads).unwrap().dtype(), DType::F32);
//! ```
//!
//! # When half precision does not pay
//! It halves what layers keep and adds, until the backward pass has used them, a half copy of each
//! parameter and about 0.8 KiB of records for its cast. The gradients of the parameters stay f32. On
//! the CPU the peak of a step of 8 linear layers is 0.64 of the plain one with 512 rows of width 64,
//! 0.93 with 32 rows of width 256, 0.99 with 32 rows of width 64, and 1.3 with 8 rows of width 16,
//! whose tensors are smaller than the records.
//!
//! For the whole training step, with accumulation and clipping in the right
//! order, see [`train`](crate::train).

mod autocast;
mod dtype;
mod island;
mod loss_scaler;
pub mod ops;
mod policy;
mod report;
mod scaled;

pub use autocast::Autocast;
pub(crate) use autocast::running_states;
pub(crate) use dtype::is_castable;
pub use dtype::{ParsePrecisionError, Precision, PrecisionError};
pub use island::{batch_norm, full_precision, full_precision_with};
pub use loss_scaler::{LossScaler, LossScalerConfig};
pub use policy::AutocastPolicy;
pub(crate) use policy::{Place, names_path};
pub use report::{ParameterPrecision, PrecisionReport, UnsupportedLayer, UnsupportedLayersError};
pub use scaled::{Scaled, ScaledLoss, Stepped, Unscaled};
