use std::any::Any;
use std::error::Error;

use burn_backend::ExecutionError;

use super::ChildError;
use crate::memory::Bytes;

/// What runtimes say when an allocation fails, in small letters.
const OUT_OF_MEMORY: [&str; 5] = [
    "can't allocate buffer of size",
    "out of device memory",
    "out of memory",
    "memory allocation of",
    "not enough memory",
];

/// What kind of failure an error or a panic is.
///
/// # Example
/// ```
/// use burn_memopt::batch::Failure;
/// use burn_memopt::memory::Bytes;
///
/// let failure = Failure::of_text("can't allocate buffer of size: 1073741824");
/// assert_eq!(failure, Failure::OutOfMemory { requested: Some(Bytes::gib(1)) });
/// assert_eq!(Failure::of_text("shapes differ"), Failure::Other);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Memory ran out; the device still works with less.
    OutOfMemory {
        /// What could not be allocated, where the runtime says it.
        requested: Option<Bytes>,
    },
    /// The device does nothing any more until the process is started again.
    DevicePoisoned,
    /// Anything else.
    Other,
}

impl Failure {
    /// What an error is, by it and by what caused it.
    pub fn of(error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            if let Some(execution) = error.downcast_ref::<ExecutionError>()
                && execution.is_device_poisoned()
            {
                return Self::DevicePoisoned;
            }
            // Whatever ended it: a smaller batch in a new process is worth a try.
            if let Some(ChildError::Died { .. }) = error.downcast_ref() {
                return Self::OutOfMemory { requested: None };
            }
            let failure = Self::of_text(&error.to_string());
            if failure != Self::Other {
                return failure;
            }
            next = error.source();
        }
        Self::Other
    }

    /// What a caught panic is, by its message.
    pub fn of_panic(payload: &(dyn Any + Send)) -> Self {
        Self::of_text(Self::panic_text(payload))
    }

    /// The message of a caught panic.
    pub fn panic_text(payload: &(dyn Any + Send)) -> &str {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without a message")
    }

    /// What a message says.
    pub fn of_text(text: &str) -> Self {
        let text = text.to_lowercase();
        if text.contains("device is poisoned") {
            return Self::DevicePoisoned;
        }
        let Some(at) = OUT_OF_MEMORY.iter().find_map(|said| text.find(said)) else {
            return Self::Other;
        };
        let digits = text[at..].trim_start_matches(|c: char| !c.is_ascii_digit());
        let end = digits.find(|c: char| !c.is_ascii_digit());
        let number = digits[..end.unwrap_or(digits.len())].parse().ok();
        Self::OutOfMemory {
            requested: number.map(Bytes::new),
        }
    }

    /// Whether a smaller batch may help.
    pub fn is_out_of_memory(self) -> bool {
        matches!(self, Self::OutOfMemory { .. })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("can't allocate buffer of size: 2147483648\n   0: backtrace", Some(2 << 30))]
    #[case("out of device memory allocating 4096 bytes", Some(4096))]
    #[case("CUDA_ERROR_OUT_OF_MEMORY: out of memory", None)]
    #[case("memory allocation of 12 bytes failed", Some(12))]
    fn lack_of_memory_is_known_by_what_runtimes_say(
        #[case] text: &str,
        #[case] bytes: Option<u64>,
    ) {
        let requested = bytes.map(Bytes::new);
        assert_eq!(Failure::of_text(text), Failure::OutOfMemory { requested });
        let error = ExecutionError::with_context(text);
        assert!(Failure::of(&error).is_out_of_memory());
        assert!(Failure::of_panic(&text.to_owned()).is_out_of_memory());
    }

    #[test]
    fn causes_are_looked_at_too() {
        #[derive(thiserror::Error, Debug)]
        #[error("the second frame failed")]
        struct Frame(#[source] ExecutionError);

        let memory = Frame(ExecutionError::with_context("out of memory"));
        assert!(Failure::of(&memory).is_out_of_memory());
        let poisoned = Frame(ExecutionError::device_poisoned("an illegal access"));
        assert_eq!(Failure::of(&poisoned), Failure::DevicePoisoned);
        let other = Frame(ExecutionError::with_context("shapes differ"));
        assert_eq!(Failure::of(&other), Failure::Other);
    }
}
