// What an answer tells of its prompt's tokens: their places in the echoed text, and their
// log-probabilities; and how completions spell a token that is no text of its own.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/token_pieces.h"
#include "base/json.h"
#include "base/token_id.h"

namespace tidemill {

// The prompt's tokens with their places in its text. Tokens that the text does not spell (a begin
// of sequence that encoding added) have no width.
std::vector<TokenPiece> prompt_pieces(std::string_view text, std::span<const TokenText> tokens);

// A token is shown by its own bytes, so that it has one text as the chosen one and as another's
// alternative, a blank in front included. Bytes that are no text alone are shown as `bytes:\xNN`; a
// token without any (there is no tokenizer), and with `as_id` every token, as `token_id:N`.
std::string completion_spelling(TokenId id, const std::string& text, const std::string& bytes,
                                bool as_id);

// `token_id:N`, which is distinct where texts are not.
std::string id_spelling(TokenId id);

// One entry per token: null for the first, else an object of token ids, each with its logprob, its
// rank (from 1; null where it is unknown: beyond the best that were asked for) and its text.
void write_prompt_logprobs(JsonWriter& out, std::span<const TokenText> tokens);

// The prompt's tokens with at most so many alternatives each: two members of one answer may ask for
// different numbers.
std::vector<TokenText> prompt_tokens(const ResponseStream& stream, int64_t prompt, int64_t num_top);

void write_ids(JsonWriter& out, std::span<const TokenId> ids);
void write_ids(JsonWriter& out, std::span<const TokenText> tokens);

}  // namespace tidemill
