//! burn's own structs.

use burn::nn::attention::{GeneratePaddingMask, MhaOutput};
use burn::nn::{LstmState, RnnState};

use crate::impl_tensors;

impl_tensors!(impl<const D: usize> LstmState<D> { cell, hidden });
impl_tensors!(impl<const D: usize> RnnState<D> { hidden });
impl_tensors!(MhaOutput { weights, context });
impl_tensors!(GeneratePaddingMask { tensor, mask });
