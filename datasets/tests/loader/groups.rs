//! Micro-batches of one optimizer step.

use burn_memopt_datasets::loader::LoaderConfig;

use crate::sources::{Numbers, loader};

fn groups(
    loader: &burn_memopt_datasets::loader::Loader<usize, Vec<usize>>,
) -> Vec<Vec<Vec<usize>>> {
    let mut batches = loader.batches();
    let mut groups = Vec::new();
    while let Some(group) = batches.next_group(3) {
        groups.push(group.map(Result::unwrap).collect());
    }
    groups
}

#[test]
fn groups_end_with_their_epoch_and_are_never_empty() {
    let loader = loader(Numbers::new(10), LoaderConfig::new(2));
    for epoch in 0..2 {
        assert_eq!(loader.state().epoch, epoch);
        let lens: Vec<usize> = groups(&loader).iter().map(Vec::len).collect();
        assert_eq!(lens, [3, 2]);
    }
}

#[test]
fn a_run_resumed_between_groups_groups_alike() {
    let first = loader(Numbers::new(10), LoaderConfig::new(1).with_shuffle(Some(2)));
    let mut batches = first.batches();
    let group: Vec<_> = batches.next_group(3).unwrap().map(Result::unwrap).collect();
    assert_eq!(group.len(), 3);
    let second = loader(Numbers::new(10), LoaderConfig::new(1).with_shuffle(Some(2)));
    second.resume(&first.state()).unwrap();
    drop(batches);
    assert_eq!(groups(&second), groups(&first));
}

#[test]
fn an_error_ends_a_group_and_the_groups() {
    let config = LoaderConfig::new(1);
    let loader = loader(Numbers::new(10).failing([4]), config);
    let mut batches = loader.batches();
    assert_eq!(batches.next_group(3).unwrap().count(), 3);
    let group: Vec<_> = batches.next_group(3).unwrap().collect();
    assert!(group.len() == 2 && group[1].is_err());
    assert!(batches.next_group(3).is_none());
}
