use rstest::rstest;

use super::*;

/// A tokenizer of words, with or without special tokens and other settings.
fn words(settings: &str) -> Tokenizer {
    let json = format!(
        r#"{{"version": "1.0", "added_tokens": [], "pre_tokenizer": {{"type": "Whitespace"}},
        "model": {{"type": "WordLevel", "unk_token": "?", "vocab": {{"[PAD]": 0, "?": 1,
        "[CLS]": 2, "[SEP]": 3, "what": 4, "colour": 5, "is": 6, "it": 7, "red": 8}}}}
        {settings}}}"#
    );
    json.parse().unwrap()
}

/// `[CLS] question [SEP] answer [SEP]`.
const TEMPLATE: &str = r#", "post_processor": {"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
    "pair": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}},
        {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
    "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
        "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}}"#;

fn padded(settings: &str, config: TokensConfig) -> PaddedTokenizer {
    PaddedTokenizer::new(words(settings), config).unwrap()
}

#[rstest]
#[case::empty("", &[0, 0, 0], &[0, 0, 0])]
#[case::shorter("red", &[8, 0, 0], &[1, 0, 0])]
#[case::equal("what is it", &[4, 6, 7], &[1, 1, 1])]
#[case::longer("what colour is it", &[4, 5, 6], &[1, 1, 1])]
#[case::unknown_words("what planet", &[4, 1, 0], &[1, 1, 0])]
fn texts_are_cut_and_filled_to_one_length(
    #[case] text: &str,
    #[case] ids: &[u32],
    #[case] mask: &[u8],
) {
    let tokens = padded("", TokensConfig::new(3)).encode(text).unwrap();
    assert_eq!(tokens.input_ids, ids);
    assert_eq!(tokens.attention_mask, mask);
    assert_eq!(tokens.type_ids, [0; 3]);
}

#[test]
fn questions_and_answers_are_joined_as_the_tokenizer_says() {
    let tokenizer = padded(TEMPLATE, TokensConfig::new(9));
    let tokens = tokenizer.encode_pair("what colour is it", "red").unwrap();
    assert_eq!(tokens.input_ids, [2, 4, 5, 6, 7, 3, 8, 3, 0]);
    assert_eq!(tokens.attention_mask, [1, 1, 1, 1, 1, 1, 1, 1, 0]);
    assert_eq!(tokens.type_ids, [0, 0, 0, 0, 0, 0, 1, 1, 0]);
}

#[test]
fn of_a_pair_the_longer_text_is_cut_and_special_tokens_stay() {
    let tokenizer = padded(TEMPLATE, TokensConfig::new(6));
    let tokens = tokenizer.encode_pair("what colour is it", "red").unwrap();
    assert_eq!(tokens.input_ids, [2, 4, 5, 3, 8, 3]);
}

#[test]
fn special_tokens_may_be_left_out() {
    let config = TokensConfig::new(6).with_add_special_tokens(false);
    let tokens = padded(TEMPLATE, config).encode_pair("what", "red").unwrap();
    assert_eq!(tokens.input_ids, [4, 8, 0, 0, 0, 0]);
}

#[test]
fn sides_and_fill_of_the_tokenizer_are_kept() {
    let settings = r#", "truncation": {"direction": "Left", "max_length": 2, "strategy": "OnlyFirst",
        "stride": 1}, "padding": {"strategy": "BatchLongest", "direction": "Left",
        "pad_to_multiple_of": 8, "pad_id": 1, "pad_type_id": 0, "pad_token": "?"}"#;
    let tokenizer = padded(settings, TokensConfig::new(3));
    assert_eq!(tokenizer.encode("red").unwrap().input_ids, [1, 1, 8]);
    let tokens = tokenizer.encode("what colour is it").unwrap();
    assert_eq!(tokens.input_ids, [5, 6, 7]);
    let tokenizer = padded(settings, TokensConfig::new(3).with_pad_id(Some(7)));
    assert_eq!(tokenizer.encode("red").unwrap().attention_mask, [0, 0, 1]);
    assert_eq!(tokenizer.encode("red").unwrap().input_ids, [7, 7, 8]);
}

#[test]
fn a_tokenizer_without_padding_needs_a_number() {
    let json = r#"{"version": "1.0", "added_tokens": [],
        "model": {"type": "WordLevel", "unk_token": "?", "vocab": {"?": 0}}}"#;
    let tokenizer: Tokenizer = json.parse().unwrap();
    let error = PaddedTokenizer::new(tokenizer.clone(), TokensConfig::new(2)).unwrap_err();
    assert!(matches!(error, TokensError::NoPadToken), "{error}");
    let config = TokensConfig::new(2).with_pad_id(Some(9));
    let tokens = PaddedTokenizer::new(tokenizer, config).unwrap().encode("a");
    assert_eq!(tokens.unwrap().input_ids, [0, 9]);
}

#[rstest]
#[case::no_length("", 0)]
#[case::special_tokens_alone(TEMPLATE, 3)]
fn lengths_without_room_are_refused(#[case] settings: &str, #[case] length: usize) {
    let error = PaddedTokenizer::new(words(settings), TokensConfig::new(length)).unwrap_err();
    assert!(matches!(error, TokensError::TooShort { .. }), "{error}");
}

#[test]
fn tokenizers_are_read_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    words(TEMPLATE).save(&path, false).unwrap();
    let tokenizer = PaddedTokenizer::open(&path, TokensConfig::new(4)).unwrap();
    assert_eq!(tokenizer.encode("red").unwrap().input_ids, [2, 8, 3, 0]);

    std::fs::write(&path, "{").unwrap();
    for path in [path, folder.path().join("none.json")] {
        let error = PaddedTokenizer::open(&path, TokensConfig::new(4)).unwrap_err();
        let text = format!("cannot read the tokenizer {}", path.display());
        assert!(error.to_string().starts_with(&text), "{error}");
    }
}
