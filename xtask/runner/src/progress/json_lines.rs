//! One JSON object a line, where a machine reads.

use std::io::Write;

use anyhow::{Context, Result};
use serde::Serialize;

/// Where events go, if anywhere.
pub(crate) struct JsonLines {
    out: Option<Box<dyn Write>>,
}

impl JsonLines {
    /// Writes to `out`, or nothing.
    pub(crate) fn new(out: Option<Box<dyn Write>>) -> Self {
        Self { out }
    }

    /// Writes to stdout if `wanted`.
    pub(crate) fn on_stdout(wanted: bool) -> Self {
        Self::new(wanted.then(|| Box::new(std::io::stdout()) as Box<dyn Write>))
    }

    /// Whether anybody reads.
    pub(crate) fn is_wanted(&self) -> bool {
        self.out.is_some()
    }

    /// Writes an event.
    ///
    /// # Errors
    /// If that fails.
    pub(crate) fn emit(&mut self, event: &impl Serialize) -> Result<()> {
        let Some(out) = &mut self.out else {
            return Ok(());
        };
        let line = serde_json::to_string(event).context("cannot turn an event into JSON")?;
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .context("cannot write to stdout")
    }
}
