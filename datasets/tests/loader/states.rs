//! What is saved, and which loader takes it up.

use burn::prelude::*;
use burn_memopt_datasets::loader::{BufferState, Loader, LoaderConfig, LoaderError, LoaderState};
use rstest::rstest;

use crate::sources::{Collect, Numbers, Stream, loader, streaming, take};

#[rstest]
#[case::empty(0, 1, false)]
#[case::less_than_a_batch(3, 4, true)]
fn a_loader_without_batches_is_refused(
    #[case] len: usize,
    #[case] batch_size: usize,
    #[case] drop_last: bool,
) {
    let config = LoaderConfig::new(batch_size).with_drop_last(drop_last);
    let numbers = Numbers::new(len);
    let loader = Loader::new(numbers, Collect::default(), config, &Device::flex());
    assert!(matches!(loader.err(), Some(LoaderError::NoBatches { .. })));
}

#[rstest]
#[case::length(LoaderState { num_items: Some(9), ..saved() }, "a dataset of length 9")]
#[case::kind(LoaderState { buffer: Some(buffer()), ..saved() }, "a dataset read front to back")]
#[case::batch_size(LoaderState { batch_size: 3, ..saved() }, "batch size 3")]
#[case::seed(LoaderState { seed: None, ..saved() }, "shuffle seed none")]
#[case::drop_last(LoaderState { drop_last: true, ..saved() }, "drop_last true")]
#[case::behind_the_end(LoaderState { next_item: 8, ..saved() }, "item 8 of an epoch of 8")]
#[case::newer(LoaderState { version: 2, ..saved() }, "the state has form 2")]
fn a_foreign_state_is_refused(#[case] state: LoaderState, #[case] reason: &str) {
    let loader = loader(Numbers::new(8), LoaderConfig::new(2).with_shuffle(Some(1)));
    loader.resume(&saved()).unwrap();
    let error = loader.resume(&state).unwrap_err();
    assert!(error.to_string().contains(reason), "{error}");
    assert_eq!(loader.state(), saved());
}

fn saved() -> LoaderState {
    LoaderState {
        version: 1,
        epoch: 3,
        next_item: 4,
        num_items: Some(8),
        batch_size: 2,
        drop_last: false,
        seed: Some(1),
        buffer: None,
    }
}

fn buffer() -> BufferState {
    BufferState {
        size: 3,
        start: 0,
        next: 6,
        held: vec![5, 1],
    }
}

fn saved_stream() -> LoaderState {
    LoaderState {
        num_items: None,
        buffer: Some(buffer()),
        ..saved()
    }
}

#[rstest]
#[case::size(BufferState { size: 4, ..buffer() }, "a shuffle buffer of size 4")]
#[case::start(BufferState { start: 1, ..buffer() }, "first record 1")]
#[case::not_read_yet(BufferState { held: vec![5, 6], ..buffer() }, "damaged")]
#[case::held_twice(BufferState { held: vec![5, 5], ..buffer() }, "damaged")]
#[case::too_many(BufferState { held: vec![0, 1, 2, 3], ..buffer() }, "damaged")]
#[case::another_position(BufferState { next: 7, ..buffer() }, "damaged")]
fn a_damaged_shuffle_buffer_is_refused(#[case] buffer: BufferState, #[case] reason: &str) {
    let config = LoaderConfig::new(2)
        .with_shuffle(Some(1))
        .with_shuffle_buffer(3);
    let loader = streaming(Stream::new(Numbers::new(8)), config);
    loader.resume(&saved_stream()).unwrap();
    let state = LoaderState {
        buffer: Some(buffer),
        ..saved_stream()
    };
    let error = loader.resume(&state).unwrap_err();
    assert!(error.to_string().contains(reason), "{error}");
    assert_eq!(loader.state(), saved_stream());
}

#[test]
fn a_state_of_the_first_form_need_not_say_so() {
    let json =
        r#"{"epoch":3,"next_item":4,"num_items":8,"batch_size":2,"drop_last":false,"seed":1}"#;
    assert_eq!(serde_json::from_str::<LoaderState>(json).unwrap(), saved());
    let more = json.replace("\"seed\"", "\"speed\":2,\"seed\"");
    let error = serde_json::from_str::<LoaderState>(&more).unwrap_err();
    assert!(
        error.to_string().contains("unknown field `speed`"),
        "{error}"
    );
}

#[test]
fn a_stream_that_was_shortened_says_so_when_resumed() {
    let config = LoaderConfig::new(2)
        .with_shuffle(Some(1))
        .with_shuffle_buffer(6);
    let first = streaming(Stream::new(Numbers::new(20)), config.clone());
    take(&first, 3);
    let second = streaming(Stream::new(Numbers::new(7)), config);
    second.resume(&first.state()).unwrap();
    let error = second.batches().find_map(Result::err).unwrap();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("it was shortened"), "{source}");
}
