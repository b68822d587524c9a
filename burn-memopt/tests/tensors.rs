//! Inputs and outputs of pieces of a model, taken apart, cast and put together.

use burn::nn::LstmState;
use burn::nn::attention::{GeneratePaddingMask, MhaOutput};
use burn::tensor::{Bool, DType, Device, FloatDType, Int, Tensor};
use burn_memopt::impl_tensors;
use burn_memopt::tensors::Tensors;

#[test]
fn nested_values_are_put_together_as_they_were() {
    type Nest = (
        Tensor<2>,
        Vec<Tensor<1, Int>>,
        Option<Tensor<3, Bool>>,
        [Tensor<1>; 2],
    );
    let device = Device::flex();
    let value: Nest = (
        Tensor::ones([2, 3], &device),
        vec![Tensor::arange(0..4, &device), Tensor::arange(4..9, &device)],
        None,
        [Tensor::zeros([1], &device), Tensor::ones([5], &device)],
    );
    let mut parts = Vec::new();
    let structure = value.clone().flatten(&mut parts);
    assert_eq!(parts.len(), 5);

    let again = Nest::unflatten(&structure, &mut parts.into_iter());
    assert_eq!(again.0.dims(), [2, 3]);
    assert_eq!(again.1[1].to_data(), value.1[1].to_data());
    assert!(again.2.is_none());
    assert_eq!(again.3[1].dims(), [5]);
}

#[test]
fn integers_and_booleans_pass_and_floats_are_cast_in_nested_inputs() {
    let device = Device::flex();
    let image = Tensor::<4>::zeros([1, 1, 2, 2], &device);
    let tokens = Tensor::<2, Int>::zeros([1, 3], &device);
    let mask = tokens.clone().equal_elem(0);
    let before = (tokens.dtype(), mask.dtype());

    let (images, tokens, [mask]) = (vec![image], Some(tokens), [mask]).cast_floats(FloatDType::F16);

    assert_eq!(images[0].dtype(), DType::F16);
    assert_eq!((tokens.expect("kept").dtype(), mask.dtype()), before);
}

#[derive(Clone)]
struct Frame {
    state: LstmState<2>,
    flow: Tensor<3>,
    name: String,
}

impl_tensors!(Frame { state; uncast flow; plain name });

fn frame() -> Frame {
    let device = Device::flex();
    let hidden = Tensor::<2>::from_floats([[0.5, 2.0]], &device);
    Frame {
        state: LstmState::new(hidden.clone() + 1.0, hidden),
        flow: Tensor::ones([1, 2, 3], &device),
        name: "first".to_string(),
    }
}

#[test]
fn a_struct_is_put_together_again_as_often_as_it_is_needed() {
    let mut parts = Vec::new();
    let structure = frame().flatten(&mut parts);
    assert_eq!(parts.len(), 3);
    for _ in 0..2 {
        let again = Frame::unflatten(&structure, &mut parts.clone().into_iter());
        assert_eq!(again.name, "first");
        assert_eq!(again.state.cell.to_data(), frame().state.cell.to_data());
        assert_eq!(again.state.hidden.to_data(), frame().state.hidden.to_data());
        assert_eq!(again.flow.dims(), [1, 2, 3]);
    }
}

#[test]
fn a_field_that_is_not_cast_keeps_its_precision_in_a_nest_too() {
    let (frames, other) = (vec![frame()], Tensor::<1>::ones([1], &Device::flex()));
    let (frames, other) = (frames, other).cast_floats(FloatDType::F16);
    assert_eq!(other.dtype(), DType::F16);
    assert_eq!(frames[0].state.hidden.dtype(), DType::F16);
    assert_eq!(frames[0].flow.dtype(), DType::F32);
}

#[test]
fn structs_of_burn_are_cast_as_their_fields_are() {
    let device = Device::flex();
    let output = MhaOutput {
        weights: Tensor::ones([1, 2, 3, 3], &device),
        context: Tensor::ones([1, 3, 4], &device),
    };
    let output = output.cast_floats(FloatDType::F16);
    assert_eq!(
        (output.weights.dtype(), output.context.dtype()),
        (DType::F16, DType::F16)
    );

    let tokens = Tensor::<2, Int>::zeros([1, 3], &device);
    let padding = GeneratePaddingMask {
        mask: tokens.clone().equal_elem(1),
        tensor: tokens,
    };
    let before = (padding.tensor.dtype(), padding.mask.dtype());
    let padding = padding.cast_floats(FloatDType::F16);
    assert_eq!((padding.tensor.dtype(), padding.mask.dtype()), before);
}

#[test]
fn casts_are_inside_the_autodiff_graph() {
    let device = Device::flex().autodiff();
    let leaf = Tensor::<1>::from_floats([3.0], &device).require_grad();
    let (half,) = (leaf.clone() * 2.0,).cast_floats(FloatDType::F16);
    let grads = half.cast(FloatDType::F32).sum().backward();
    assert_eq!(
        leaf.grad(&grads).expect("tracked").into_scalar::<f32>(),
        2.0
    );
}
