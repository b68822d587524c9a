//! The memory is shared out: what each part of loading gets, and why.
//! Pure.

use burn_memopt::memory::Bytes;

use super::{Access, Advice, AdviseError, Advised, Advisor, DatasetBytes, Loading, advisor::Facts};

/// Workers beyond this wait for the disk or for each other.
const MAX_WORKERS: u64 = 4;
/// Batches that each worker may be ahead.
const BATCHES_AHEAD: u64 = 2;
/// The batch size where nothing is known of the model.
const USUAL_BATCH: u64 = 32;
/// The largest batch size that is advised unasked.
const MAX_BATCH: u64 = 512;
/// Records beyond which a shuffle buffer hardly shuffles better.
const MAX_SHUFFLE_RECORDS: u64 = 10_000;

/// Shares the memory out. Every share is taken from what those before left, so their sum stays
/// within it.
pub(super) fn share_out(
    advisor: &Advisor,
    data: &DatasetBytes,
    access: Access,
) -> Result<Advice, AdviseError> {
    let facts = Facts::gather(advisor, data, access)?;
    let loading = loading(&facts);
    let batch_size = batch_size(&facts, advisor.batch_size);
    let batch = data.batch(batch_size.value);
    let kept = match loading.value {
        Loading::Preload => data.loaded().unwrap_or(Bytes::ZERO),
        _ => Bytes::ZERO,
    };
    let mut rest = facts.memory - kept - batch;
    let cache = cache(&facts, loading.value, rest);
    rest -= cache.value;
    // Besides what waits for its batch, one item more is on its way.
    let room = (rest - facts.item).min(part(facts.memory, 8));
    let num_workers = num_workers(&facts, loading.value, room);
    let prefetch = prefetch(&facts, num_workers.value, batch, room);
    rest -= prefetch.value + facts.item;
    let buffer_room = rest.min(part(facts.memory, 8));
    let (shuffle_buffer, buffer) = shuffle_buffer(&facts, loading.value, buffer_room);

    let shares = [
        ("the set", kept),
        ("a batch", batch),
        ("prefetch", prefetch.value),
        ("cache", cache.value),
        ("shuffle buffer", buffer),
    ];
    Ok(Advice {
        loading,
        num_workers,
        batch_size,
        prefetch,
        cache,
        shuffle_buffer,
        host_memory: host_memory(&facts, &shares),
        assumptions: facts.assumptions,
    })
}

fn part(memory: Bytes, divisor: u64) -> Bytes {
    Bytes::new(memory.get() / divisor)
}

fn loading(facts: &Facts) -> Advised<Loading> {
    let Some(loaded) = facts.data.loaded() else {
        return Advised::new(
            Loading::Stream,
            "the size of the whole set is unknown until its end",
        );
    };
    let [twice_loaded, free] = [u128::from(loaded.get()) * 2, facts.memory.get().into()];
    let share = format!("{loaded} loaded are {}", facts.share(loaded));
    let is_streamed = matches!(facts.access, Access::Streamed { .. });
    if twice_loaded < free {
        return Advised::new(
            Loading::Preload,
            format!("{share}, below 50 %: load it once and keep it"),
        );
    }
    if twice_loaded < free * 4 && !is_streamed {
        return Advised::new(
            Loading::Cache,
            format!("{share}, below 200 %: load what is asked for and keep a part"),
        );
    }
    let why = if twice_loaded < free * 4 {
        "and a stream cannot go back to what a cache does not hold"
    } else {
        "200 % or more: keep nothing"
    };
    Advised::new(Loading::Stream, format!("{share}, {why}"))
}

fn batch_size(facts: &Facts, asked: Option<u64>) -> Advised<u64> {
    let (divisor, part_name) = match asked {
        Some(_) => (4, "a quarter"),
        None => (8, "an eighth"),
    };
    let usual = "a usual size; how many a step could take is not known".to_owned();
    let mut limits = match (asked, &facts.step_limit) {
        (Some(asked), _) => vec![(asked, "as asked for".to_owned())],
        (None, None) => vec![(USUAL_BATCH, usual)],
        (None, Some(_)) => vec![(MAX_BATCH, "a larger one rarely trains better".to_owned())],
    };
    limits.extend(facts.step_limit.clone());
    if let Some(num_items) = facts.data.num_items() {
        let why = format!("there are {num_items} items");
        limits.push((num_items.max(1), why));
    }
    let fit = part(facts.memory, divisor)
        .get()
        .checked_div(facts.item.get());
    match fit {
        None => {}
        Some(0) => {
            let why = format!("one item alone takes {}", facts.share(facts.item));
            limits.push((1, why));
        }
        Some(fit) => {
            let (item, memory) = (facts.item, &facts.memory_name);
            let why = format!("{fit} items of {item} fill {part_name} of {memory}");
            limits.push((fit, why));
        }
    }
    let (limit, mut why) = limits
        .into_iter()
        .min_by_key(|(limit, _)| *limit)
        .unwrap_or((1, String::new()));
    if let Some(asked) = asked {
        if limit < asked {
            why = format!("{asked} were asked for, but {why}");
        }
        return Advised::new(limit, why);
    }
    let value = 1 << limit.ilog2();
    if value < limit {
        why += "; rounded down to a power of two";
    }
    Advised::new(value, why)
}

fn cache(facts: &Facts, loading: Loading, rest: Bytes) -> Advised<Bytes> {
    let none = |why: &str| Advised::new(Bytes::ZERO, why);
    match (loading, facts.access) {
        (Loading::Preload, _) => none("everything is in memory already"),
        (Loading::Stream, Access::Streamed { .. }) => none("a stream asks for no item twice"),
        (_, Access::Mapped) => none("the system keeps mapped pages itself while memory is free"),
        (Loading::Stream, _) => none("it would hold less than a quarter of the set"),
        (Loading::Cache, Access::Decoded | Access::Streamed { .. }) => {
            let loaded = facts.data.loaded().unwrap_or(Bytes::ZERO);
            let cache = loaded.min(part(facts.memory, 2)).min(rest);
            let held = u128::from(cache.get()) * 100 / u128::from(loaded.get().max(1));
            let why = format!(
                "up to half of {}; holds {held} % of the set, which is not decoded again",
                facts.memory_name
            );
            Advised::new(cache, why)
        }
    }
}

fn num_workers(facts: &Facts, loading: Loading, room: Bytes) -> Advised<u64> {
    let cores = facts.cores;
    let (wanted, why) = match (loading, facts.access) {
        (Loading::Preload, _) | (_, Access::Mapped) => {
            let what = match loading {
                Loading::Preload => "items are in memory",
                _ => "mapped pages need no decoding",
            };
            match cores {
                0 | 1 => (0, format!("{what}, and there is one core: it trains")),
                _ => (
                    1,
                    format!("{what}: one fills batches while the model trains"),
                ),
            }
        }
        (_, access) => {
            let what = match access {
                Access::Streamed { .. } => "records are read in turn, and made into items at once",
                _ => "items are decoded while the model trains",
            };
            let why = format!("min({MAX_WORKERS}, {cores} cores); {what}");
            (cores.clamp(1, MAX_WORKERS), why)
        }
    };
    // Each worker holds an item.
    let most = room.get().checked_div(facts.item.get()).unwrap_or(wanted);
    match most {
        0 if wanted > 0 => Advised::new(0, "no memory is left to load items ahead"),
        most if most < wanted => Advised::new(
            most,
            format!("{room} are left for loading ahead, {most} items"),
        ),
        _ => Advised::new(wanted, why),
    }
}

fn prefetch(facts: &Facts, num_workers: u64, batch: Bytes, room: Bytes) -> Advised<Bytes> {
    if num_workers == 0 {
        return Advised::new(Bytes::ZERO, "nobody loads ahead");
    }
    let wanted = batch * BATCHES_AHEAD * num_workers;
    let ahead = format!("{BATCHES_AHEAD} batches for each worker");
    if wanted <= room {
        return Advised::new(wanted, ahead);
    }
    let why = format!(
        "what is left of an eighth of {}; {ahead} would take {wanted}",
        facts.memory_name
    );
    Advised::new(room, why)
}

/// Records of the shuffle buffer, and the bytes they take.
fn shuffle_buffer(facts: &Facts, loading: Loading, room: Bytes) -> (Advised<u64>, Bytes) {
    let record = match (loading, facts.access) {
        (Loading::Stream, Access::Streamed { record }) => record,
        _ => {
            let why = "items are reached in any order: their numbers are shuffled";
            return (Advised::new(0, why), Bytes::ZERO);
        }
    };
    let num_items = facts.data.num_items().unwrap_or(u64::MAX);
    let fit = room.get().checked_div(record.get()).unwrap_or(u64::MAX);
    let number = MAX_SHUFFLE_RECORDS.min(num_items).min(fit);
    let buffer = record * number;
    let why = match number {
        number if number == fit => format!(
            "records of {record} fill an eighth of {}",
            facts.memory_name
        ),
        number if number == num_items => format!("the whole stream, {buffer}"),
        _ => format!("{buffer}; a larger buffer hardly shuffles better"),
    };
    (Advised::new(number, why), buffer)
}

fn host_memory(facts: &Facts, shares: &[(&str, Bytes)]) -> Advised<Bytes> {
    let total: Bytes = shares.iter().map(|&(_, bytes)| bytes).sum();
    let parts: Vec<_> = shares
        .iter()
        .filter(|(_, bytes)| *bytes > Bytes::ZERO)
        .map(|(name, bytes)| format!("{name} {bytes}"))
        .collect();
    let why = if parts.is_empty() {
        format!("nothing of {}", facts.memory_name)
    } else {
        format!("{}: {}", parts.join(" + "), facts.share(total))
    };
    Advised::new(total, why)
}
