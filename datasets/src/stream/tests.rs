use super::*;
use crate::lazy::{LazyDataset, LazyDatasetExt};
use burn::data::dataset::{Dataset, InMemDataset};
use proptest::prelude::*;

/// The numbers below a length, as their own records; some are damaged, and it may end
/// with an error.
struct Numbers {
    len: u64,
    damaged: Vec<u64>,
    breaks: bool,
}

impl Numbers {
    fn new(len: u64) -> Self {
        Self {
            len,
            damaged: Vec::new(),
            breaks: false,
        }
    }
}

fn damaged(record: u64) -> DatasetError {
    DatasetError::new(std::io::Error::other(format!("record {record} is damaged")))
}

impl StreamingDataset<u64> for Numbers {
    type Record = u64;

    fn records(&self, start: u64) -> Result<Records<u64>, DatasetError> {
        let (bad, breaks, len) = (self.damaged.clone(), self.breaks, self.len);
        let records = (start..len).map(move |record| match bad.contains(&record) {
            true => Err(damaged(record)),
            false => Ok(record),
        });
        let broken = (breaks && start <= len).then(|| Err(damaged(len)));
        Ok(Box::new(records.chain(broken)))
    }

    fn load(&self, record: u64) -> Result<u64, DatasetError> {
        Ok(record)
    }

    fn item_bytes(&self, record: &u64) -> u64 {
        *record
    }
}

fn read<I>(stream: &impl StreamingDataset<I>, start: u64) -> Vec<Result<I, String>> {
    let records = stream.records(start).unwrap();
    records
        .map(|record| record.and_then(|record| stream.load(record)))
        .map(|item| item.map_err(|error| error.to_string()))
        .collect()
}

proptest! {
    #[test]
    fn adapted_streams_go_on_at_any_number(
        len in 0u64..30,
        count in 1u64..5,
        divisor in 1u64..4,
        damaged in prop::collection::vec(0u64..30, 0..4),
    ) {
        let numbers = Arc::new(Numbers { damaged, ..Numbers::new(len) });
        let mut seen = 0;
        for index in 0..count {
            let stream = numbers.clone().filter(move |n| n % divisor == 0).shard(index, count);
            let stream = stream.map(|number| number + 1);
            let whole = read(&stream, 0);
            for start in 0..=whole.len() + 1 {
                let rest = whole.get(start..).unwrap_or_default();
                prop_assert_eq!(&read(&stream, start as u64)[..], rest);
            }
            seen += whole.iter().filter(|item| item.is_ok()).count();
        }
        let all = read(&numbers.filter(move |n| n % divisor == 0), 0);
        prop_assert_eq!(seen, all.iter().filter(|item| item.is_ok()).count());
    }

    #[test]
    fn shards_of_a_known_length_know_theirs(len in 0usize..30, count in 1u64..6) {
        for index in 0..count {
            let stream = InMemDataset::new(vec![0u8; len]).into_stream().shard(index, count);
            prop_assert_eq!(stream.num_records(), Some(read(&stream, 0).len() as u64));
        }
    }
}

#[test]
fn every_shard_of_a_stream_that_breaks_off_says_so() {
    let broken = Arc::new(Numbers {
        breaks: true,
        ..Numbers::new(5)
    });
    for index in 0..3 {
        let items = read(&broken.clone().shard(index, 3), 0);
        let error = items.last().unwrap().as_ref().unwrap_err();
        assert_eq!(error, "record 5 is damaged", "shard {index}");
        assert_eq!(items.iter().filter(|item| item.is_err()).count(), 1);
    }
}

#[test]
fn an_error_of_another_shard_is_not_this_ones() {
    let numbers = Numbers {
        damaged: vec![1],
        ..Numbers::new(6)
    };
    assert_eq!(read(&numbers.shard(0, 2), 0), [Ok(0), Ok(2), Ok(4)]);
}

#[test]
fn numbers_of_a_shard_say_which_of_the_whole() {
    let shard = Numbers::new(9).shard(2, 3);
    assert_eq!(read(&shard, 1)[0], Ok(shard.whole_number(1)));
}

#[test]
fn a_stream_of_unknown_length_is_counted_to_be_indexed() {
    let numbers = Numbers {
        damaged: vec![2],
        ..Numbers::new(5)
    };
    let lazy = numbers.into_lazy().unwrap();
    assert_eq!(lazy.len(), 5);
    assert_eq!(lazy.get(4).unwrap(), 4);
    assert!(lazy.get(2).is_err());
    assert_eq!(lazy.item_bytes(0), 4);
}

#[test]
fn a_dataset_streamed_and_indexed_is_the_same() {
    let there = InMemDataset::new(vec!['a', 'b', 'c']).into_stream();
    let back = there.into_lazy().unwrap();
    let items: Vec<char> = (0..back.len())
        .map(|index| back.get(index).unwrap())
        .collect();
    assert_eq!(items, ['a', 'b', 'c']);
}
