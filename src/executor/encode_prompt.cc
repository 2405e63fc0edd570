#include "executor/encode_prompt.h"

#include <algorithm>

#include "base/check.h"

namespace tidemill {
namespace {

// A tokenizer may have been given tokens that the model was not.
Error beyond_vocabulary(const GenerationRequest& request, TokenId id, int32_t vocab_size) {
  return {.kind = ErrorKind::kInvalidParameter,
          .field = request.names().prompt,
          .message = format("the prompt holds token id {}, which the tokenizer knows and the model "
                            "does not: its ids go from 0 to {}. Leave that token out.",
                            id, vocab_size - 1)};
}

Result<EncodedPrompt> encode_whole(const GenerationRequest& request, const Prompt& prompt,
                                   const TextParts& text, int32_t vocab_size) {
  EncodedPrompt encoded;
  if (const auto* tokens = std::get_if<TokenPrompt>(&prompt)) {
    encoded.ids = tokens->ids;
    return encoded;
  }
  Result<std::vector<TokenId>> ids = std::vector<TokenId>();
  if (const auto* plain = std::get_if<TextPrompt>(&prompt)) {
    ids = text.tokenizer->encode(plain->text, {.add_special_tokens = plain->add_special_tokens});
    encoded.text = plain->text;
  } else {
    const auto& chat = std::get<ChatPrompt>(prompt);
    ids = text.chat_template->encode(*text.tokenizer, chat.messages, chat.options);
  }
  if (!ids) return ids.error();
  encoded.ids = std::move(*ids);
  for (const TokenId id : encoded.ids) {
    if (id >= vocab_size) return beyond_vocabulary(request, id, vocab_size);
  }
  // A template or a client that writes what the tokenizer adds, too.
  const auto& first = encoded.ids;
  if (text.begin_id && first.size() >= 2 && first[0] == *text.begin_id &&
      first[1] == *text.begin_id) {
    encoded.ids.erase(encoded.ids.begin());
  }
  return encoded;
}

}  // namespace

Result<EncodedPrompt> encode_prompt(const GenerationRequest& request, const Prompt& prompt,
                                    const TextParts& text, int32_t vocab_size) {
  Result<EncodedPrompt> encoded = encode_whole(request, prompt, text, vocab_size);
  const auto most = request.fields().truncate_prompt_tokens;
  if (!encoded || !most) return encoded;
  std::vector<TokenId>& ids = encoded->ids;
  const auto num_left_out = static_cast<int64_t>(ids.size()) - *most;
  if (num_left_out <= 0) return encoded;
  ids.erase(ids.begin(), ids.begin() + num_left_out);
  encoded->text.clear();  // it says more than is read
  return encoded;
}

Result<std::vector<std::vector<TokenId>>> encode_bad_words(const GenerationRequest& request,
                                                           const Tokenizer& tokenizer,
                                                           int32_t vocab_size) {
  std::vector<std::vector<TokenId>> sequences;
  for (const std::string& word : request.fields().bad_words) {
    const std::string bare = word.substr(std::min(word.find_first_not_of(' '), word.size()));
    for (const std::string& spelling : {bare, ' ' + bare}) {
      auto ids = tokenizer.encode(spelling, {.add_special_tokens = false});
      if (!ids) return ids.error();
      const bool can_come =
          std::all_of(ids->begin(), ids->end(), [=](TokenId id) { return id < vocab_size; });
      const bool known = std::find(sequences.begin(), sequences.end(), *ids) != sequences.end();
      if (!ids->empty() && can_come && !known) sequences.push_back(std::move(*ids));
    }
  }
  return sequences;
}

}  // namespace tidemill
