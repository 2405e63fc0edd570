#include "api/prompt_facts.h"

#include <algorithm>

#include "api/answer_facts.h"
#include "base/check.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

void write_entry(JsonWriter& out, const TokenText::Alternative& token, int64_t rank) {
  out.key(std::to_string(token.id)).begin_object();
  out.key("logprob").value(std::max(token.logprob, kLeastLogprob)).key("rank");
  rank > 0 ? out.value(rank) : out.null();
  out.key("decoded_token").value(completion_spelling(token.id, token.text, token.bytes, false));
  out.end_object();
}

}  // namespace

std::vector<TokenPiece> prompt_pieces(std::string_view text, std::span<const TokenText> tokens) {
  std::vector<TokenPiece> pieces;
  int64_t offset = 0;
  for (const TokenText& token : tokens) {
    const bool spelled = !token.special || text.starts_with(token.text);
    const std::string_view visible = text.substr(0, spelled ? token.text.size() : 0);
    text.remove_prefix(visible.size());
    pieces.push_back({.token = token,
                      .visible = std::string(visible),
                      .offset = offset,
                      .unknown = pieces.empty()});
    offset += static_cast<int64_t>(count_code_points(visible));
  }
  return pieces;
}

std::string id_spelling(TokenId id) { return format("token_id:{}", id); }

std::string completion_spelling(TokenId id, const std::string& text, const std::string& bytes,
                                bool as_id) {
  if (as_id || (text.empty() && bytes.empty())) return id_spelling(id);
  if (bytes.empty()) return text;
  if (!first_invalid_utf8(bytes)) return bytes;
  std::string out = "bytes:";
  for (const char c : bytes) out += format("\\x{:02x}", static_cast<unsigned char>(c));
  return out;
}

void write_prompt_logprobs(JsonWriter& out, std::span<const TokenText> tokens) {
  out.begin_array();
  for (size_t i = 0; i < tokens.size(); ++i) {
    const TokenText& token = tokens[i];
    if (i == 0) {
      out.null();
      continue;
    }
    out.begin_object();
    int64_t rank = 0;
    bool has_own = false;
    for (const TokenText::Alternative& other : token.top) {
      write_entry(out, other, ++rank);
      has_own = has_own || other.id == token.id;
    }
    if (!has_own) write_entry(out, {token.id, token.text, token.bytes, token.logprob}, 0);
    out.end_object();
  }
  out.end_array();
}

std::vector<TokenText> prompt_tokens(const ResponseStream& stream, int64_t prompt,
                                     int64_t num_top) {
  std::vector<TokenText> tokens = stream.prompt_logprobs(prompt);
  for (TokenText& token : tokens) {
    if (static_cast<int64_t>(token.top.size()) > num_top)
      token.top.resize(static_cast<size_t>(num_top));
  }
  return tokens;
}

void write_ids(JsonWriter& out, std::span<const TokenId> ids) {
  out.begin_array();
  for (const TokenId id : ids) out.value(int64_t{id});
  out.end_array();
}

void write_ids(JsonWriter& out, std::span<const TokenText> tokens) {
  out.begin_array();
  for (const TokenText& token : tokens) out.value(int64_t{token.id});
  out.end_array();
}

}  // namespace tidemill
