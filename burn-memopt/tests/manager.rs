//! The memory manager on a device with memory pools. A binary of its own: the pools are shared.
#![cfg(feature = "wgpu")]

use burn::prelude::*;
use burn_memopt::memory::{Bytes, MemoryManager, MemoryMonitor, PressureConfig};

mod blocks;

#[test]
fn scarce_memory_is_given_back_by_the_device() {
    let Some(device) = blocks::gpu_device() else {
        return;
    };
    let tensor = Tensor::<2>::ones([4096, 4096], &device);
    assert_eq!(tensor.clone().slice([0..1, 0..1]).into_scalar::<f32>(), 1.0);
    drop(tensor);
    let mut monitor = MemoryMonitor::new([device.clone()]);
    let kept = monitor.snapshot().device_reserved().expect("wgpu tells");
    assert!(kept >= Bytes::mib(64), "{kept} are kept for reuse");

    let limit = Bytes::new(kept.get() * 10 / 9); // 90 % are in use
    let mut manager = MemoryManager::new(&device, PressureConfig::default()).with_limit(limit);
    let reading = manager.check();
    let cleanup = reading.cleanup.expect("a clean-up at 90 %");
    assert!(cleanup.freed() >= Bytes::mib(60), "{cleanup:?}");
    assert!(!reading.is_high, "{reading:?}");
    assert_eq!(manager.totals().freed, cleanup.freed());
    assert!(manager.check().cleanup.is_none());
}
