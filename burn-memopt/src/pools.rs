//! Threads of devices that work side by side.

use burn::tensor::Device;
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use crate::memory::on_host;

/// A pool for each device: CPUs share the cores, and a device with a queue for each thread gets one.
pub(crate) fn pools(devices: &[Device]) -> Result<Vec<ThreadPool>, ThreadPoolBuildError> {
    let num_hosts = devices.iter().filter(|device| on_host(device)).count();
    let of_host = (rayon::current_num_threads() / num_hosts.max(1)).max(1);
    let pool = |device| {
        let threads = if on_host(device) { of_host } else { 1 };
        ThreadPoolBuilder::new().num_threads(threads).build()
    };
    devices.iter().map(pool).collect()
}
