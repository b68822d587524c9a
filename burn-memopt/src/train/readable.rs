use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{FloatDType, Tensor, TensorReadError};

use crate::memory::to_host;

/// Reads one number of each float tensor of `model`, so that a tensor which the device never wrote
/// shows.
///
/// Where an allocation fails, a device skips whatever depends on it and says so only when that is
/// read: see [`batch`](crate::batch).
pub(super) fn try_read<M: Module>(model: &M) -> Result<(), TensorReadError> {
    let mut firsts = Firsts(Vec::new());
    model.visit(&mut firsts);
    if !firsts.0.is_empty() {
        to_host(Tensor::cat(firsts.0, 0))?;
    }
    Ok(())
}

struct Firsts(Vec<Tensor<1>>);

impl ModuleVisitor for Firsts {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val().without_autodiff();
        let num_elements = tensor.shape().num_elements();
        if num_elements > 0 {
            let first = tensor.reshape([num_elements]).narrow(0, 0, 1);
            self.0.push(first.cast(FloatDType::F32));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn a_model_on_the_host_is_always_readable() {
        let device = Device::flex().autodiff();
        let model = vec![
            Param::from_tensor(Tensor::<2>::ones([2, 3], &device)),
            Param::from_tensor(Tensor::<2>::full([1, 1], f32::NAN, &device)),
        ];
        assert!(try_read(&model).is_ok());
    }
}
