//! The side of its kink that every value of an activation is on, kept for passes close to a point.
//!
//! The gradient of a network of ReLUs jumps where a value changes sides. What a second derivative by autodiff
//! would be, is that of the network with all sides held.

use std::cell::RefCell;

use burn::tensor::{Bool, Tensor};

/// Which values of the activations of a pass were below their kink, activation by activation.
pub(crate) struct Kinks(Vec<Tensor<1, Bool>>);

enum Pass {
    Recorded(Vec<Tensor<1, Bool>>),
    Held(std::vec::IntoIter<Tensor<1, Bool>>),
}

thread_local! {
    static PASS: RefCell<Option<Pass>> = const { RefCell::new(None) };
}

/// Whether sides are recorded or held on this thread: a recomputation would not find them again.
pub(crate) fn are_kept() -> bool {
    PASS.with_borrow(Option::is_some)
}

impl Kinks {
    /// Runs `forward`, and remembers the sides.
    pub(crate) fn record<T>(forward: impl FnOnce() -> T) -> (T, Self) {
        let (result, pass) = within(Pass::Recorded(Vec::new()), forward);
        match pass {
            Pass::Recorded(sides) => (result, Self(sides)),
            Pass::Held(_) => unreachable!("a pass stays what it is"),
        }
    }

    /// Runs `forward` with all values on the sides that they were on.
    ///
    /// # Panics
    /// If it has other activations than the pass that was recorded.
    pub(crate) fn hold<T>(&self, forward: impl FnOnce() -> T) -> T {
        let (result, pass) = within(Pass::Held(self.0.clone().into_iter()), forward);
        if let Pass::Held(rest) = pass {
            assert_eq!(
                rest.len(),
                0,
                "a pass for a gradient penalty must run the same activations each time"
            );
        }
        result
    }
}

fn within<T>(pass: Pass, forward: impl FnOnce() -> T) -> (T, Pass) {
    /// Ends the pass, after a panic too.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            PASS.set(None);
        }
    }
    let end = End;
    PASS.set(Some(pass));
    let result = forward();
    let pass = PASS.take().expect("invariant: passes do not nest");
    drop(end);
    (result, pass)
}

/// `x`, or `slope * x` where it is below the kink at 0, if sides are held; else it remembers them where they are
/// recorded. `is_below` says which values are below.
pub(super) fn held<const D: usize>(
    x: &Tensor<D>,
    slope: f64,
    is_below: impl FnOnce(Tensor<D>) -> Tensor<D, Bool>,
) -> Option<Tensor<D>> {
    PASS.with_borrow_mut(|pass| match pass.as_mut()? {
        Pass::Recorded(sides) => {
            sides.push(is_below(x.clone()).flatten(0, D - 1));
            None
        }
        Pass::Held(sides) => {
            let below = sides
                .next()
                .filter(|below| below.dims()[0] == x.shape().num_elements());
            let below = below
                .expect("a pass for a gradient penalty must run the same activations each time");
            let lower = x.clone().mul_scalar(slope);
            Some(x.clone().mask_where(below.reshape(x.shape()), lower))
        }
    })
}
