//! The same work with less, when memory runs out.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use burn::tensor::Device;

use crate::batch::Failure;
use crate::chunked::BoxError;

/// Why an attempt failed.
#[derive(Debug)]
pub enum AttemptError<E> {
    /// Memory ran out: less may fit.
    OutOfMemory(BoxError),
    /// Anything else. It is passed on.
    Failed(E),
}

/// Runs `attempt` until it does not run out of memory.
///
/// Each time it does, `shrink` undoes what the attempt left behind and makes the next one smaller; then
/// `devices` give back what they do not use. `state` is what both work on: an attempt must take the same
/// items again.
///
/// Runtimes report lack of memory by an error, usually when values are read, or by a panic before.
/// [`catch_out_of_memory`] turns the panic into an error; use it around what may panic.
///
/// # Errors
/// If `attempt` fails for another reason, or `shrink` has nothing smaller left.
///
/// # Example
/// ```
/// use burn_memopt::budget::{AttemptError, catch_out_of_memory, retry};
///
/// let mut num_items = 16;
/// let sum = retry(
///     &mut num_items,
///     &[],
///     |num_items| {
///         catch_out_of_memory(|| {
///             assert!(*num_items <= 5, "can't allocate buffer of size: 64"); // as a small device would say
///             Ok::<u32, AttemptError<&str>>((0..*num_items).sum())
///         })
///     },
///     |num_items, _source| {
///         *num_items /= 2;
///         if *num_items == 0 { Err("not even one item fits") } else { Ok(()) }
///     },
/// );
/// assert_eq!((sum, num_items), (Ok(6), 4));
/// ```
pub fn retry<S: ?Sized, T, E>(
    state: &mut S,
    devices: &[Device],
    mut attempt: impl FnMut(&mut S) -> Result<T, AttemptError<E>>,
    mut shrink: impl FnMut(&mut S, BoxError) -> Result<(), E>,
) -> Result<T, E> {
    loop {
        let source = match attempt(state) {
            Ok(value) => return Ok(value),
            Err(AttemptError::Failed(error)) => return Err(error),
            Err(AttemptError::OutOfMemory(source)) => source,
        };
        let shrunk = shrink(state, source);
        // After what the attempt held is dropped, and also where there is no next one.
        devices.iter().for_each(Device::memory_cleanup);
        shrunk?;
    }
}

/// Runs `run`; a panic for lack of memory becomes [`AttemptError::OutOfMemory`].
///
/// # Errors
/// As `run`, or if memory runs out.
///
/// # Panics
/// As `run`, unless for lack of memory.
pub fn catch_out_of_memory<T, E>(
    run: impl FnOnce() -> Result<T, AttemptError<E>>,
) -> Result<T, AttemptError<E>> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        if Failure::of_panic(&*panic).is_out_of_memory() {
            Err(AttemptError::OutOfMemory(
                Failure::panic_text(&*panic).into(),
            ))
        } else {
            resume_unwind(panic)
        }
    })
}
