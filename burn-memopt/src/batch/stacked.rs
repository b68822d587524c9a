//! Items as one tensor, and one tensor as items, on the host.

use burn::tensor::TensorData;

use crate::chunked::BoxError;

/// Puts items of one shape into one, with a first axis for them. f32.
pub(super) fn together(items: &[TensorData]) -> Result<TensorData, BoxError> {
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
pub(super) fn apart(batch: TensorData) -> Result<Vec<TensorData>, BoxError> {
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
