//! Words and digits cut in one pass. A byte-level tokenizer that first cuts digits out, each alone,
//! walks a text twice and calls its expression once for every digit; one expression that is both
//! cuts the same words, and a text of digits in half the time.

use serde_json::{json, Value as Json};
use tokenizers::{PreTokenizerWrapper, Tokenizer};

/// The cutting of digits and of words as one, where `tokenizer` has both.
pub fn cut_with_words(tokenizer: &mut Tokenizer) -> serde_json::Result<()> {
    let cutter = serde_json::to_value(tokenizer.get_pre_tokenizer())?;
    if let Some(words) = words_behind_digits(&cutter) {
        let mut bytes = words.clone();
        bytes["use_regex"] = false.into();
        let split = json!({"type": "Split", "pattern": {"Regex": expression()},
            "behavior": "Isolated", "invert": false});
        let both = json!({"type": "Sequence", "pretokenizers": [split, bytes]});
        tokenizer.with_pre_tokenizer(Some(serde_json::from_value::<PreTokenizerWrapper>(both)?));
    }
    Ok(())
}

/// The byte level of a sequence of Digits, each alone, and ByteLevel with its own expression.
fn words_behind_digits(cutter: &Json) -> Option<&Json> {
    let [digits, words] = cutter["pretokenizers"].as_array()?.as_slice() else { return None };
    let known = digits["type"] == "Digits"
        && digits["individual_digits"] == true
        && words["type"] == "ByteLevel"
        && words["add_prefix_space"] == false
        && words["use_regex"] == true;
    known.then_some(words)
}

/// GPT-2's expression between digits: no match but a digit's own holds one, and blanks that end
/// before a digit end as they would at the end of a text. A digit is what Digits takes for one,
/// which may be of another edition of Unicode than the expression's classes. All that needs no look
/// ahead is a group of its own, which one automaton matches.
fn expression() -> String {
    let d = digits();
    format!(
        r"(?:[{d}]|'s|'t|'re|'ve|'m|'ll|'d| ?[\p{{L}}&&[^{d}]]+| ?[\p{{N}}&&[^{d}]]+| ?[^\s\p{{L}}\p{{N}}{d}]+)|\s+(?![^\s{d}])|\s+"
    )
}

/// Every numeric character, as ranges of a class.
fn digits() -> String {
    let mut ranges: Vec<(char, char)> = Vec::new();
    for digit in (char::MIN..=char::MAX).filter(|c| c.is_numeric()) {
        match ranges.last_mut() {
            Some((_, last)) if *last as u32 + 1 == digit as u32 => *last = digit,
            _ => ranges.push((digit, digit)),
        }
    }
    let escaped = |c: char| format!("\\x{{{:x}}}", c as u32);
    ranges.iter().map(|(first, last)| format!("{}-{}", escaped(*first), escaped(*last))).collect()
}
