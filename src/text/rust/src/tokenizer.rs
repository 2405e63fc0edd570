//! The reference tokenizers, as they are.

use crate::abi::{answer, guarded, Bytes, Text};
use std::str::FromStr;
use tokenizers::Tokenizer;

pub struct Handle {
    /// Control tokens spelled in a text become their ids.
    parsing: Tokenizer,
    /// They stay plain text.
    plain: Tokenizer,
}

#[no_mangle]
pub unsafe extern "C" fn tidemill_tokenizer_new(json: Text, error: *mut Bytes) -> *mut Handle {
    let made = guarded(|| {
        let mut parsing = Tokenizer::from_str(json.as_str()?).map_err(|e| e.to_string())?;
        // Settings of a training run; serving neither cuts nor pads.
        parsing.with_truncation(None).map_err(|e| e.to_string())?;
        parsing.with_padding(None);
        let mut plain = parsing.clone();
        plain.set_encode_special_tokens(true);
        Ok(Box::new(Handle { parsing, plain }))
    });
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
    drop(Box::from_raw(handle));
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
        let tokenizer =
            if parse_control_tokens { &(*handle).parsing } else { &(*handle).plain };
        let encoding = tokenizer
            .encode_fast(text.as_str()?, add_special_tokens)
            .map_err(|e| e.to_string())?;
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
        let text = (*handle).parsing.decode(ids, skip_special_tokens).map_err(|e| e.to_string())?;
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
        (*handle).parsing.id_to_token(id).map(String::into_bytes).ok_or_else(String::new)
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

/// JSON: {"decoder": ..., "added": [{"id", "content", "special"}, ...]} in the order of ids.
#[no_mangle]
pub unsafe extern "C" fn tidemill_tokenizer_describe(handle: *const Handle, out: *mut Bytes) -> bool {
    answer(out, || {
        let tokenizer = &(*handle).parsing;
        let mut added: Vec<_> = tokenizer.get_added_tokens_decoder().into_iter().collect();
        added.sort_by_key(|(id, _)| *id);
        let added: Vec<_> = added
            .into_iter()
            .map(|(id, token)| {
                serde_json::json!({"id": id, "content": token.content, "special": token.special})
            })
            .collect();
        let decoder = serde_json::to_value(tokenizer.get_decoder()).map_err(|e| e.to_string())?;
        let description = serde_json::json!({"decoder": decoder, "added": added});
        Ok(description.to_string().into_bytes())
    })
}
