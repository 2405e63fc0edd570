//! The reference tokenizers, as they are.

use crate::abi::{answer, free, guarded, Bytes, Text};
use crate::{digits, heap};
use serde_json::{json, Value as Json};
use std::collections::HashMap;
use std::str::FromStr;
use tokenizers::{AddedToken, Tokenizer};

pub struct Handle {
    /// Control tokens spelled in a text become their ids.
    parsing: Tokenizer,
    /// Only their marks do; a spelling is plain text.
    marked: Tokenizer,
}

impl Handle {
    /// Id, spelling and mark of every control token.
    fn control_tokens(&self) -> Result<Vec<(u32, String, String)>, String> {
        let added = self.parsing.get_added_tokens_decoder().into_iter();
        added
            .filter(|(_, token)| token.special)
            .map(|(id, token)| match self.marked.id_to_token(id) {
                Some(mark) if mark.starts_with(BORDER) => Ok((id, token.content, mark)),
                _ => Err(format!("the control token {} cannot be told from text", token.content)),
            })
            .collect()
    }
}

/// A noncharacter: no text holds it.
const BORDER: char = '\u{10ffff}';

/// What stands for a control token in a text for `marked`.
fn mark_of(index: usize) -> String {
    format!("{BORDER}{index}{BORDER}")
}

/// The tokenizer of `json` with every control token spelled as its mark, in the vocabulary, too:
/// some models (Unigram) find the spelling there without the help of added tokens. Ids stay.
fn with_marks(mut file: Json) -> Result<Tokenizer, String> {
    let mut marks = HashMap::new();
    let added = file.get_mut("added_tokens").and_then(Json::as_array_mut);
    for token in added.into_iter().flatten() {
        let content = token["content"].as_str().unwrap_or_default().to_owned();
        if content.is_empty() || token["special"] != true {
            continue;
        }
        let next = mark_of(marks.len());
        token["content"] = marks.entry(content).or_insert(next).clone().into();
        token["normalized"] = false.into(); // a mark is a mark wherever it stands
        token["single_word"] = false.into();
    }
    rename(&mut file["model"], &marks);
    serde_json::from_value(file).map_err(|e| e.to_string())
}

fn rename(model: &mut Json, marks: &HashMap<String, String>) {
    let renamed = |piece: &Json| piece.as_str().and_then(|p| marks.get(p)).cloned();
    match model.get_mut("vocab") {
        Some(Json::Array(pieces)) => {
            for piece in pieces {
                if let Some(mark) = renamed(&piece[0]) {
                    piece[0] = mark.into();
                }
            }
        }
        Some(Json::Object(pieces)) => {
            let old = std::mem::take(pieces);
            pieces.extend(
                old.into_iter()
                    .map(|(piece, id)| (marks.get(&piece).cloned().unwrap_or(piece), id)),
            );
        }
        _ => {}
    }
    if let Some(mark) = renamed(&model["unk_token"]) {
        model["unk_token"] = mark.into();
    }
    if let Some(merges) = model.get_mut("merges").and_then(Json::as_array_mut) {
        merges.retain(|merge| !pieces_of(merge).iter().any(|piece| marks.contains_key(piece)));
    }
}

/// Both parts of a merge and what it makes.
fn pieces_of(merge: &Json) -> [String; 3] {
    let (left, right) = match merge.as_str() {
        Some(pair) => pair.split_once(' ').unwrap_or((pair, "")),
        None => (merge[0].as_str().unwrap_or(""), merge[1].as_str().unwrap_or("")),
    };
    [left.to_owned(), right.to_owned(), format!("{left}{right}")]
}

#[no_mangle]
pub unsafe extern "C" fn tidemill_tokenizer_new(json: Text, error: *mut Bytes) -> *mut Handle {
    let made = guarded(|| {
        let json = json.as_str()?;
        // First: the library panics on some texts that are no JSON.
        let file: Json = serde_json::from_str(json).map_err(|e| e.to_string())?;
        let mut parsing = Tokenizer::from_str(json).map_err(|e| e.to_string())?;
        let mut marked = with_marks(file)?;
        for tokenizer in [&mut parsing, &mut marked] {
            // Settings of a training run; serving neither cuts nor pads.
            tokenizer.with_truncation(None).map_err(|e| e.to_string())?;
            tokenizer.with_padding(None);
            digits::cut_with_words(tokenizer).map_err(|e| e.to_string())?;
        }
        let handle = Handle { parsing, marked };
        handle.control_tokens()?; // every one has a mark
        Ok(Box::new(handle))
    });
    heap::trim();
    match made {
        Ok(handle) => Box::into_raw(handle),
        Err(reason) => {
            answer(error, || Err(reason));
            std::ptr::null_mut()
        }
    }
}

#[no_mangle]
pub unsafe extern "C" fn tidemill_tokenizer_free(handle: *mut Handle) {
    free(|| drop(Box::from_raw(handle)));
}

fn added(tokenizer: &Tokenizer, id: u32) -> Option<&AddedToken> {
    tokenizer.get_added_vocabulary().get_added_tokens_decoder().get(&id)
}

/// Ids as 32-bit little-endian numbers.
#[no_mangle]
pub unsafe extern "C" fn tidemill_tokenizer_encode(
    handle: *const Handle,
    text: Text,
    add_special_tokens: bool,
    parse_control_tokens: bool,
    out: *mut Bytes,
) -> bool {
    answer(out, || {
        let tokenizer = if parse_control_tokens { &(*handle).parsing } else { &(*handle).marked };
        let encoding =
            tokenizer.encode_fast(text.as_str()?, add_special_tokens).map_err(|e| e.to_string())?;
        Ok(encoding.get_ids().iter().flat_map(|id| id.to_le_bytes()).collect())
    })
}

#[no_mangle]
pub unsafe extern "C" fn tidemill_tokenizer_decode(
    handle: *const Handle,
    ids: *const u32,
    count: usize,
    skip_special_tokens: bool,
    out: *mut Bytes,
) -> bool {
    answer(out, || {
        let ids = if count == 0 { &[] } else { std::slice::from_raw_parts(ids, count) };
        let tokenizer = &(*handle).parsing;
        // The library would compare spellings, and a normaliser may have changed them.
        let ids: Vec<u32> = ids
            .iter()
            .copied()
            .filter(|id| !skip_special_tokens || !added(tokenizer, *id).is_some_and(|t| t.special))
            .collect();
        let text = tokenizer.decode(&ids, false).map_err(|e| e.to_string())?;
        Ok(text.into_bytes())
    })
}

/// The vocabulary's spelling of an id; false outside of it.
#[no_mangle]
pub unsafe extern "C" fn tidemill_tokenizer_piece(
    handle: *const Handle,
    id: u32,
    out: *mut Bytes,
) -> bool {
    answer(out, || {
        let tokenizer = &(*handle).parsing;
        let piece = match added(tokenizer, id) {
            Some(token) => Some(token.content.clone()), // as it is spelled, not as it is matched
            None => tokenizer.id_to_token(id),
        };
        piece.map(String::into_bytes).ok_or_else(String::new)
    })
}

/// The id of a spelling; -1 when there is none.
#[no_mangle]
pub unsafe extern "C" fn tidemill_tokenizer_find(handle: *const Handle, piece: Text) -> i64 {
    guarded(|| Ok((*handle).parsing.token_to_id(piece.as_str()?)))
        .ok()
        .flatten()
        .map_or(-1, i64::from)
}

/// One past the largest id, added tokens included.
#[no_mangle]
pub unsafe extern "C" fn tidemill_tokenizer_size(handle: *const Handle) -> u32 {
    guarded(|| {
        Ok((*handle).parsing.get_vocab(true).values().max().map_or(0, |largest| largest + 1))
    })
    .unwrap_or(0)
}

/// JSON: {"decoder": ..., "added": [id, ...], "control": [{"id", "spelling", "mark"}, ...]} in the
/// order of ids.
#[no_mangle]
pub unsafe extern "C" fn tidemill_tokenizer_describe(
    handle: *const Handle,
    out: *mut Bytes,
) -> bool {
    answer(out, || {
        let tokenizer = &(*handle).parsing;
        let mut added: Vec<u32> = tokenizer.get_added_tokens_decoder().into_keys().collect();
        added.sort_unstable();
        let mut control = (*handle).control_tokens()?;
        control.sort_unstable();
        let control: Vec<Json> = control
            .into_iter()
            .map(|(id, spelling, mark)| json!({"id": id, "spelling": spelling, "mark": mark}))
            .collect();
        let decoder = serde_json::to_value(tokenizer.get_decoder()).map_err(|e| e.to_string())?;
        let description = json!({"decoder": decoder, "added": added, "control": control});
        Ok(description.to_string().into_bytes())
    })
}
