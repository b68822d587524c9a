//! Threads of devices that work side by side.

use burn::tensor::Device;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use crate::memory::on_host;

/// A pool for each of several devices: CPUs share the cores, and a device with a queue for each thread gets one. A device
/// that is alone has none: it works on the caller's thread.
pub(crate) fn pools(devices: &[Device]) -> Result<Vec<ThreadPool>, ThreadPoolBuildError> {
    if devices.len() == 1 {
        return Ok(Vec::new());
    }
    let num_hosts = devices.iter().filter(|device| on_host(device)).count();
    let of_host = (rayon::current_num_threads() / num_hosts.max(1)).max(1);
    let pool = |device| {
        let threads = if on_host(device) { of_host } else { 1 };
        ThreadPoolBuilder::new().num_threads(threads).build()
    };
    devices.iter().map(pool).collect()
}
