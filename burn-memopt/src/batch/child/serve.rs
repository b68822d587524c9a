use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::{Device, TensorData};

use super::frame::{self, Frame};
use crate::batch::Failure;
use crate::chunked::BoxError;

/// The child's side of a [`Child`](super::Child): runs every batch that comes on stdin and answers
/// on stdout, until stdin ends.
///
/// An error or a panic of `run` is the answer to its batch; afterwards `device` gives back what it
/// does not use.
///
/// # Errors
/// If stdin cannot be read or stdout not be written.
pub fn serve(
    device: &Device,
    mut run: impl FnMut(&[TensorData]) -> Result<Vec<TensorData>, BoxError>,
) -> io::Result<()> {
    let mut input = io::stdin().lock();
    frame::write_ready(&mut io::stdout().lock())?;
    while let Some(Frame::Tensors(items)) = frame::read(&mut input)? {
        let why = match catch_unwind(AssertUnwindSafe(|| run(&items))) {
            Ok(Ok(results)) => {
                frame::write_tensors(&mut io::stdout().lock(), &results)?;
                continue;
            }
            Ok(Err(error)) => with_causes(&*error),
            Err(panic) => format!("it panicked: {}", Failure::panic_text(&*panic)),
        };
        device.memory_cleanup();
        frame::write_refused(&mut io::stdout().lock(), &why)?;
    }
    Ok(())
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
