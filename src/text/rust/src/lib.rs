//! Tokenizers and chat templates behind a small C interface (src/text/rust_abi.h).
//!
//! Every call catches panics: text from strangers runs through here, and one bad text must cost one
//! request, never the process. What a call returns in a `Bytes` belongs to the caller until
//! `tidemill_bytes_free`.

mod abi;
mod digits;
mod heap;
mod json;
mod memory;
mod template;
mod tokenizer;
