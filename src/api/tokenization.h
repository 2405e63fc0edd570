// POST /tokenize and /detokenize, GET /tokenizer_info (apis.md 13). The ids are those that the
// generation routes would use for the same text. Nothing is queued and nothing computed.
#pragma once

#include <string>
#include <vector>

#include "api/schema.h"
#include "executor/executor.h"

namespace tidemill {

struct TokenizationAnswer {
  std::string body;
  std::vector<std::string> ignored_fields;
};

Result<TokenizationAnswer> answer_tokenize(const JsonValue& body, const ModelFacts& facts,
                                           const Executor& executor);
Result<TokenizationAnswer> answer_detokenize(const JsonValue& body, const ModelFacts& facts,
                                             const Executor& executor);
std::string tokenizer_info_json(const ModelFacts& facts, const TextParts& text);

// Where a token stands in a text, in code points. A token that holds part of a character stands
// where that character does; one that the text does not spell has no width.
struct TokenPlace {
  int64_t start = 0;
  int64_t stop = 0;
  bool operator==(const TokenPlace&) const = default;
};
struct TokenSpelling {
  std::string bytes;
  bool special = false;
};
std::vector<TokenPlace> token_places(std::string_view text, std::span<const TokenSpelling> tokens);

}  // namespace tidemill
