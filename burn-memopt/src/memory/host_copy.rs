use burn::tensor::{Tensor, TensorData, TensorReadError, kind::Basic};

use super::on_host;

/// Copies a tensor to host memory, and frees it on the device.
///
/// Use this instead of `into_data` for what is kept. On wgpu and CUDA burn's `into_data`
/// copies at the first access only. Until the data is dropped it keeps the device's
/// memory, and what an operation writes there before the first access is what is read.
///
/// On a device that computes in host memory the data may share the tensor's memory, as
/// `into_data` does; nothing can be written to it.
///
/// # Errors
/// If the tensor cannot be read, for example because an allocation that it depends on
/// failed.
///
/// # Example
/// ```
/// use burn::tensor::{Device, Tensor};
/// use burn_memopt::memory::to_host;
///
/// let data = to_host(Tensor::<1>::from_floats([1.0, 2.0], &Device::flex())).unwrap();
/// assert_eq!(data.iter::<f32>().sum::<f32>(), 3.0);
/// ```
pub fn to_host<const D: usize, K: Basic>(
    tensor: Tensor<D, K>,
) -> Result<TensorData, TensorReadError> {
    let shares_memory = on_host(&tensor.device());
    let data = tensor.try_into_data()?;
    if shares_memory {
        return Ok(data);
    }
    let (shape, dtype) = (data.shape().clone(), data.dtype());
    Ok(TensorData::from_bytes_vec(
        data.bytes().to_vec(),
        shape,
        dtype,
    ))
}
