//! What the machine has for data.

use anyhow::Result;
use burn_memopt::memory::{Bytes, MemoryMonitor};
use serde::Serialize;

use crate::device::DeviceChoice;
use crate::settings::UsageError;

/// Free memory and cores of this machine; `None` is unknown.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    pub(super) free_memory: Option<Bytes>,
    /// Whether the free memory is what `--memory` says, and not measured.
    pub(super) is_given: bool,
    /// What sets how much memory the host has for this process, such as a control group's file.
    pub(super) host_limit: Option<String>,
    pub(super) cores: Option<u64>,
    pub(super) device: String,
    /// Whether the device has memory apart from the host's.
    #[serde(skip)]
    pub(super) has_own_memory: bool,
    pub(super) device_free: Option<Bytes>,
}

impl Machine {
    /// Measures what is free now; `given` takes the place of the host's free memory.
    pub(super) fn look_at(choice: DeviceChoice, given: Option<Bytes>) -> Result<Self> {
        let device = crate::device::open(choice)?;
        let snapshot = MemoryMonitor::new([device]).snapshot();
        let own_memory = snapshot.devices.first();
        Ok(Self {
            free_memory: given.or(snapshot.host_available),
            is_given: given.is_some(),
            host_limit: snapshot.host_limit,
            cores: std::thread::available_parallelism()
                .ok()
                .map(|cores| cores.get() as u64),
            device: crate::device::resolve(choice)?.to_string(),
            has_own_memory: own_memory.is_some(),
            device_free: own_memory.and_then(|device| device.free),
        })
    }
}

/// Reads `--memory`.
pub(super) fn given_memory(text: Option<&str>) -> Result<Option<Bytes>> {
    let parse = |text: &str| {
        let bytes = text.parse::<Bytes>();
        bytes.map_err(|why| UsageError(format!("--memory: {why}")).into())
    };
    text.map(parse).transpose()
}
