// Today's LMI answers (serving-contract.md 5.10), and what they share with answers to chats (5.12).
// JSON is spaced as the original's Python writes it: ", " and ": ".
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "api/schema.h"
#include "api/token_pieces.h"

namespace tidemill {

inline constexpr std::string_view kJsonLinesType = "application/jsonlines";

// How records follow each other. json is one record at the end; the others stream, `none` (text
// alone) when `stream` says so.
enum class LmiFraming { kJson, kJsonLines, kSse, kNone };

std::string_view lmi_content_type(LmiFraming framing);
// One record of a stream.
std::string lmi_record(LmiFraming framing, std::string_view json);
// The record that ends a stream which broke; what was sent before stays readable.
std::string lmi_error_record(LmiFraming framing, const Error& error, const LmiOptions& options);
// Hands on each token of an event with the text that it stands for, and the ending beside the last;
// an ending without a token of its own comes alone (null).
template <typename Write>  // (const TokenPiece*, const Finish*)
void each_token(TokenPieces& pieces, const TextEvent& event, Write write) {
  const Finish* finish = event.finish ? &*event.finish : nullptr;
  const auto settled = pieces.push(event.text, event.tokens, finish != nullptr);
  for (size_t i = 0; i < settled.size(); ++i) {
    write(&settled[i], i + 1 == settled.size() ? finish : nullptr);
  }
  if (settled.empty() && finish != nullptr) write(nullptr, finish);
}
std::string_view lmi_finish(FinishReason reason);
// Compact JSON with a blank behind each comma and colon that stands outside its strings.
std::string spaced(std::string_view compact);

struct LmiShape {
  LmiFraming framing = LmiFraming::kJson;
  bool list = false;  // inputs was a list: so is the answer
  bool details = false;
  bool full_text = false;     // the prompt stands in front of generated_text
  bool prefill = false;       // the prompt's tokens stand in details
  bool top_tokens = false;    // and the best at each token's place
  int64_t num_sequences = 1;  // of a prompt; the best is the answer, the others stand in details
  bool skip_special_tokens = true;
  LmiOptions options;
};

std::unique_ptr<ResponseFormat> make_lmi_format(const LmiShape& shape);

}  // namespace tidemill
