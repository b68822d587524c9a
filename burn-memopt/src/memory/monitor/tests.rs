use super::*;

fn snapshot_with(devices: Vec<DeviceMemory>) -> MemorySnapshot {
    MemorySnapshot {
        host_total: Some(Bytes::gib(16)),
        host_limit: Some("physical memory".into()),
        host_available: None,
        process_rss: Some(Bytes::mib(300)),
        process_peak_rss: None,
        live: Some(Bytes::mib(20)),
        live_peak: None,
        devices,
    }
}

fn device(in_use: Option<Bytes>) -> DeviceMemory {
    DeviceMemory {
        name: "some card".into(),
        bytes_in_use: in_use,
        bytes_reserved: None,
        total: None,
        free: None,
    }
}

#[test]
fn this_process_lies_within_this_host() {
    let snapshot = MemoryMonitor::new([]).snapshot();
    let (total, available) = (
        snapshot.host_total.unwrap(),
        snapshot.host_available.unwrap(),
    );
    assert!(available <= total, "{available} of {total}");
    assert!(snapshot.process_rss.unwrap() < total);
    assert!(snapshot.process_rss.unwrap() > Bytes::mib(1));
}

#[test]
fn a_limit_below_the_host_is_what_counts_and_is_named() {
    let limit = |amount, source: &str| Limit {
        amount,
        free: None,
        source: source.into(),
    };
    let (wide, tight) = (
        limit(Bytes::gib(8), "RLIMIT_AS (ulimit -v)"),
        limit(Bytes::gib(1), "cgroup v2 /job/memory.max"),
    );
    let total = Some(Bytes::gib(4));
    let named =
        |(amount, source): (Option<Bytes>, Option<String>)| (amount, source.unwrap_or_default());
    let physical = (total, "physical memory".to_owned());
    assert_eq!(named(tightest(total, &[])), physical);
    assert_eq!(
        named(tightest(total, std::slice::from_ref(&wide))),
        physical
    );
    let both = named(tightest(total, &[wide, tight.clone()]));
    assert_eq!(both, (Some(tight.amount), tight.source.clone()));
    assert_eq!(named(tightest(None, &[tight])).0, Some(Bytes::gib(1)));
    assert_eq!(tightest(None, &[]), (None, None));
}

/// A process with a limit of its own, set by a shell.
#[cfg(target_os = "linux")]
#[test]
fn a_limit_of_the_shell_is_seen() {
    let mut child = std::process::Command::new("sh")
        .args(["-c", "ulimit -v 500000 && exec sleep 60"])
        .spawn()
        .unwrap();
    let mut monitor = MemoryMonitor::new([]).with_process(child.id());
    let is_limited = |snapshot: &MemorySnapshot| snapshot.host_total == Some(Bytes::kib(500_000));
    // The shell takes a moment to set it.
    let snapshot = (0..500).map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        monitor.snapshot()
    });
    let seen = snapshot.into_iter().find(is_limited);
    child.kill().unwrap();
    child.wait().unwrap();
    let seen = seen.expect("the limit is seen");
    assert_eq!(seen.host_limit.as_deref(), Some("RLIMIT_AS (ulimit -v)"));
    assert!(seen.host_available < seen.host_total);
}

#[cfg(target_os = "linux")]
#[test]
fn the_peak_of_the_process_remembers_what_it_held() {
    let held = Bytes::mib(64);
    let mut monitor = MemoryMonitor::new([]);
    drop(std::hint::black_box(vec![1_u8; held.get() as usize]));
    let snapshot = monitor.snapshot();
    let peak = snapshot.process_peak_rss.unwrap();
    assert!(
        peak >= held && peak >= snapshot.process_rss.unwrap(),
        "{peak}"
    );
}

#[cfg(unix)]
#[test]
fn another_process_is_watched_until_it_ends_and_keeps_its_secrets() {
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let mut monitor = MemoryMonitor::new([]).with_process(child.id());
    let snapshot = monitor.snapshot();
    let rss = snapshot.process_rss.expect("it runs");
    assert!(rss < Bytes::mib(64), "{rss} is not that of `sleep`");
    assert_eq!((snapshot.live, snapshot.live_peak), (None, None));
    child.kill().unwrap();
    child.wait().unwrap();
    let ended = monitor.snapshot();
    assert_eq!((ended.process_rss, ended.process_peak_rss), (None, None));
    assert!(ended.host_total.is_some());
}

#[cfg(feature = "flex")]
#[test]
fn a_host_device_has_no_entry_of_its_own() {
    let mut monitor = MemoryMonitor::new([Device::flex(), Device::flex().autodiff()]);
    let snapshot = monitor.snapshot();
    assert_eq!(snapshot.devices, []);
    assert_eq!(snapshot.device_in_use(), None);
}

#[test]
fn the_bytes_in_use_are_those_of_the_most_telling_source() {
    let telling = snapshot_with(vec![
        device(Some(Bytes::mib(5))),
        device(Some(Bytes::mib(2))),
    ]);
    assert_eq!(telling.in_use(), Some(Bytes::mib(7)));
    let silent = snapshot_with(vec![device(Some(Bytes::mib(5))), device(None)]);
    assert_eq!(silent.device_in_use(), None);
    assert_eq!(silent.in_use(), Some(Bytes::mib(20)));
}

#[test]
fn what_is_not_known_is_shown_as_unknown_and_written_as_null() {
    let snapshot = snapshot_with(vec![device(None)]);
    let line = snapshot.to_string();
    assert!(
        line.contains("host unknown of 16.0 GiB available"),
        "{line}"
    );
    assert!(line.contains("some card: unknown in use"), "{line}");
    let json = serde_json::to_value(&snapshot).unwrap();
    assert!(json["host_available"].is_null());
    assert!(json["devices"][0]["bytes_in_use"].is_null());
    assert_eq!(json["host_total"], 16u64 << 30);
}
